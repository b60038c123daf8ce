"""AlpacaEval win rates: the answers of each method, the judge's annotations of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import InputError
from ...experiment.paths import location
from ...frames import read_frame
from ...statistics import Array

METHODS = ("sft", "rloo-bt", "rloo-bt-bsr")


def wins(preferences: pd.Series) -> Array:
    """Give each instruction (N,) its part of the win rate in percent: P(policy is better).

    Preferences are in [1, 2]. The mean is the package's `win_rate`, the standard deviation over
    the root of N its `standard_error`.
    """
    return 100 * (np.asarray(preferences, np.float64) - 1)


def files_of(runs: Path, about: Mapping[str, Any]) -> dict[str, list[Path]]:
    """List the answers of each method, a file a seed; SFT has one."""
    named = {method: f"{about['run']}-{method.removeprefix('rloo-')}" for method in METHODS[1:]}
    return {"sft": [runs / location("answers", policy="sft", seed=0)]} | {
        method: [runs / location("answers", policy=policy, seed=seed) for seed in about["seeds"]]
        for method, policy in named.items()
    }


def read_answers(files: Mapping[str, list[Path]]) -> dict[str, list[pd.DataFrame]]:
    """Read every method's answers, a frame a seed; all must be to the instructions of the first."""
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
                    "let the policy answer again",
                )
    return answers


def annotations_of(
    annotations: pd.DataFrame, file: Path, answers: pd.DataFrame, path: Path
) -> pd.DataFrame:
    """Pick the annotations of the answers in `file`, in the order of the instructions.

    Raises `InputError`, naming the annotations' file `path`, when they are of other answers.
    """
    policy, seed = file.parent.name, int(file.stem.removeprefix("seed-"))
    own = annotations[(annotations["policy"] == policy) & (annotations["seed"] == seed)]
    own = own.sort_values("row")
    same = (
        own["example_id"].tolist() == answers["example_id"].tolist()
        and own["output_2"].tolist() == answers["response"].tolist()
    )
    if not same:
        found = f"{len(own)} annotations of {policy}, seed {seed}, not of these answers"
        raise InputError(
            path, found, f"one for each answer in {file}", "let the judge compare again"
        )
    return own
