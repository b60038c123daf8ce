"""Means over seeds and prompts with intervals, paired differences, and many comparisons at once.

Everything works on matrices of shape (S seeds, P prompts), where nan means "undefined". Seeds and
prompts are both samples, and every seed sees the same prompts. `pivot` has the distribution that
interval and p-value are read from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .errors import InputError
from .pivot import Array, Spread

NO_SPREAD = Spread(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its interval [low, high], and the two-sided p-value of "the mean is 0".

    `n_seeds` and `n_prompts` count those with at least one defined value. All four numbers are nan
    when nothing is defined; a single value has no interval and no p-value, which are then nan.
    `spread` is what they follow from.
    """

    value: float
    low: float
    high: float
    p_value: float
    n_seeds: int
    n_prompts: int
    spread: Spread = field(default=NO_SPREAD, compare=False, repr=False)

    def p_of(self, expectation: float) -> float:
        """Two-sided p-value of "the mean is `expectation`"; nan without an interval."""
        if np.isnan(self.low):
            return np.nan
        return self.spread.p_value(self.value - expectation)

    def smallest_found(self) -> float:
        """Smallest true difference that this design finds with 80% at 5%; nan where it has none."""
        return np.nan if np.isnan(self.low) else self.spread.smallest_found()

    def components(self) -> dict[str, float]:
        """Standard deviations of a seed, of a prompt and of a single entry, each net of the others.

        nan where one seed or one prompt leaves nothing to estimate it from.
        """
        s, seeds, prompts = self.spread, self.n_seeds, self.n_prompts
        parts = {
            "seed_sd": (seeds * (s.seeds - s.noise), seeds > 1),
            "prompt_sd": (prompts * (s.prompts - s.noise), prompts > 1),
            "noise_sd": (seeds * prompts * s.noise, min(seeds, prompts) > 1),
        }
        return {
            name: float(np.sqrt(max(variance, 0.0))) if known else np.nan
            for name, (variance, known) in parts.items()
        }


NO_ESTIMATE = Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0)


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


def seed_mean(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Estimate the mean over seeds of the seeds' means over prompts.

    `values` is (S, P), nan where undefined. Interval and p-value are those of `pivot`, about V_s
    from the seeds' means, V_p from the prompts' means and V_e from what neither explains. One seed
    (or one prompt) leaves the variation of prompts (of seeds) alone, and with it Student's test.
    Equal values have an interval of no width, and p = 1 if they are 0, else 0. Raises `InputError`
    on another shape and on infinity, naming the row.
    """
    return contrast([values], [1.0], level)


def paired_difference(values: ArrayLike, reference: ArrayLike) -> Estimate:
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
    return seed_mean(a - b)


def contrast(
    groups: Sequence[ArrayLike], weights: Sequence[float], level: float = 0.95
) -> Estimate:
    """Estimate the sum of weight x mean over groups with seeds of their own and the same prompts.

    Each group is (S_g, P), nan where undefined: two backbones, or one checkpoint and the seeds of
    another model. Prompts are paired, seeds are not: the seeds' variances add up, with the degrees
    of freedom of `_sum_degrees`. nan where a group has no defined value; errors as in `seed_mean`.
    """
    arrays = [_matrix("values", group) for group in groups]
    if len({array.shape[1] for array in arrays}) > 1:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise InputError("values", f"shapes {shapes}", "the same prompts in every group")
    defined = [~np.isnan(array) for array in arrays]
    if not all(mask.any() for mask in defined):
        return NO_ESTIMATE
    arrays = [array[mask.any(axis=1)] for array, mask in zip(arrays, defined, strict=True)]
    parts = [_Part.of(array) for array in arrays]
    value = sum(weight * part.mean for weight, part in zip(weights, parts, strict=True))
    n_seeds = min(len(array) for array in arrays)
    n_prompts = int(np.any([mask.any(axis=0) for mask in defined], axis=0).sum())
    if max(len(array) for array in arrays) == n_prompts == 1:
        return Estimate(value, np.nan, np.nan, np.nan, 1, 1)
    by_seed = [weight**2 * part.seeds for weight, part in zip(weights, parts, strict=True)]
    degrees = [len(array) - 1 for array in arrays]
    influence = sum(weight * part.influence for weight, part in zip(weights, parts, strict=True))
    spread = Spread(
        seeds=sum(by_seed),
        prompts=float(np.sum(influence**2)) * n_prompts / (n_prompts - 1) if n_prompts > 1 else 0.0,
        noise=sum(weight**2 * part.noise for weight, part in zip(weights, parts, strict=True)),
        seeds_df=float(_sum_degrees(by_seed, degrees)),
        prompts_df=float(n_prompts - 1),
    )
    return respread(Estimate(value, value, value, 1.0, n_seeds, n_prompts), spread, level)


def respread(estimate: Estimate, spread: Spread, level: float = 0.95) -> Estimate:
    """The estimate with another spread, and the interval and p-value that follow from it."""
    value, width = estimate.value, spread.half_width(1 - level)
    low, high, p = value - width, value + width, spread.p_value(value)
    return replace(estimate, low=low, high=high, p_value=p, spread=spread)


@dataclass(frozen=True)
class _Part:
    """Mean of one group, variances of it by seeds and by noise, and each prompt's influence."""

    mean: float
    seeds: float
    noise: float
    influence: Array

    @classmethod
    def of(cls, array: Array) -> "_Part":
        """`array` is (S, P), every row with a defined value."""
        defined = ~np.isnan(array)
        n_seeds, counts = len(array), defined.sum(axis=1)
        # Means about one of the values: equal values then have exactly their own value as mean.
        origin = float(array[defined][0])
        means = origin + np.nanmean(array - origin, axis=1)
        mean = origin + float(np.mean(means - origin))
        centred = np.where(defined, array - means[:, None], 0.0)
        influence = (centred / counts[:, None]).sum(axis=0) / n_seeds
        if n_seeds == 1:
            return cls(mean, 0.0, 0.0, influence)
        seeds = float(np.sum((means - mean) ** 2)) / (n_seeds - 1) / n_seeds
        # The noise is what is left without the seeds' means and the prompts'.
        listed = defined.sum(axis=0)
        residuals = np.where(defined, centred - centred.sum(axis=0) / np.maximum(listed, 1), 0.0)
        degrees = int(defined.sum() - (listed > 0).sum() - n_seeds + 1)
        entry = float(np.sum(residuals**2)) / degrees if degrees > 0 else 0.0
        noise = entry * float(np.sum(1 / counts)) / n_seeds**2
        return cls(mean, seeds, noise, influence)


def _sum_degrees(variances: ArrayLike, degrees: ArrayLike) -> Array:
    """Degrees of freedom of sums of G estimates of variance (G, ...) with `degrees` (G,) each.

    The fewest that the share of any of the G in the sum leaves. Satterthwaite's are more where the
    dominant estimate happens to be small, and then so is the sum: by sds of 1:1:1:4 from four seeds
    they reject 1.7 times as often as 0.05/8 says (`benchmarks/false_rejections.py --moderation`).
    """
    estimates = np.asarray(variances, dtype=np.float64)
    counts = np.asarray(degrees, dtype=np.float64).reshape(-1, *[1] * (estimates.ndim - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = estimates / estimates.sum(axis=0)  # exactly 1 of a single one
        fewest = np.where(shares > 0, counts / shares, np.inf).min(axis=0)
    return np.where(np.isfinite(fewest), fewest, counts.max(axis=0))


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


def conjunction(p_values: ArrayLike, count: int) -> float:
    """P-value of "the effect is there in fewer than `count` of the comparisons".

    The partial conjunction test of Benjamini and Heller (2008) by Bonferroni, valid under any
    dependence; Holm's method rejects as many as the largest `count` that it is below alpha for.
    nan where no comparison was made, or fewer than `count`.
    """
    adjusted = holm(p_values)
    adjusted = np.sort(adjusted[~np.isnan(adjusted)])
    return float(adjusted[count - 1]) if 0 < count <= len(adjusted) else np.nan


def moderated(spreads: Sequence[Spread]) -> list[Spread]:
    """Spreads whose seed variances are shrunk towards each other, with more degrees of freedom.

    Each is a few seeds' estimate of a variance of its own, and these variances are taken for draws
    of one scaled inverse chi-square distribution, which is fitted to them by moments of logarithms
    (Smyth 2004, as in limma). Spreads without seeds' variance pass through.
    """
    varied = [s for s in spreads if s.seeds > 0 and s.seeds_df > 0]
    if len(varied) < 2:
        return list(spreads)
    df = np.array([s.seeds_df for s in varied])
    logs = np.log([s.seeds for s in varied]) - special.digamma(df / 2) + np.log(df / 2)
    excess = float(np.var(logs, ddof=1) - np.mean(special.polygamma(1, df / 2)))
    prior_df = 2 * _inverse_trigamma(excess) if excess > 0 else np.inf
    prior_df = min(prior_df, float(df.sum() - df.max()))  # what the others know together
    prior = np.exp(np.mean(logs) + special.digamma(prior_df / 2) - np.log(prior_df / 2))
    return [
        replace(
            s,
            seeds=(prior_df * prior + s.seeds_df * s.seeds) / (prior_df + s.seeds_df),
            seeds_df=prior_df + s.seeds_df,
        )
        if s.seeds_df > 0
        else s
        for s in spreads
    ]


def _inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = value, by Newton's method on 1 / trigamma, which is convex."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        x += trigamma * (1 - trigamma / value) / special.polygamma(2, x)
    return float(x)
