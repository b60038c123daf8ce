"""Means over seeds with intervals, paired differences, and Holm's correction.

Everything works on matrices of shape (S seeds, P prompts), where nan means "undefined". Seeds and
prompts are both samples, and every seed sees the same prompts, so both are resampled, crossed.
Four seeds are too few for a plain bootstrap, which would take four draws for the population: the
seed deviations are rescaled, and the interval is widened by Student's t. The two resamplings add up
without their interaction: together they count the noise of single entries, of variance v / (S P),
twice already, and the interaction would count it a third time. Intervals therefore err on the wide
side, by a factor of sqrt 2 at most, where such noise is all there is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .errors import InputError

Array = NDArray[np.float64]
CHUNK = 1_000_000  # resampled prompts in memory: 8 MB of draws, 8 MB of counts


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its interval [low, high], and the two-sided p-value of "the mean is 0".

    `n_seeds` and `n_prompts` count those with at least one defined value. All four numbers are nan
    when nothing is defined; a single value has no interval and no p-value, which are then nan.
    """

    value: float
    low: float
    high: float
    p_value: float
    n_seeds: int
    n_prompts: int


def _matrix(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise InputError(name, f"shape {array.shape}", "a matrix of (seeds, prompts)")
    infinite = np.argwhere(np.isinf(array))
    if len(infinite):
        seed, prompt = infinite[0]
        where = f"{name}, row (seed) {seed}, column (prompt) {prompt}"
        raise InputError(where, f"{array[seed, prompt]}", "a finite number, or nan for undefined")
    return array


def seed_mean(
    values: ArrayLike, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Estimate the mean over seeds of the seeds' means over prompts, by a crossed bootstrap.

    `values` is (S, P), nan where undefined. Seeds and prompts are resampled with replacement; the
    deviations are rescaled by sqrt(n / (n - 1)), and the percentile interval is widened about the
    value by t / z, with Satterthwaite's degrees of freedom from the seeds' and the prompts' part of
    the variance. The p-value uses the same t with the bootstrap's standard error. One seed (or one
    prompt) leaves the variation of prompts (of seeds) alone. Equal values have an interval of no
    width, and p = 1 if they are 0, else 0. Deterministic given `seed`. Raises `InputError` on
    another shape and on infinity, naming the row.
    """
    array = _matrix("values", values)
    defined = ~np.isnan(array)
    array = array[np.ix_(defined.any(axis=1), defined.any(axis=0))]
    n_seeds, n_prompts = array.shape
    if not array.size:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0)
    # Means about one of the values: equal values then have exactly their own value as mean.
    pivot = float(array[0, np.flatnonzero(~np.isnan(array[0]))[0]])
    means = pivot + np.nanmean(array - pivot, axis=1)
    value = pivot + float(np.mean(means - pivot))
    if array.size == 1:
        return Estimate(value, np.nan, np.nan, np.nan, 1, 1)

    rng = np.random.default_rng(seed)
    by_prompt = _prompt_deviations(array - means[:, None], rng, resamples)
    by_seed = _seed_deviations(means - value, rng, resamples)
    deviations = by_prompt + by_seed
    error = float(np.sqrt(np.mean(deviations**2)))
    if error == 0.0:
        return Estimate(value, value, value, float(value == 0.0), n_seeds, n_prompts)
    seed_variance = float(np.var(means, ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    df = _satterthwaite((seed_variance, n_seeds - 1), (float(np.mean(by_prompt**2)), n_prompts - 1))
    upper = (1 + level) / 2
    widening = float(stats.t.ppf(upper, df) / stats.norm.ppf(upper))
    low, high = value + widening * np.quantile(deviations, [1 - upper, upper])
    p_value = 2 * float(stats.t.sf(abs(value) / error, df))
    return Estimate(value, float(low), float(high), p_value, n_seeds, n_prompts)


def _counts(rng: np.random.Generator, n: int, resamples: int) -> Iterator[tuple[slice, Array]]:
    """Draw n of n with replacement, `resamples` times: counts (rows, n), a slice of rows a time."""
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = rng.integers(n, size=(rows, n))
        draws += n * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
        yield slice(start, start + rows), counts.astype(np.float64)


def _rescaled(n: int) -> float:
    return float(np.sqrt(n / (n - 1))) if n > 1 else 0.0


def _seed_deviations(effects: Array, rng: np.random.Generator, resamples: int) -> Array:
    """Deviations (resamples,) of the mean of `effects` (S,), which sum to 0, over drawn seeds."""
    out = np.empty(resamples)
    for rows, counts in _counts(rng, len(effects), resamples):
        out[rows] = np.einsum("rs,s->r", counts, effects) / len(effects)
    return _rescaled(len(effects)) * out


def _prompt_deviations(effects: Array, rng: np.random.Generator, resamples: int) -> Array:
    """Deviations (resamples,) of the seeds' mean as prompts are redrawn, the same for every seed.

    `effects` (S, P) are the values less their seed's mean; an undefined one weighs nothing.
    """
    defined = ~np.isnan(effects)
    stacked = np.concatenate([np.where(defined, effects, 0.0), defined])
    out = np.empty(resamples)
    for rows, counts in _counts(rng, effects.shape[1], resamples):
        # Not `@`: the last bits of a BLAS product depend on the number of threads.
        sums, weights = np.hsplit(np.einsum("rp,kp->rk", counts, stacked), 2)
        # A resample may miss every defined prompt of a seed: its deviation is then 0 / 1.
        out[rows] = np.mean(sums / np.maximum(weights, 1.0), axis=1)
    return _rescaled(effects.shape[1]) * out


def _satterthwaite(*parts: tuple[float, int]) -> float:
    """Degrees of freedom of a sum of independent variances, each (variance, its own degrees)."""
    total = sum(variance for variance, _ in parts)
    scale = sum(variance**2 / df for variance, df in parts if df > 0)
    return total**2 / scale


def paired_difference(
    values: ArrayLike, reference: ArrayLike, seed: int = 0, resamples: int = 2000
) -> Estimate:
    """Estimate the mean of values - reference on the same seeds and prompts, as `seed_mean` does.

    Both are (S, P); an entry counts where both are defined. Raises `InputError` on unequal shapes.
    """
    a, b = _matrix("values", values), _matrix("reference", reference)
    if a.shape != b.shape:
        raise InputError(
            "values and reference",
            f"shapes {a.shape} and {b.shape}",
            "the same seeds and prompts",
            "join the scores by seed and prompt_id first",
        )
    return seed_mean(a - b, seed, resamples)


def holm(p_values: ArrayLike) -> Array:
    """Adjust p-values (m,) for m comparisons by Holm's step-down method; nan passes through.

    A nan is a comparison that was not made, and does not count in m. Raises `InputError` on a
    p-value outside [0, 1], naming its row.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise InputError("p-values", f"shape {p.shape}", "one dimension")
    outside = np.flatnonzero((p < 0) | (p > 1))
    if len(outside):
        row = outside[0]
        raise InputError(f"p-values, row {row}", f"{p[row]}", "a number in [0, 1] or nan")
    adjusted = p.copy()
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # argsort puts nan last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return adjusted


def relative_loss(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on the same prompts: (S, P) values of that mean.

    With R the ratio of the means over seeds and prompts, the value of a seed and prompt is
    (1 - R) - (after - R before) / mean(before); it is NaN where either is.
    """
    mean = _mean_of_means(np.where(np.isnan(after), np.nan, before))
    ratio = _mean_of_means(np.where(np.isnan(before), np.nan, after)) / mean
    return (1 - ratio) - (after - ratio * before) / mean


def relative_loss_unpaired(before: Array, after: Array) -> Array:
    """Linearise 1 - mean(after) / mean(before) on other prompts: (S, P) and (S, Q) to (S, P + Q).

    A column is one prompt's part in the loss, weighted so that a seed's mean over all columns is
    the seed's loss; redrawing columns then carries the variation of both sets of prompts.
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
    a bootstrap over prompts has the variance sum_d var_d / (D^2 n_d) without a part from how many
    prompts of each domain it happens to draw, and differences of two such matrices are that of
    their differences. One domain comes back as it is. Prompts of no domain are left out, so the
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


def relative_change(values: Array, base: Array) -> Array:
    """Linearise the change of the mean from `base` (N,) to `values` (S, N), in percent.

    With m and b the means, the mean of a row is 100 (m / b - 1) to rounding; each entry adds its
    influence on that ratio, 100 (v - m / b v_base) / b, so that a bootstrap over instructions
    moves both means together.
    """
    ratio = values.mean(axis=1, keepdims=True) / base.mean()
    return np.asarray(100 * (ratio - 1 + (values - ratio * base) / base.mean()))
