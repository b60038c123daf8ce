"""AlpacaEval win rates by instruction, and the files that they are computed from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import InputError
from ...experiment.paths import location
from ...frames import read_frame
from ...pivot import Array

METHODS = ("sft", "rloo-bt", "rloo-bt-bsr")


def wins(preferences: pd.Series) -> Array:
    """Compute each instruction's contribution (N,) to the win rate in percent: P(policy is better).

    Preferences are in [1, 2]. The mean is the package's `win_rate`, std / sqrt(N) its
    `standard_error`.
    """
    return 100 * (np.asarray(preferences, np.float64) - 1)


def answer_files(runs: Path, judged_run: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Files with the answers of each method, one for each seed; SFT has one."""
    policy_names = {
        method: f"{judged_run['run']}-{method.removeprefix('rloo-')}" for method in METHODS[1:]
    }
    return {"sft": [runs / location("answers", policy="sft", seed=0)]} | {
        method: [
            runs / location("answers", policy=policy, seed=seed) for seed in judged_run["seeds"]
        ]
        for method, policy in policy_names.items()
    }


def read_answers(files: Mapping[str, list[Path]]) -> dict[str, list[pd.DataFrame]]:
    """Read every method's answers, a frame a seed, to the same instructions (raises InputError)."""
    answers = {
        method: [read_frame(path, ["example_id", "response", "finished"]) for path in paths]
        for method, paths in files.items()
    }
    first = answers["sft"][0]["example_id"].tolist()
    for method, frames in answers.items():
        for path, frame in zip(files[method], frames, strict=True):
            if frame["example_id"].tolist() != first:
                raise InputError(
                    path,
                    "answers to other instructions, or in another order",
                    f"those of {files['sft'][0]}",
                    "generate the policy's answers again",
                )
    return answers


def annotations_for(
    annotations: pd.DataFrame, file: Path, answers: pd.DataFrame, path: Path
) -> pd.DataFrame:
    """Select the annotations of the answers in `file`, in the order of the instructions.

    Raises `InputError` for `path`, the file of annotations, if they are of other answers.
    """
    policy, seed = file.parent.name, int(file.stem.removeprefix("seed-"))
    selected = annotations[(annotations["policy"] == policy) & (annotations["seed"] == seed)]
    selected = selected.sort_values("row")
    same = (
        selected["example_id"].tolist() == answers["example_id"].tolist()
        and selected["output_2"].tolist() == answers["response"].tolist()
    )
    if not same:
        found = f"{len(selected)} annotations of {policy}, seed {seed}, not of these answers"
        raise InputError(path, found, f"one for each answer in {file}", "run the judge again")
    return selected
