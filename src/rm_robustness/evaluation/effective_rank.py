"""Effective rank of the hidden states of a reward model (paper, table 1; D43, D45)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics import effective_rank


def drawn_rows(
    sets: dict[str, pd.DataFrame], sizes: Sequence[int], seed: int
) -> dict[str, pd.DataFrame]:
    """The rows of each set that effective ranks are measured on, drawn by `seed` alone.

    As many as the largest size, or as the smallest set has, so that all sets have equally many.
    """
    count = min(max(sizes), *map(len, sets.values()))
    return {name: frame.sample(count, random_state=seed) for name, frame in sets.items()}


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
