"""Metrics of reward models: pairwise accuracy, Kendall's tau and effective rank."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError


def _finite(name: str, values: ArrayLike, ndim: int) -> NDArray[np.float64]:
    """Read an array of `ndim` dimensions, refusing NaN and infinity by the number of the row."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        raise InputError(name, f"shape {array.shape}", f"{ndim} dimension{'s' * (ndim > 1)}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = tuple(bad[0])
        raise InputError(
            f"{name}, row {at[0]}", f"{array[at]}", "a finite number", "score that row again"
        )
    return array


def _two(
    names: tuple[str, str], first: ArrayLike, second: ArrayLike, ndim: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _finite(names[0], first, ndim), _finite(names[1], second, ndim)
    if a.shape != b.shape:
        raise InputError(
            " and ".join(names), f"shapes {a.shape} and {b.shape}", "one shape", "join them by id"
        )
    return a, b


def pairwise_accuracy(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Share of pairs whose chosen response has strictly the higher reward; a tie is wrong (D40).

    `chosen` and `rejected` are (P,) rewards. Raises `InputError` on unequal shapes, on no pairs and
    on a reward that is not finite, naming its row.
    """
    correct = correct_pairs(chosen, rejected)
    if not len(correct):
        raise InputError("chosen and rejected", "no pairs", "at least one")
    return float(np.mean(correct))


def correct_pairs(chosen: ArrayLike, rejected: ArrayLike) -> NDArray[np.float64]:
    """Mark each pair (P,) with 1 where the chosen response has strictly the higher reward, else 0.

    Their mean is `pairwise_accuracy`; errors are the same, except that no pairs give no marks.
    """
    a, b = _two(("chosen", "rejected"), chosen, rejected, 1)
    return np.asarray(a > b, np.float64)


def count_ties(chosen: ArrayLike, rejected: ArrayLike) -> int:
    """Count the pairs of two equal rewards, which `pairwise_accuracy` counts as wrong (D40).

    `chosen` and `rejected` are (P,) rewards; errors are those of `pairwise_accuracy`, except that
    no pairs have no ties.
    """
    a, b = _two(("chosen", "rejected"), chosen, rejected, 1)
    return int(np.sum(a == b))


def _order(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Compare every two of a row's n entries: (P, n) to (P, n(n-1)/2) of -1, 0 and 1."""
    i, j = np.triu_indices(values.shape[1], k=1)
    first, second = values[:, i], values[:, j]
    return (first > second).astype(np.int8) - (first < second).astype(np.int8)


def kendall_tau_per_prompt(rewards: ArrayLike, gold: ArrayLike) -> NDArray[np.float64]:
    """Kendall's tau-b of each prompt's n responses, as scipy's `kendalltau` defines it (D39).

    `rewards` and `gold` are (P, n), or (n,) for one prompt; the result is (P,), and nan where tau
    is undefined because a prompt's rewards, or its gold, are all tied. Time and memory grow with
    P n^2: meant for the paper's four responses. Raises `InputError` on unequal shapes and on a
    value that is not finite, naming its row.
    """
    ndim = 1 if np.ndim(rewards) == 1 else 2
    a, b = _two(("rewards", "gold"), rewards, gold, ndim)
    x, y = _order(np.atleast_2d(a)), _order(np.atleast_2d(b))
    agreement = np.sum(x * y, axis=1, dtype=np.float64)
    untied = np.count_nonzero(x, axis=1) * np.count_nonzero(y, axis=1)
    tau = np.full(len(x), np.nan)
    np.divide(agreement, np.sqrt(untied), out=tau, where=untied > 0)
    return tau


def kendall_tau(rewards: ArrayLike, gold: ArrayLike) -> float:
    """Mean over prompts of Kendall's tau-b, leaving out the prompts where it is undefined (D39).

    `rewards` and `gold` are (P, n), or (n,) for one prompt; nan when no prompt's tau is defined.
    This is the release's `nanmean`; count the nan of `kendall_tau_per_prompt` to report what it
    drops. Errors are those of `kendall_tau_per_prompt`.
    """
    tau = kendall_tau_per_prompt(rewards, gold)
    defined = tau[~np.isnan(tau)]
    return float(defined.mean()) if len(defined) else float("nan")


def effective_rank(matrix: ArrayLike) -> float:
    """Effective rank exp(-sum p_i ln p_i), p_i = s_i / sum s, over singular values s_i (D43).

    `matrix` is (N, H), a hidden state a row, not centred (paper, table 1; Roy & Vetterli 2007). The
    result lies between 1 and min(N, H), so two sets are comparable only at one N. Raises
    `InputError` on a value that is not finite, naming its row, and on a matrix of zeros alone.
    """
    array = _finite("matrix", matrix, 2)
    if not array.any():
        raise InputError("matrix", f"only zeros, shape {array.shape}", "a nonzero entry")
    # Scaled to a largest entry of 1, so that no sum of squares under- or overflows.
    singular = np.linalg.svd(array / np.abs(array).max(), compute_uv=False)
    p = singular[singular > 0] / singular.sum()
    return cast(float, np.exp(-np.sum(p * np.log(p))).item())
