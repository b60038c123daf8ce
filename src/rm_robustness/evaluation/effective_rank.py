"""Effective rank of the hidden states of a reward model (paper, table 1; D43, D45)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..frames import read_frame, write_frame
from ..metrics import effective_rank
from ..models import chat, reward_model
from ..models.scoring import score_ids


def hidden_states(
    model: Any, tokenizer: Any, frame: pd.DataFrame, batch_tokens: int, label: str | None = None
) -> NDArray[np.float32]:
    """Compute the hidden states (N, H) of a frame's responses that the reward head reads (D45).

    `frame` has N rows with prompt and response. Raises `InputError` when one exceeds the context.
    """
    sequences = chat.frame_ids(tokenizer, frame)
    hidden: NDArray[np.float32] = score_ids(
        model, sequences, batch_tokens, list(frame["prompt"]), label
    ).hidden
    return hidden


def rank_curve(hidden: NDArray[Any], sizes: Sequence[int], seed: int) -> pd.DataFrame:
    """Compute the effective rank of random subsets of hidden states (N, H).

    Returns columns n and effective_rank. The subsets are nested: the first n rows of one
    permutation drawn by `seed`; sizes above N become N. Raises the errors of
    `metrics.effective_rank`.
    """
    order = np.random.default_rng(seed).permutation(len(hidden))
    counts = sorted({min(size, len(hidden)) for size in sizes})
    ranks = [effective_rank(hidden[order[:n]]) for n in counts]
    return pd.DataFrame({"n": counts, "effective_rank": ranks})


def measure_ranks(
    folder: Path,
    train: Path,
    rm_bench: Path,
    sizes: Sequence[int],
    seed: int,
    batch_tokens: int,
    output: Path,
) -> None:
    """Write the effective ranks of a reward model: set (train, rm_bench), n, effective_rank.

    `train` and `rm_bench` are parquet files with prompt and response. Sizes are capped at the
    smaller set's number of rows, so that both sets are measured at the same ones. Only as many rows
    as the largest size are scored, drawn by `seed`, the same for every model. Raises `InputError`
    for an unreadable file or model and for a response that exceeds the context.
    """
    columns = ["prompt", "response"]
    frames = {"train": read_frame(train, columns), "rm_bench": read_frame(rm_bench, columns)}
    sizes = [min(size, *map(len, frames.values())) for size in sizes]
    drawn = {name: frame.sample(max(sizes), random_state=seed) for name, frame in frames.items()}
    model, tokenizer = reward_model.load(folder)
    parts = []
    for name, frame in drawn.items():
        hidden = hidden_states(model, tokenizer, frame, batch_tokens, f"{folder}: {name}")
        parts.append(rank_curve(hidden, sizes, seed).assign(set=name))
    write_frame(pd.concat(parts)[["set", "n", "effective_rank"]], output)
