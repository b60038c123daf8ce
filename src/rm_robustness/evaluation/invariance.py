"""What a transformation changes: the drop of accuracy, and the preferences that flip.

Over all prompts of a set, also those whose texts a transformation could not change: these cannot
flip, and the share of changed texts says how many they are.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from ..pivot import Array
from ..statistics import Estimate, seed_mean
from .transformations import changed_rows

Rows = NDArray[np.int64]


def invariance_rows(
    before: Array,
    after: Array,
    frame: pd.DataFrame,
    other: pd.DataFrame,
    *,
    set_name: str,
    transformation: str,
    model: str,
) -> list[dict[str, Any]]:
    """Rows of estimates from a model's rewards (N,) of a set's texts before and after.

    `frame` has the set, `other` what `transformations.transformed` made of it. All pairs of a
    prompt's responses that differ in gold count, averaged within the prompt:

    - accuracy_drop: accuracy before minus after, a tied reward being wrong (D40)
    - flips: share of the pairs whose preference has another sign, to or from a tie too
    - changed: share of the texts that the transformation changed

    All three are shares, also on RM-Bench. A prompt without such a pair is undefined, and all are
    where no text changed. `after` is read only in the rows that `changed_rows` marks, so that a
    text that is as it was cannot flip by rounding in another batch; elsewhere it may be anything.
    """
    changed = changed_rows(frame, other)
    after = np.where(changed, after, before)
    for name, rewards in (("before", before), ("after", after)):
        wrong = np.flatnonzero(~np.isfinite(rewards))
        if len(wrong):
            where = f"{set_name}, response {frame['response_id'].iloc[wrong[0]]}, {name}"
            raise InputError(where, f"a reward of {rewards[wrong[0]]}", "a finite one")
    chosen, rejected, prompts = _pairs(frame)
    signs = [np.sign(rewards[chosen] - rewards[rejected]) for rewards in (before, after)]
    correct = [(sign > 0).astype(np.float64) for sign in signs]
    n_prompts = frame["prompt_id"].nunique()
    rows = []
    for statistic, of_pairs in (
        ("accuracy_drop", correct[0] - correct[1]),
        ("flips", (signs[0] != signs[1]).astype(np.float64)),
    ):
        values = _by_prompt(of_pairs, prompts, n_prompts)
        if not changed.any():  # 0 would read as a model that does not mind
            values[:] = np.nan
        rows.append(
            {"statistic": statistic}
            | _columns(seed_mean(values[None]), statistic)
            | {"n_undefined": int(np.isnan(values).sum())}
        )
    rows.append({"statistic": "changed", "value": float(changed.mean()), "n_prompts": n_prompts})
    identity = {"set": set_name, "kind": "model", "name": model, "n_seeds": 1}
    return [
        {**identity, "transformation": transformation, **row}
        | {"metric": f"{set_name}_{row['statistic']}"}
        for row in rows
    ]


def _columns(estimate: Estimate, statistic: str) -> dict[str, Any]:
    """Columns of an estimate; a share is no difference, and has no test of being none."""
    columns = {
        "value": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "n_prompts": estimate.n_prompts,
    }
    if statistic == "accuracy_drop":
        columns |= {"p_value": estimate.p_value, "mdd80": estimate.smallest_found()}
    return columns


def _pairs(frame: pd.DataFrame) -> tuple[Rows, Rows, Rows]:
    """Rows of the chosen and of the rejected response of every pair, and its prompt's number."""
    gold = frame["gold"].to_numpy(np.float64)
    codes, _ = pd.factorize(frame["prompt_id"])
    pairs = []
    for rows in pd.Series(range(len(frame))).groupby(codes).agg(list):
        own = np.asarray(rows)
        chosen, rejected = np.nonzero(gold[own][:, None] > gold[own][None, :])
        pairs.append(np.stack([own[chosen], own[rejected], codes[own[chosen]]]))
    chosen, rejected, prompts = np.concatenate(pairs, axis=1)
    return chosen, rejected, prompts


def _by_prompt(values: Array, prompts: Rows, n_prompts: int) -> Array:
    """Means of each prompt's pairs (P,), nan where it has none."""
    sums, counts = (np.bincount(prompts, w, n_prompts) for w in (values, np.ones(len(values))))
    means: Array = np.divide(sums, counts, out=np.full(n_prompts, np.nan), where=counts > 0)
    return means
