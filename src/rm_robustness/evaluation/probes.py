"""Evaluations on held-out pairs during the training of reward models."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..experiment.grid import BT
from ..experiment.paths import location
from ..frames import read_frame


def read_probes(runs: Path, backbone: str, seeds: Sequence[int]) -> pd.DataFrame:
    """Read the Bradley-Terry probes of all seeds of a backbone, with a column `seed`.

    Raises `InputError` unless every seed was evaluated on the same pairs at the same steps.
    """
    frames: list[pd.DataFrame] = []
    columns = ["step", "epoch", "prompt_id", "difference_norm", "weight_norm"]
    for seed in seeds:
        path = runs / location("probes", backbone=backbone, objective=BT, seed=seed)
        frame = read_frame(path, columns)[columns].sort_values("step", kind="stable")
        frame = frame.reset_index(drop=True).assign(seed=seed)
        same = ["step", "prompt_id"]
        if frame.empty or (frames and not frame[same].equals(frames[0][same])):
            found = f"{len(frame)} probes of other steps or pairs than seed {seeds[0]}'s"
            raise InputError(path, found, "the same steps and pairs", "train the seeds alike")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
