"""How often the statistics err, on drawn data: `python benchmarks/false_rejections.py`.

Compares the pivot of `rm_robustness.pivot` with the rule that it replaced, the named baseline: a
bootstrap over seeds and prompts, whose variance is V_s + V_p and whose degrees of freedom are
Satterthwaite's; its closed form stands for it, as both reject alike. Two minutes on one core.
With --moderation instead: whether the comparisons of a table should share what they know of the
seeds' variance, and sums over groups with seeds of their own; three minutes. With --json, the
same rows for programs. The exit status is 1 if the pivot breaks a promise: with normal seeds it
rejects no more than 1.3 times as often as it says, down to 0.05/64, and intervals of 95% hold the
truth in 92% or more of the drawn data sets, whatever is measured, if only the seeds are not skewed.

Predictions, written before the first run:

- The old rule at 0.05/64, S = 4, P = 11,000 rejects 4 to 8 times as often as it says, at S = 2 more
  than 50 times, at S = 8 up to twice. The pivot stays within 1.1 at 0.05 and 1.3 everywhere; with
  P = 400 and little but noise it rejects far less than it says.
- With skewed seeds both are wrong, as Student's test is: the pivot 5 to 10 times at 0.05/64.
- The pivot's intervals are 5% wider at S = 4 and P = 11,000, 1 to 2 times at S = 3, many times at
  S = 2 and no wider at S = 8. Power at the difference that a z-test finds with 80%: 0.48 for 0.50
  at S = 4, more than the old rule's at S = 8.
- Holm's any false rejection of 64 parts at S = 4: 0.3 for the old rule, 0.05 for the pivot.
- An estimate takes 2 ms, the bootstrap 30 ms at P = 400 and 300 ms at P = 11,000.
- Moderated: any false rejection rises to 0.06 to 0.09 where the seeds' standard deviations differ
  between backbones (log-normal, 0.4), and beyond at 0.8; a third more parts are found at S = 4.
- A sum over groups by Satterthwaite's degrees rejects 1.0 to 1.2 times as often as it says at
  0.05/8, S = 3.

Found: as predicted, but for these. The error with skewed seeds grows with their number: 2, 4, 9 and
17 times at S = 2, 3, 4 and 8. The pivot is 1 to 3% wider at S = 4 and P = 11,000, up to 2.6 times
at S = 2; at S = 8 it has more power only where noise is large, and the same elsewhere. The
bootstrap takes 4 and 150 ms. Moderation over all comparisons errs as predicted, at 0.8 as at 0.4,
over fewer it errs more, and at S = 4 it finds twice as many parts or more. Satterthwaite's degrees
of a sum reject up to 1.5 times at sds of 1:4 and 1.7 times at 1:1:1:4, so `contrast` has fewer.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats
from scipy.interpolate import RegularGridInterpolator

from rm_robustness.metrics import kendall_tau_per_prompt
from rm_robustness.pivot import Array, Spread, half_widths
from rm_robustness.statistics import holm, moderated, seed_mean

Row = dict[str, Any]
ALPHAS = {"0.05": 0.05, "0.05/8": 0.05 / 8, "0.05/16": 0.05 / 16, "0.05/64": 0.05 / 64}
# Standard deviations of a seed, a prompt and a single entry, as the demo shows them.
DESIGNS = {
    "noise only": (0.0, 0.0, 0.25),
    "bsr - bt": (0.012, 0.03, 0.25),
    "dr - bt": (0.025, 0.2, 0.35),
    "norm - bt, unseen": (0.06, 0.2, 0.4),
    "a mean, unseen": (0.06, 0.38, 0.31),
    "skewed seeds": (0.03, 0.1, 0.25),  # minus an exponential: a bad seed now and then
}
TAIL_DRAWS, DATA_SETS = 400_000, 500


def spread_of(
    n_seeds: int, n_prompts: int, seed_sd: float, prompt_sd: float, noise_sd: float
) -> Spread:
    """The spread whose variances are what a design with these components has on average."""
    noise = noise_sd**2 / (n_seeds * n_prompts)
    by_seed, by_prompt = seed_sd**2 / n_seeds, prompt_sd**2 / n_prompts
    return Spread.of_components(by_seed, by_prompt, noise, n_seeds - 1, n_prompts - 1)


def old_degrees(seeds: Array, prompts: Array, n_seeds: int, n_prompts: int) -> Array:
    """Satterthwaite's degrees of freedom of V_s + V_p, the old rule's."""
    return (seeds + prompts) ** 2 / (seeds**2 / (n_seeds - 1) + prompts**2 / (n_prompts - 1))


def old_bootstrap(values: Array, resamples: int = 2000) -> tuple[float, float, float]:
    """Low end, high end and p-value of the mean of (S, P) values by the old rule itself."""
    rng = np.random.default_rng(0)
    n_seeds, n_prompts = values.shape
    means = values.mean(axis=1)
    deviations = np.zeros(resamples)
    variances = []
    parts = ((values - means[:, None]).mean(axis=0), means - means.mean())
    for part in parts:
        n = len(part)
        drawn = np.concatenate(
            [
                part[rng.integers(n, size=(min(100, resamples - i), n))].mean(axis=1)
                for i in range(0, resamples, 100)
            ]
        ) * np.sqrt(n / (n - 1))
        variances.append(np.mean(drawn**2))
        deviations += drawn
    df = old_degrees(variances[1], variances[0], n_seeds, n_prompts)
    widening = stats.t.ppf(0.975, df) / stats.norm.ppf(0.975)
    low, high = means.mean() + widening * np.quantile(deviations, [0.025, 0.975])
    p = 2 * stats.t.sf(abs(means.mean()) / np.sqrt(np.mean(deviations**2)), df)
    return float(low), float(high), float(p)


def draw(
    rng: np.random.Generator, design: str, n_seeds: int, n_prompts: int
) -> tuple[Array, Array, Array, Spread]:
    """Means (N,) about 0, estimates (N,) of V_s and V_p, and the spread of their expectations."""
    seed_sd, prompt_sd, noise_sd = DESIGNS[design]
    spread = spread_of(n_seeds, n_prompts, *DESIGNS[design])
    prompts = spread.prompts * rng.chisquare(n_prompts - 1, TAIL_DRAWS) / (n_prompts - 1)
    if design == "skewed seeds":
        each = seed_sd * (1 - rng.exponential(size=(TAIL_DRAWS, n_seeds)))
        each += rng.normal(size=each.shape) * noise_sd / np.sqrt(n_prompts)
        mean = each.mean(axis=1) + rng.normal(size=TAIL_DRAWS) * prompt_sd / np.sqrt(n_prompts)
        return mean, each.var(axis=1, ddof=1) / n_seeds, prompts, spread
    mean = rng.normal(size=TAIL_DRAWS) * np.sqrt(spread.variance)
    seeds = spread.seeds * rng.chisquare(n_seeds - 1, TAIL_DRAWS) / (n_seeds - 1)
    return mean, seeds, prompts, spread


def widths(spread: Spread, seeds: Array, prompts: Array, alpha: float) -> Array:
    """`half_widths` of many pairs of variances (N,), between those on a grid."""
    axes = (
        np.linspace(np.log(seeds.min()), np.log(seeds.max()), 120),
        np.linspace(np.log(prompts.min()), np.log(prompts.max()), 4),
    )
    grid = np.exp(np.stack(np.meshgrid(*axes, indexing="ij"))).reshape(2, -1)
    found = np.log(half_widths(spread, *grid, alpha)).reshape(len(axes[0]), -1)
    between = RegularGridInterpolator(axes, found, bounds_error=False, fill_value=None)
    return np.asarray(np.exp(between(np.log(np.column_stack([seeds, prompts])))))


def tails() -> Iterator[Row]:
    """False rejections / nominal of both rules, widths and power, a row a design and size."""
    for n_prompts in (400, 11_000):
        for n_seeds in (2, 3, 4, 8):
            for design in DESIGNS:
                rng = np.random.default_rng([n_seeds, n_prompts, list(DESIGNS).index(design)])
                mean, seeds, prompts, spread = draw(rng, design, n_seeds, n_prompts)
                shift = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * np.sqrt(spread.variance)
                error = np.sqrt(seeds + prompts)
                df = old_degrees(seeds, prompts, n_seeds, n_prompts)
                row: Row = {"P": n_prompts, "S": n_seeds, "design": design}
                for name, alpha in ALPHAS.items():
                    old = np.sqrt(_t_squared(alpha, df)) * error
                    new = widths(spread, seeds, prompts, alpha)
                    for rule, needed in (("old", old), ("new", new)):
                        row[f"{rule} {name}"] = np.mean(np.abs(mean) > needed) / alpha
                        if alpha == 0.05:
                            row[f"{rule} power"] = np.mean(np.abs(mean + shift) > needed)
                    if alpha == 0.05:
                        row["width"] = np.median(new / old)
                yield row


def _t_squared(alpha: float, df: Array) -> Array:
    """Square of Student's t at `alpha`, two-sided, for many degrees of freedom (N,)."""
    logs = np.linspace(np.log(df.min()), np.log(df.max()), 400)
    return np.asarray(np.interp(np.log(df), logs, stats.t.isf(alpha / 2, np.exp(logs)) ** 2))


def any_of_many(rows: list[Row]) -> Iterator[Row]:
    """Probability of any false rejection by Holm's method among independent true hypotheses."""
    for row in rows:
        if row["P"] == 11_000 and row["S"] > 2:
            out: Row = {"S": row["S"], "design": row["design"]}
            for parts, name in ((64, "0.05/64"), (16, "0.05/16"), (8, "0.05/8")):
                for rule in ("old", "new"):
                    out[f"{rule}, {parts}"] = (
                        1 - (1 - row[f"{rule} {name}"] * 0.05 / parts) ** parts
                    )
            yield out


def world(rng: np.random.Generator, kind: str, n_seeds: int, n_prompts: int) -> Array:
    """One data set (S, P) whose true mean is 0."""
    if kind in ("tau", "0/1"):  # a difference of two methods that are equally good
        quality = 1 + 0.1 * rng.normal(size=(2, n_seeds, 1, 1))
        gold = rng.normal(size=(n_prompts, 4))
        hard = rng.normal(size=(2, 1, n_prompts, 4))
        rewards = quality * gold + 0.8 * hard + 0.8 * rng.normal(size=(2, n_seeds, n_prompts, 4))
        if kind == "0/1":
            right = (rewards[..., 0] > rewards[..., 1]) == (gold[:, 0] > gold[:, 1])
            return np.asarray(right[0].astype(float) - right[1])
        every = np.broadcast_to(gold, rewards.shape).reshape(-1, 4)
        tau = kendall_tau_per_prompt(rewards.reshape(-1, 4), every)
        return np.asarray(np.subtract(*tau.reshape(2, n_seeds, n_prompts)))
    seed_sd, prompt_sd, noise_sd = DESIGNS.get(kind, (0.03, 0.1, 0.25))
    seeds = rng.normal(size=(n_seeds, 1))
    if kind == "one wild seed":
        seeds[0] *= 3
    if kind == "skewed seeds":
        seeds = 1 - rng.exponential(size=(n_seeds, 1))
    values = seed_sd * seeds + prompt_sd * rng.normal(size=(1, n_prompts))
    values = values + noise_sd * rng.normal(size=(n_seeds, n_prompts))
    if kind == "25% undefined":
        values[rng.random(values.shape) < 0.25] = np.nan
    return np.asarray(values)


def coverage() -> Iterator[Row]:
    """How many intervals of 95% hold the truth, a row a world and number of seeds."""
    n_prompts = 400
    worlds = [*DESIGNS, "one wild seed", "25% undefined", "tau", "0/1"]
    for kind in worlds:
        for n_seeds in (2, 3, 4, 8):
            rng = np.random.default_rng([n_seeds, worlds.index(kind)])
            found = [seed_mean(world(rng, kind, n_seeds, n_prompts)) for _ in range(DATA_SETS)]
            seeds, prompts = (
                np.array([getattr(e.spread, part) for e in found]) for part in ("seeds", "prompts")
            )
            value, new = np.array([(e.value, e.high - e.value) for e in found]).T
            df = old_degrees(seeds, prompts, n_seeds, n_prompts)
            old = stats.t.isf(0.025, df) * np.sqrt(seeds + prompts)
            yield {
                "S": n_seeds,
                "data": kind,
                "old": np.mean(np.abs(value) <= old),
                "new": np.mean(np.abs(value) <= new),
                "width": np.median(new / old),
            }


def times() -> Iterator[Row]:
    """Milliseconds of one estimate by both rules."""
    for n_seeds, n_prompts in ((4, 400), (4, 11_000), (8, 11_000)):
        values = np.random.default_rng(0).normal(size=(n_seeds, n_prompts))
        row: Row = {"S": n_seeds, "P": n_prompts}
        for name, rule, repeats in (("old", old_bootstrap, 3), ("new", seed_mean, 30)):
            rule(values)
            start = time.perf_counter()
            for _ in range(repeats):
                rule(values)
            row[f"{name}, ms"] = 1000 * (time.perf_counter() - start) / repeats
        yield row


# The seeds' variance: table 5 of the paper.
METHODS = ("bt", "bt-hinge", "bt-norm", "bt-dr", "bt-bsr")
METRICS = (
    *("in_domain_accuracy", "prompt_disjoint_tau"),
    *("response_disjoint_tau", "mutual_disjoint_tau"),
)
BACKBONES = ("Llama-3.2-1B", "Llama-3.2-3B", "Qwen2.5-1.5B", "Qwen2.5-3B")
PROMPTS = np.array([51_200, 11_082, 51_200, 11_082])
WILD = np.array([1, 1, 2, 2, 1])  # a far pair's seeds differ twice as much as a close one's
CLAIMS = {"C4": [(4, 0), (4, 1), (4, 2), (4, 3)], "C5": [(3, 0)], "C6": [(2, 0)]}
PROMPT_SD, NOISE_SD = 0.1, 0.25  # of a close pair's difference
ALIKE = 0.8  # correlation of a seed's luck in one tau with that in another
NULL_SETS, PAPER_SETS = 2000, 200
# Which comparisons (pair, backbone, metric) share their seeds' variances: axes put last, together.
GROUPS = {"own": (), "all": (1, 2, 3), "pair": (2, 3), "pair and metric": (2,)}
PATTERNS = ((1, 1), (1, 2), (1, 4), (1, 1, 1, 1), (1, 2, 3, 4), (1, 1, 1, 4))


def p_values(mean: Array, seeds: Array, prompts: Array, noise: Array, df: Array) -> Array:
    """P-values of the pivot for arrays of one shape, where the prompts' variance is known."""
    shape = mean.shape
    mean, seeds, prompts, noise, df = (
        np.broadcast_to(a, shape).reshape(-1, 1) for a in (mean, seeds, prompts, noise, df)
    )
    table = np.geomspace(1, 1000, 200)
    low, high = (
        np.interp(np.log(df), np.log(table), np.log(limit / table))
        for limit in (stats.chi2.ppf(1e-9, table), stats.chi2.isf(1e-9, table))
    )
    out = []
    for i in np.array_split(np.arange(len(mean)), len(mean) // 20_000 + 1):
        logs = low[i] + (high[i] - low[i]) * np.linspace(0, 1, 64 if df.min() >= 2 else 128)
        weights = np.exp(df[i] / 2 * (logs - np.exp(logs) + 1))
        variances = np.maximum(seeds[i] / np.exp(logs) - noise[i], 0) + prompts[i]
        variances = np.maximum(variances, np.finfo(np.float64).tiny)
        tail = special.erfc(np.abs(mean[i]) / np.sqrt(2 * variances))
        out.append((tail * weights).sum(axis=1) / weights.sum(axis=1))
    return np.concatenate(out).reshape(shape)


def moderate(variances: Array, df: int) -> tuple[Array, Array]:
    """`statistics.moderated` of many groups (..., G) at once: variances and degrees of freedom."""
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    excess = logs.var(axis=-1, ddof=1) - special.polygamma(1, df / 2)
    target = np.where(excess > 0, excess, 1.0)
    x = 0.5 + 1 / target
    for _ in range(50):
        trigamma = special.polygamma(1, x)
        x += trigamma * (1 - trigamma / target) / special.polygamma(2, x)
    prior_df = np.where(excess > 0, 2 * x, np.inf)
    prior_df = np.minimum(prior_df, (variances.shape[-1] - 1) * df)
    prior = np.exp(logs.mean(axis=-1) + special.digamma(prior_df / 2) - np.log(prior_df / 2))
    prior_df, prior = prior_df[..., None], prior[..., None]
    shrunk = (prior_df * prior + df * variances) / (prior_df + df)
    return shrunk, np.broadcast_to(prior_df + df, variances.shape)


def shared(variances: Array, df: int, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Seeds' variances (N, pair, backbone, metric) moderated over `axes`, and their degrees."""
    if not axes:
        return variances, np.full(variances.shape, float(df))
    last = tuple(range(4 - len(axes), 4))
    moved = np.moveaxis(variances, axes, last)
    flat = moved.reshape(*moved.shape[: 4 - len(axes)], -1)
    return tuple(np.moveaxis(a.reshape(moved.shape), last, axes) for a in moderate(flat, df))


def paper_table() -> Array:
    """The paper's table 5 (backbone, metric, method)."""
    path = Path(__file__).parent.parent / "data" / "paper" / "published_values.csv"
    table = pd.read_csv(path).query("artifact == 'table5'")
    values = table.set_index(["model", "metric", "method"])["value"]
    return np.array([[[values[b, k, m] for m in METHODS] for k in METRICS] for b in BACKBONES])


def comparisons(
    rng: np.random.Generator, truth: Array, sets: int, n_seeds: int, sigma: float, spread: float
) -> tuple[Array, Array, Array]:
    """Means (N, backbone, metric, method, seed), prompts' variances (metric, method), seeds' sds.

    `sigma` is the sd over seeds of a close pair's difference, times exp(`spread` x normal) by
    backbone and method.
    """
    factors = np.exp(spread * rng.normal(size=(sets, 4, 1, 5, 1)))
    sds = sigma / np.sqrt(2) * WILD[:, None] * factors
    alike = np.array([0, ALIKE, ALIKE, ALIKE])[:, None, None]
    luck = np.sqrt(alike) * rng.normal(size=(sets, 4, 1, 5, n_seeds))
    luck = luck + np.sqrt(1 - alike) * rng.normal(size=(sets, 4, 4, 5, n_seeds))
    per_prompt = np.sqrt(WILD) / 2 / PROMPTS[:, None]
    means = truth[..., None] + luck * sds
    means += PROMPT_SD * np.sqrt(per_prompt)[..., None] * rng.normal(size=(sets, 4, 4, 5, 1))
    means += NOISE_SD * np.sqrt(per_prompt)[..., None] * rng.normal(size=means.shape)
    return means, per_prompt, np.asarray(sds[:, :, :, :, 0])


def moderation() -> Iterator[Row]:
    """Any false rejection by Holm's method, parts found, coverage: a row a claim and setting.

    `found` counts the claim's parts if the paper's table is true; `coverage` is of the 95%
    intervals, `wildest` of those of each pair's backbone whose seeds differ most.
    """
    paper = paper_table()
    settings = [
        (spread, n_seeds, sigma)
        for spread in (0.0, 0.4, 0.8)
        for n_seeds in (4, 8)
        for sigma in (0.002, 0.005, 0.01, 0.02)
    ]
    for spread, n_seeds, sigma in settings:
        rng = np.random.default_rng([n_seeds, int(1000 * sigma), int(10 * spread)])
        drawn = [
            comparisons(rng, truth, sets, n_seeds, sigma, spread)
            for truth, sets in ((0 * paper, NULL_SETS), (paper, PAPER_SETS))
        ]
        for claim, pairs in CLAIMS.items():
            row: Row = {"claim": claim, "sds differ": spread, "S": n_seeds, "sigma": sigma}
            for name, axes in GROUPS.items():
                for (means, per_prompt, sds), null in zip(drawn, (True, False), strict=True):
                    gaps = np.stack([means[:, :, :, a] - means[:, :, :, b] for a, b in pairs], 1)
                    mean, seeds = gaps.mean(axis=-1), gaps.var(axis=-1, ddof=1) / n_seeds
                    prompts = np.stack([per_prompt[:, a] + per_prompt[:, b] for a, b in pairs])
                    prompts = prompts[:, None, :]
                    noise = prompts * NOISE_SD**2 / n_seeds
                    seeds, df = shared(seeds, n_seeds - 1, axes)
                    p = p_values(mean, seeds, prompts * PROMPT_SD**2 + noise, noise, df)
                    flat = p.reshape(len(p), -1)
                    if null:
                        row[f"any false, {name}"] = np.mean(flat.min(axis=1) < 0.05 / flat.shape[1])
                        row[f"coverage, {name}"] = np.mean(p > 0.05)
                        true = np.stack([sds[..., a] ** 2 + sds[..., b] ** 2 for a, b in pairs], 1)
                        wildest = np.broadcast_to(true == true.max(axis=2, keepdims=True), p.shape)
                        row[f"wildest, {name}"] = np.mean(p[wildest] > 0.05)
                    else:
                        found = np.stack([holm(of_set) for of_set in flat]) < 0.05
                        right = np.sign(mean) == (1 if claim == "C4" else -1)
                        row[f"found, {name}"] = (
                            (found & right.reshape(found.shape)).sum(axis=1).mean()
                        )
            yield row


def sums() -> Iterator[Row]:
    """False rejections / nominal of a sum over groups with seeds of their own, by two degrees."""
    for n_seeds in (2, 3, 4, 8):
        for pattern in PATTERNS:
            for prompts in (0.0, 1.0):  # variance by prompts, that by seeds being 1
                rng = np.random.default_rng([n_seeds, PATTERNS.index(pattern), int(prompts)])
                true = np.array(pattern)[:, None] ** 2 / np.sum(np.square(pattern))
                df = n_seeds - 1
                each = true * rng.chisquare(df, size=(len(pattern), TAIL_DRAWS // 2)) / df
                seeds = each.sum(axis=0)
                mean = rng.normal(size=seeds.shape) * np.sqrt(1 + prompts)
                near = np.abs(mean) > 1.9 * np.sqrt(seeds + prompts)  # the others have p > 0.05
                row: Row = {"S": n_seeds, "sds": ":".join(map(str, pattern)), "prompts": prompts}
                for rule, degrees in (
                    ("satterthwaite", seeds**2 / (each**2).sum(axis=0) * df),
                    ("dominant", df * seeds / each.max(axis=0)),
                ):
                    none = np.zeros(near.sum())
                    p = p_values(mean[near], seeds[near], none + prompts, none, degrees[near])
                    for name in ("0.05", "0.05/8", "0.05/64"):
                        row[f"{rule} {name}"] = np.sum(p < ALPHAS[name]) / len(mean) / ALPHAS[name]
                yield row


def broken(tables: dict[str, list[Row]]) -> Iterator[str]:
    """Each promise of the first paragraph that a row breaks."""
    for row in tables.get("false rejections / nominal", []):
        for name in ALPHAS:
            if row["design"] != "skewed seeds" and row[f"new {name}"] > 1.3:
                yield f"S = {row['S']}, P = {row['P']}, {row['design']}: {row[f'new {name}']:.2f}"
    for row in tables.get("coverage of 95% intervals", []):
        if row["data"] != "skewed seeds" and row["new"] < 0.92:
            yield f"S = {row['S']}, {row['data']}: coverage {row['new']:.3f}"
    for row in tables.get("false rejections of sums / nominal", []):
        if row["S"] > 2 and row["dominant 0.05/8"] > 1.3:
            yield f"S = {row['S']}, sds {row['sds']}: {row['dominant 0.05/8']:.2f}"
    for row in tables.get("the seeds' variance", []):
        if row["any false, own"] > 0.065:
            yield f"{row['claim']}, S = {row['S']}: any false rejection {row['any false, own']:.3f}"


def check_copies() -> None:
    """The vectorised copies give what the product gives."""
    spreads = [Spread(v, 0.5, 0.1, 3, 1e6) for v in (0.4, 1.0, 3.0, 0.2)]
    ours, degrees = moderate(np.array([s.seeds for s in spreads]), 3)
    theirs = moderated(spreads)
    np.testing.assert_allclose(ours, [s.seeds for s in theirs])
    np.testing.assert_allclose(degrees, [s.seeds_df for s in theirs])
    p = p_values(np.ones(4), ours, np.full(4, 0.5), np.full(4, 0.1), degrees)
    np.testing.assert_allclose(p, [s.p_value(1.0) for s in theirs], rtol=1e-3)


def main() -> None:
    """Print the tables, or all of them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moderation", action="store_true", help="the seeds' variance, and sums")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    check_copies()
    if options.moderation:
        tables = {
            "false rejections of sums / nominal": list(sums()),
            "the seeds' variance": list(moderation()),
        }
    else:
        rejected = list(tails())
        tables = {
            "false rejections / nominal": rejected,
            "any false rejection by Holm's method, P = 11,000": list(any_of_many(rejected)),
            "coverage of 95% intervals": list(coverage()),
            "time of one estimate": list(times()),
        }
    if options.json:
        print(json.dumps(tables, indent=1, default=float))
    else:
        for title, rows in tables.items():
            print(f"{title}\n{pd.DataFrame(rows).round(3).to_string(index=False)}\n")
    if errors := list(broken(tables)):
        sys.exit("broken promises:\n" + "\n".join(errors))


if __name__ == "__main__":
    main()
