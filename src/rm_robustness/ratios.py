"""Ratios of means, linearised: values by seed and prompt whose mean is the ratio's.

`statistics.seed_mean` resamples them like any other values, and with them both means at once.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def relative_loss(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on the same prompts: (S, P) values of that mean.

    With R the ratio of the means over seeds and prompts, the value of a seed and prompt is
    (1 - R) - (after - R before) / mean(before); it is NaN where either is.
    """
    mean = _mean(np.where(np.isnan(after), np.nan, before))
    ratio = _mean(np.where(np.isnan(before), np.nan, after)) / mean
    return (1 - ratio) - (after - ratio * before) / mean


def relative_loss_unpaired(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on other prompts: (S, P) and (S, Q) to (S, P + Q).

    A column is one prompt's part in the loss, weighted so that a seed's mean over all columns is
    the seed's loss; redrawing columns then carries the variation of both sets of prompts.
    """
    mean = _mean(before)
    ratio = _mean(after) / mean
    sets = [ratio * (before - mean) / mean, (ratio * mean - after) / mean]
    counts = [np.sum(~np.isnan(values), axis=1, keepdims=True) for values in sets]
    total = counts[0] + counts[1]
    weighted = [v * total / np.maximum(n, 1) for v, n in zip(sets, counts, strict=True)]
    return (1 - ratio) + np.hstack(weighted)


def _mean(values: Array) -> float:
    """Mean over seeds of the means over prompts, as `statistics.seed_mean` takes it."""
    return float(np.mean(np.nanmean(values, axis=1)))
