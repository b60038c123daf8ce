"""The authors' published splits (rm-robustness/ultrafeedback-...) in this project's columns."""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import InputError
from ..experiment.config import Settings
from ..files import read_json
from ..frames import read_frame
from . import hub_datasets as hub
from .splits import COLUMNS, counts, normalise


def read_released_splits(manifests: list[Path]) -> tuple[dict[str, pd.DataFrame], Settings]:
    """Read the downloaded splits, each in the folder `model` beside SPLIT/manifest.json.

    Also returns facts for the manifest of the splits: repositories and commits, counts, and how
    many prompts of each split are prompts of the train split too.
    """
    frames = {
        path.parent.name: split(path.parent / "model", path.parent.name) for path in manifests
    }
    origins = {path.parent.name: read_json(path) for path in manifests}
    prompts = {name: set(frame["prompt"].map(normalise)) for name, frame in frames.items()}
    facts = {
        "released": {
            name: {"repo": origin["init"]["repo"], "commit": origin["resolved"]}
            for name, origin in origins.items()
        },
        "counts": counts(frames),
        "prompts_of_train": {
            name: len(texts & prompts["train"]) for name, texts in prompts.items()
        },
    }
    return frames, facts


def split(folder: Path, name: str) -> pd.DataFrame:
    """Read one downloaded split into a row per prompt and response.

    `train` and `in_domain` are pairs of conversations (columns chosen, rejected), whose gold is 1
    and 0; the others have a prompt, four responses and their gold per row (instruction,
    response_1_text to response_4_text, all_scores). The response models are not published: the
    column response_model has the place of the response. Raises InputError for anything else.
    """
    files = sorted(folder.rglob("train*.parquet"))
    if not files:
        raise InputError(folder, "no parquet file of the split `train`", "one or more")
    paired = name in ("train", "in_domain")
    texts = [f"response_{number}_text" for number in range(1, 5)]
    columns = ["chosen", "rejected"] if paired else ["instruction", *texts, "all_scores"]
    frame = pd.concat([read_frame(path, columns)[columns] for path in files], ignore_index=True)
    if paired:
        sides = (dict(zip(columns, map(list, row), strict=True)) for row in frame.to_numpy())
        return hub.pairs_as_split(hub.conversations(sides, str(folder), columns), str(folder))
    return _fours(frame, str(folder))


def _fours(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Turn rows of a prompt, four responses and their gold into a split's rows.

    A prompt with an empty response is left out, because an empty response cannot be scored.
    """
    rows: list[tuple[str, str, str, str, str, float]] = []
    for number, (prompt, *responses, scores) in enumerate(frame.itertuples(index=False)):
        if not all(isinstance(text, str) for text in (prompt, *responses)):
            problem = "a prompt or response that is no text"
            raise InputError(f"{where} row {number}", problem, "texts")
        if np.shape(scores) != (4,) or not all(map(math.isfinite, scores)):
            problem = f"all_scores {scores!r:.60}"
            raise InputError(f"{where} row {number}", problem, "four finite numbers")
        if all(text.strip() for text in responses):
            rows += [
                (str(number), f"{number}-{n}", prompt, text, f"response_{n}", float(score))
                for n, (text, score) in enumerate(zip(responses, scores, strict=True), 1)
            ]
    left_out = len(frame) - len(rows) // 4
    print(f"{where}: {len(rows) // 4} prompts, {left_out} left out (no text)", file=sys.stderr)
    return pd.DataFrame(rows, columns=COLUMNS)
