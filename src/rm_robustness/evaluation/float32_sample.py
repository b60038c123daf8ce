"""Rewards in float32 of a sample of each scenario, where models score in another format (D48)."""

from typing import Any

import numpy as np
import pandas as pd

from ..models.scoring import score


def with_float32(
    scores: pd.DataFrame,
    split: pd.DataFrame,
    model: Any,
    tokenizer: Any,
    prompts: int,
    batch_tokens: int,
    label: str | None = None,
) -> pd.DataFrame:
    """Add the column `reward_float32` to the scores of a split, in its order.

    `model` is the same reward model, loaded in float32. It scores the responses of the first
    `prompts` prompts of the split, in the order of their first rows; the others have NaN.
    """
    first = split["prompt_id"].drop_duplicates()[:prompts]
    sampled = split["prompt_id"].isin(first).to_numpy()
    rewards = np.full(len(split), np.nan)
    sample = split[sampled].reset_index(drop=True)
    rewards[sampled] = score(model, tokenizer, sample, batch_tokens, label)["reward"]
    return scores.assign(reward_float32=rewards)
