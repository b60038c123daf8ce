"""Effective rank of the hidden states of a reward model (paper, table 1; D43, D45)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics import effective_rank
from ..models import chat
from ..models.scoring import score_ids


def hidden_states(
    model: Any, tokenizer: Any, frame: pd.DataFrame, batch_tokens: int, label: str | None = None
) -> NDArray[np.float32]:
    """Compute the hidden states (N, H) of a frame's responses that the reward head reads (D45).

    `frame` has N rows with prompt and response. Raises `InputError` when one exceeds the context.
    """
    sequences = chat.frame_ids(tokenizer, frame)
    hidden: NDArray[np.float32] = score_ids(model, sequences, batch_tokens, label).hidden
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
    model: Any,
    tokenizer: Any,
    sets: dict[str, pd.DataFrame],
    sizes: Sequence[int],
    seed: int,
    batch_tokens: int,
    label: str,
) -> pd.DataFrame:
    """Measure the effective ranks of a reward model: set, n, effective_rank.

    `sets` are frames with prompt and response, by name. Sizes are capped at the smallest set's
    number of rows, so that all sets are measured at the same ones. Only as many rows as the largest
    size are scored, drawn by `seed`, the same for every model. Raises `InputError` for a response
    that exceeds the context.
    """
    sizes = [min(size, *map(len, sets.values())) for size in sizes]
    parts = []
    for name, frame in sets.items():
        drawn = frame.sample(max(sizes), random_state=seed)
        hidden = hidden_states(model, tokenizer, drawn, batch_tokens, f"{label} {name}")
        parts.append(rank_curve(hidden, sizes, seed).assign(set=name))
    return pd.concat(parts)[["set", "n", "effective_rank"]]
