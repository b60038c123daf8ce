"""Table columns of an estimate, of a paired difference, and of a comparison with the paper's."""

from typing import Any

import numpy as np

from ..pivot import Array
from ..statistics import Estimate

DIFFERENCE = [
    *("difference", "difference_low", "difference_high", "p_value", "mdd80"),
    *("seed_sd", "prompt_sd", "noise_sd"),
]
AGAINST_PAPER = ["contains_paper", "ratio", "ratio_low", "ratio_high", "bf_paper"]


def estimate_columns(estimate: Estimate, values: Array) -> dict[str, Any]:
    """Table columns of an estimate of values (S, P): seeds by prompts, NaN where undefined."""
    measured = ~np.isnan(values)
    sums = np.where(measured, values, 0.0).sum(axis=1)
    seeds = [
        total / count for total, count in zip(sums, measured.sum(axis=1), strict=True) if count
    ]
    return {
        "value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "seed_std": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else np.nan,
        "n_prompts": estimate.n_prompts,
        "n_undefined": int((~measured).sum()),
    }


def difference_columns(gap: Estimate) -> dict[str, Any]:
    """Table columns `DIFFERENCE` of a paired difference.

    `mdd80` is the smallest true difference that the design finds with 80% at 5%; `seed_sd`,
    `prompt_sd` and `noise_sd` are the standard deviations of a seed's, a prompt's and a single
    entry's difference, each net of the others.
    """
    return {
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "p_value": gap.p_value,
        "mdd80": gap.smallest_found(),
        **gap.components(),
    }


def against_paper(estimate: Estimate, paper: float) -> dict[str, Any]:
    """Table columns `AGAINST_PAPER`: what the estimate says of the paper's number of the same.

    Whether the interval contains it; estimate / paper with its interval; and the Bayes factor of an
    effect of about the paper's size over none (`pivot.Spread.bayes_factor`). Empty without the
    paper's number or an interval; no ratio and no factor to a number of 0.
    """
    if np.isnan(paper) or np.isnan(estimate.low):
        return {}
    columns: dict[str, Any] = {"contains_paper": estimate.low <= paper <= estimate.high}
    if paper != 0 and estimate.high > estimate.low:
        low, high = sorted((estimate.low / paper, estimate.high / paper))
        columns |= {"ratio": estimate.value / paper, "ratio_low": low, "ratio_high": high}
        columns["bf_paper"] = estimate.spread.bayes_factor(estimate.value, paper)
    return columns
