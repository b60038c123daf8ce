"""Distribution of a mean over seeds and prompts about its expectation: p-values, intervals, power.

A mean over S seeds and P prompts, crossed, varies by its seeds, by its prompts, and by the noise of
single entries, which the seeds' means and the prompts' means both contain. Of the variances of the
mean V_s, V_p and V_e that these three estimate, the deviation is distributed as

    Z sqrt(max(V_s / w - V_e, 0) + V_p / u),   w ~ chi2(d) / d,   u ~ chi2(P - 1) / (P - 1)

with Z standard normal and d the degrees of freedom of V_s, S - 1 for one set of seeds: a
generalised p-value of the Behrens-Fisher kind (Weerahandi 1995). It is Student's test over seeds
where prompts do not vary, and over prompts where seeds do not. Nothing is drawn at random: w and u
are integrated out on fixed nodes, and interval and p-value are the same function, solved for one or
the other.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from scipy.interpolate import CubicSpline
from scipy.optimize import elementwise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Variances of a mean, and the degrees of freedom of their estimates.

    `seeds` is that of the seeds' means, `prompts` that of the prompts' means, `noise` the part of
    single entries, contained in both. One seed has `seeds` 0, one prompt `prompts` 0.
    """

    seeds: float
    prompts: float
    noise: float
    seeds_df: float
    prompts_df: float

    @classmethod
    def of_components(
        cls, seeds: float, prompts: float, noise: float, seeds_df: float, prompts_df: float
    ) -> "Spread":
        """The spread of what seeds, prompts and single entries each add to the mean's variance."""
        return cls(seeds + noise, prompts + noise, noise, seeds_df, prompts_df)

    @property
    def variance(self) -> float:
        """Variance of the mean, the noise counted once."""
        return max(self.seeds - self.noise, 0.0) + max(self.prompts, self.noise * (self.seeds > 0))

    def p_value(self, distance: float) -> float:
        """Two-sided p-value of an expectation that is `distance` away from the mean."""
        if self.seeds == self.prompts == 0:
            return float(distance == 0)
        return float(_tails(np.array([abs(distance)]), self._variances())[0])

    def half_width(self, alpha: float = 0.05) -> float:
        """Half the width of the interval of level 1 - alpha: the distance with p = alpha."""
        if self.seeds == self.prompts == 0:
            return 0.0
        return float(half_widths(self, np.array([self.seeds]), np.array([self.prompts]), alpha)[0])

    def density(self, deviations: Array) -> Array:
        """Density of the deviation at each of `deviations` (N,)."""
        variances, weights = self._variances()
        z = deviations[:, None] ** 2 / (2 * variances)
        return np.asarray((np.exp(-z) / np.sqrt(2 * np.pi * variances) * weights).sum(axis=1))

    def smallest_found(self, power: float = 0.8, alpha: float = 0.05) -> float:
        """Smallest true difference whose p-value is below `alpha` with probability `power`.

        The variances are taken for the true ones; what the design's own estimates of them would be
        is integrated over, the noise's excepted. NaN where there is nothing that varies.
        """
        if self.seeds == self.prompts == 0:
            return float("nan")
        # The estimate of many prompts' variance hardly varies.
        freedom = self.seeds_df, self.prompts_df if self.prompts_df < 30 else 0.0
        variances = max(self.seeds, self.noise * (self.seeds > 0)), self.prompts
        coarse, fine = ([_chi2(df, n) for df in freedom] for n in (24, 240))
        drawn_seeds, drawn_prompts = (
            part.ravel()
            for part in np.meshgrid(
                variances[0] * coarse[0][0], variances[1] * coarse[1][0], indexing="ij"
            )
        )
        shape = len(coarse[0][0]), len(coarse[1][0])
        needed: Array = half_widths(self, drawn_seeds, drawn_prompts, alpha).reshape(shape)
        # Smooth in the logarithms; what is found of a difference is a step in them.
        for axis, ((old, _), (new, _)) in enumerate(zip(coarse, fine, strict=True)):
            if len(old) > 1:
                spline = CubicSpline(np.log(old), np.log(needed), axis=axis)
                needed = np.exp(spline(np.log(new)))
        needed = needed.ravel()
        weights = np.outer(fine[0][1], fine[1][1]).ravel()
        deviation = np.sqrt(self.variance)

        def missing(difference: Array) -> Array:
            found = special.ndtr((difference[:, None] - needed) / deviation)
            found += special.ndtr((-difference[:, None] - needed) / deviation)
            return np.asarray((found * weights).sum(axis=1) - power)

        largest = float(needed.max() + 6 * deviation)
        return float(elementwise.find_root(missing, (np.zeros(1), np.array([largest]))).x[0])

    def bayes_factor(self, value: float, size: float) -> float:
        """Evidence for an effect of about `size` over none, given the mean `value`.

        Above 1 for the effect. The alternative is half-normal: the same sign as `size`, which is
        its scale.
        """
        nodes = (np.arange(400) + 0.5) / 400
        effects = size * special.ndtri(0.5 + nodes / 2)
        with_effect = float(self.density(value - effects).mean())
        return with_effect / float(self.density(np.array([value]))[0])

    def _variances(self) -> tuple[Array, Array]:
        """Variances (1, N) of the deviation given w and u, and the weights (N,) of these."""
        return _mixture(self, np.array([self.seeds]), np.array([self.prompts]))


def _mixture(spread: Spread, seeds: Array, prompts: Array) -> tuple[Array, Array]:
    """As `Spread._variances`, for M pairs of variances: (M, N) and (N,)."""
    (w, seed_weights), (u, prompt_weights) = (
        _chi2(df, _nodes(df)) for df in (spread.seeds_df, spread.prompts_df)
    )
    by_seed = np.maximum(seeds[:, None] / w - spread.noise, 0.0)
    by_prompt = prompts[:, None] / u
    variances = (by_seed[:, :, None] + by_prompt[:, None, :]).reshape(len(seeds), -1)
    tiny = np.finfo(np.float64).tiny  # of seeds that agree to less than the noise, without prompts
    weights = np.asarray(np.outer(seed_weights, prompt_weights).ravel())
    return np.maximum(variances, tiny), weights


def _tails(distances: Array, mixture: tuple[Array, Array]) -> Array:
    """Probabilities (M,) of a deviation beyond each distance (M,), on both sides together."""
    variances, weights = mixture
    tails = (special.erfc(distances[:, None] / np.sqrt(2 * variances)) * weights).sum(axis=1)
    return np.asarray(np.minimum(tails, 1.0))


def half_widths(spread: Spread, seeds: Array, prompts: Array, alpha: float) -> Array:
    """Distances (M,) with p = alpha for M pairs of variances, the rest as in `spread`."""
    variances, weights = _mixture(spread, seeds, prompts)
    # Each part alone exceeds its bound with probability alpha / 2, so the root is below their sum.
    reach = [
        stats.t.isf(alpha / 4, df) if df > 0 else 0.0 for df in (spread.seeds_df, spread.prompts_df)
    ]
    bound = np.sqrt(seeds) * reach[0] + np.sqrt(prompts) * reach[1]

    def excess(distances: Array, index: Array) -> Array:
        return np.log(_tails(distances, (variances[index.astype(int)], weights)) / alpha)

    found = elementwise.find_root(
        excess,
        (np.zeros(len(seeds)), bound),
        args=(np.arange(len(seeds), dtype=np.float64),),
        tolerances={"xatol": 0.0, "xrtol": 1e-12, "fatol": 0.0},
    )
    return np.asarray(found.x)


def _nodes(df: float) -> int:
    """Number of nodes for a p-value: chi2(df) / df spreads over the more decades, the fewer df."""
    return 64 if df < 3 else 48 if df < 30 else 12


@lru_cache(maxsize=64)
def _chi2(df: float, n: int) -> tuple[Array, Array]:
    """Nodes (n,) of chi2(df) / df and their weights, which sum to 1; without freedom it is 1.

    The nodes are equally spaced in the logarithm, where the density is smooth and falls to 1e-9 of
    its mass at both ends, so that the trapezoidal rule is exact to that.
    """
    if df <= 0:
        return np.ones(1), np.ones(1)
    low, high = np.log(stats.chi2.ppf(1e-9, df) / df), np.log(stats.chi2.isf(1e-9, df) / df)
    logs = np.linspace(low, high, n)
    weights = np.exp(df / 2 * (logs - np.exp(logs) + 1))
    return np.exp(logs), weights / weights.sum()
