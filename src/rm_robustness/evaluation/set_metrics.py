"""Metrics of one evaluation set, a value a prompt, for any reward: a model's or a baseline's.

A set of prompts with a few responses each is measured by agreement with its gold (accuracy; of more
than two responses Kendall's tau too), by how the reward follows length, and by the agreement that
is left when length is held fixed. RM-Bench has its own metrics, in percent, and the style gap.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..metrics import kendall_tau_per_prompt
from ..pivot import Array
from ..ratios import partial_correlation, stratified_mean
from . import rm_bench

RM_BENCH = "rm_bench"
STYLE_GAP = "style_gap"
ACCURACY, TAU = "accuracy", "tau"
LENGTH_CONTROLLED, LENGTH = "length_controlled_tau", "length_tau"
STATISTICS = (TAU, ACCURACY, LENGTH_CONTROLLED, LENGTH)  # of a set of prompts with responses
Values = dict[str, Array]  # of each statistic the value of each prompt, (1, P), NaN if undefined


def metric(set_name: str, statistic: str) -> str:
    """Name of a statistic of a set in tables, such as `in_domain_accuracy`; of RM-Bench `hard`."""
    return statistic if set_name == RM_BENCH else f"{set_name}_{statistic}"


def lengths(frame: pd.DataFrame) -> Array:
    """Characters of each response (N,): the reward of the baseline `length`."""
    return np.asarray(frame["response"].map(len).to_numpy(np.float64))


def set_values(set_name: str, frame: pd.DataFrame, rewards: Array) -> Values:
    """Compute each statistic of a set from rewards (N,), a row a response of `frame`.

    `frame` has prompt_id, response and gold, of RM-Bench what `rm_bench.margin_matrices` takes. A
    prompt's accuracy is the share of its pairs of different gold whose better response has the
    strictly higher reward (D40), its taus are tau-b (D39). `length_controlled_tau` is Kendall's
    partial correlation of reward and gold given length, of the mean taus, linearised
    (`ratios.partial_correlation`). Where every prompt has two responses there is no `tau`: it says
    what accuracy says.
    """
    if set_name == RM_BENCH:
        return _rm_bench(frame, rewards)
    gold, length = frame["gold"].to_numpy(np.float64), lengths(frame)

    def tau(a: Array, b: Array) -> Array:
        return by_prompt(frame, kendall_tau_per_prompt, a, b)

    with_gold, with_length = tau(rewards, gold), tau(rewards, length)
    values = {
        TAU: with_gold,
        ACCURACY: by_prompt(frame, _accuracies, rewards, gold),
        LENGTH_CONTROLLED: partial_correlation(with_gold, with_length, tau(gold, length)),
        LENGTH: with_length,
    }
    if frame.groupby("prompt_id").size().max() == 2:
        del values[TAU]
    return {name: of_prompts[None] for name, of_prompts in values.items()}


def tied_pairs(frame: pd.DataFrame, rewards: Array) -> int:
    """Count the pairs of responses of one prompt with equal rewards (N,)."""
    return int(by_prompt(frame, _ties, rewards).sum())


def by_prompt(frame: pd.DataFrame, function: Callable[..., Array], *columns: Array) -> Array:
    """Apply a function of (P, n) arrays to the prompts of each number n of responses; (P,) values.

    `columns` are (N,) values, a row a response of `frame`; the prompts are in the order of their
    first rows. Prompts may differ in n.
    """
    codes, prompts = pd.factorize(frame["prompt_id"])
    order, counts = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts = np.cumsum(counts) - counts
    values = np.full(len(prompts), np.nan)
    for count in np.unique(counts):
        of_count = np.flatnonzero(counts == count)
        rows = order[starts[of_count][:, None] + np.arange(count)]
        values[of_count] = function(*(column[rows] for column in columns))
    return values


def _accuracies(rewards: Array, gold: Array) -> Array:
    """Share of each prompt's pairs of different gold (P,) that the rewards (P, n) order alike."""
    i, j = np.triu_indices(rewards.shape[1], k=1)
    order = np.sign(gold[:, i] - gold[:, j])
    agreeing = (rewards[:, i] - rewards[:, j]) * order > 0
    with np.errstate(invalid="ignore"):
        return np.asarray((agreeing & (order != 0)).sum(1) / (order != 0).sum(1))


def _ties(rewards: Array) -> Array:
    i, j = np.triu_indices(rewards.shape[1], k=1)
    return np.asarray((rewards[:, i] == rewards[:, j]).sum(1), np.float64)


def _rm_bench(frame: pd.DataFrame, rewards: Array) -> Values:
    """Accuracies in percent, linearised, and what the easy comparisons are above the hard ones.

    The style gap is accuracy where the better response has the richer style minus accuracy where
    the worse one has: 0 for a reward that style cannot bribe. It is over the domains that are
    there, where the others need all four.
    """
    prompts = rm_bench.per_prompt(frame, rewards)
    values = {}
    for name in rm_bench.METRICS:
        masks = rm_bench.domain_masks(name, prompts["domain"])
        values[name] = stratified_mean(rm_bench.metric_percent(prompts, name)[None], masks)
    gap = rm_bench.metric_percent(prompts, "easy") - rm_bench.metric_percent(prompts, "hard")
    domains = [rm_bench.domain_masks(name, prompts["domain"]) for name in rm_bench.FILES]
    values[STYLE_GAP] = stratified_mean(gap[None], [mask for masks in domains for mask in masks])
    return values
