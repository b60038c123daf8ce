"""Ratios and means over domains of (seeds, prompts), linearised to matrices with that mean.

Each function returns a matrix whose mean over prompts and seeds is the ratio, or the mean over
domains, and whose entries are a prompt's influence on it: `statistics` then gives it an interval as
it does any other mean, with the variation of every mean that it is made of.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .pivot import Array


def relative_loss(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on the same prompts: (S, P) values of that mean.

    With R the ratio of the means over seeds and prompts, the value of a seed and prompt is
    (1 - R) - (after - R before) / mean(before); it is NaN where either is, and everywhere if
    mean(before) is 0: there is no share of nothing.
    """
    mean = _mean_of_means(np.where(np.isnan(after), np.nan, before))
    if mean == 0:
        return np.full(before.shape, np.nan)
    ratio = _mean_of_means(np.where(np.isnan(before), np.nan, after)) / mean
    return (1 - ratio) - (after - ratio * before) / mean


def relative_loss_unpaired(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on other prompts: (S, P) and (S, Q) to (S, P + Q).

    A column is one prompt's part in the loss, weighted so that a seed's mean over all columns is
    the seed's loss; the spread of columns then carries the variation of both sets of prompts.
    """
    mean = _mean_of_means(before)
    ratio = _mean_of_means(after) / mean
    sets = [ratio * (before - mean) / mean, (ratio * mean - after) / mean]
    counts = [np.sum(~np.isnan(values), axis=1, keepdims=True) for values in sets]
    total = counts[0] + counts[1]
    weighted = [v * total / np.maximum(n, 1) for v, n in zip(sets, counts, strict=True)]
    return (1 - ratio) + np.hstack(weighted)


def _mean_of_means(values: Array) -> float:
    """Mean over seeds of the means over prompts, as `seed_mean` takes it."""
    return float(np.mean(np.nanmean(values, axis=1)))


def stratified_mean(values: Array, masks: Sequence[NDArray[np.bool_]]) -> Array:
    """Linearise a mean over domains of their means: (S, P) values whose plain mean is that one.

    `values` is (S, P), `masks` the prompts of each of D domains. With m_d the seed's mean of a
    domain of n_d prompts and m the mean of the m_d, prompt p of n becomes m + n / (D n_d) (v_p -
    m_d): the influence function of the stratified mean. So the mean over prompts is m to rounding,
    the prompts' variance is sum_d var_d / (D^2 n_d), without a part from how many prompts of each
    domain there happen to be, and differences of two such matrices are that of their
    differences. One domain comes back as it is. Prompts of no domain are left out, so the
    result is (S, n), and (S, 0) without masks.
    """
    if not masks:
        return values[:, :0]
    total = sum(int(mask.sum()) for mask in masks)
    means = [values[:, mask].mean(axis=1, keepdims=True) for mask in masks]
    mean = np.mean(means, axis=0)
    out = np.full(values.shape, np.nan)
    for mask, domain_mean in zip(masks, means, strict=True):
        weight = total / (len(masks) * mask.sum())
        out[:, mask] = mean + weight * (values[:, mask] - domain_mean)
    return np.asarray(out[:, np.any(masks, axis=0)])


def mean_of_sets(sets: Sequence[tuple[Array, Sequence[str]]], prompts: Sequence[str]) -> Array:
    """Linearise the mean of the means over several sets of prompts, which may overlap.

    Each set is values (S, P_k), nan where undefined, with the names of its prompts; `prompts`
    names all P. The result is (S, P): a prompt's entry is the seed's mean of means plus its own
    influence on it by every set that has it, so that groups with the same `prompts` are paired
    by prompt. Every seed needs a defined value in every set.
    """
    place = {name: i for i, name in enumerate(prompts)}
    means, out = [], np.zeros((len(sets[0][0]), len(prompts)))
    for values, names in sets:
        mean = np.nanmean(values, axis=1, keepdims=True)
        counts = np.sum(~np.isnan(values), axis=1, keepdims=True)
        influence = np.nan_to_num(values - mean) * len(prompts) / (len(sets) * counts)
        out[:, [place[name] for name in names]] += influence
        means.append(mean)
    return np.asarray(out + np.mean(means, axis=0))


def relative_change(values: Array, base: Array) -> Array:
    """Linearise the change of the mean from `base` (N,) to `values` (S, N), in percent.

    With m and b the means, the mean of a row is 100 (m / b - 1) to rounding; each entry adds its
    influence on that ratio, 100 (v - m / b v_base) / b, in which both means vary together over
    instructions. NaN if b is 0.
    """
    if base.mean() == 0:
        return np.full(values.shape, np.nan)
    ratio = values.mean(axis=1, keepdims=True) / base.mean()
    return np.asarray(100 * (ratio - 1 + (values - ratio * base) / base.mean()))


def partial_correlation(x_y: Array, x_z: Array, y_z: Array) -> Array:
    """Linearise Kendall's partial correlation of x and y given z, of mean taus: (P,) values.

    The arguments are taus of each prompt (P,), NaN where undefined; with a, b, c their means over
    the prompts where all three are defined, the correlation is (a - b c) / sqrt((1 - b^2)(1 - c^2))
    (Kendall 1942, Biometrika 32). Each entry adds its influence by every mean. NaN elsewhere, and
    everywhere if x or y follows z exactly: nothing is left then.
    """
    taus = np.stack([x_y, x_z, y_z])
    defined = ~np.isnan(taus).any(axis=0)
    a, b, c = taus[:, defined].mean(axis=1) if defined.any() else (np.nan,) * 3
    left = np.sqrt((1 - b * b) * (1 - c * c))
    if not left > 1e-12:
        return np.full(len(x_y), np.nan)
    value = (a - b * c) / left
    slopes = np.array(
        [1 / left, value * b / (1 - b * b) - c / left, value * c / (1 - c * c) - b / left]
    )
    return np.asarray(value + slopes @ (taus - np.array([[a], [b], [c]])))
