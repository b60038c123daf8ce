"""Table columns of an estimate and of a paired difference."""

from typing import Any

import numpy as np

from ..statistics import Array, Estimate


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
    """Table columns of a paired difference."""
    return {
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "p_value": gap.p_value,
    }
