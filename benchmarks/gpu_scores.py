"""Checks of the scorer: batches of any size, and the formats of `scoring.dtype` (D48)."""

from argparse import Namespace
from typing import Any

import numpy as np
from gpu_number import Number
from gpu_world import CUT, world

from rm_robustness.evaluation.float32_sample import with_float32
from rm_robustness.frames import read_frame
from rm_robustness.models.reward_model import load
from rm_robustness.models.scoring import score

BATCHES = (512, 4096, 16384)  # tokens of a row; each is compared with 0, one sequence at a time


def _loaded(options: Namespace, dtype: str) -> tuple[Any, Any]:
    model, tokenizer = load(world(options).reward_model, dtype)
    return model.to(options.device), tokenizer


def batches(options: Namespace) -> list[Number]:
    """Rewards do not depend on the batch: the largest difference, in standard deviations."""
    split, numbers = read_frame(world(options).splits / "mutual_disjoint.parquet"), []
    for dtype, bound in (("float32", 1e-4), ("bfloat16", 0.1)):
        model, tokenizer = _loaded(options, dtype)
        alone = score(model, tokenizer, split, 0)["reward"].to_numpy()
        for tokens in BATCHES:
            rewards = score(model, tokenizer, split, tokens)["reward"].to_numpy()
            moved = float(np.abs(rewards - alone).max() / alone.std())
            numbers.append(Number(f"{dtype}, rows of {tokens} tokens", moved, most=bound))
    return numbers


def scoring(options: Namespace) -> list[Number]:
    """The other formats against the float32 sample (`scoring.float32_prompts`)."""
    split, numbers = read_frame(world(options).splits / "mutual_disjoint.parquet"), []
    for dtype, bound in (("tf32", 0.02), ("bfloat16", 0.05)):
        scores = score(*_loaded(options, dtype), split, BATCHES[-1])
        sample = CUT["evaluation_prompts"], BATCHES[-1]
        scores = with_float32(scores, split, *_loaded(options, "float32"), *sample)
        rewards, exact = (scores[name].to_numpy() for name in ("reward", "reward_float32"))
        moved = float(np.sqrt(np.mean((rewards - exact) ** 2)) / exact.std())
        numbers.append(Number(f"{dtype}, rewards move by sds", moved, most=bound))
        order = _signs(rewards) != _signs(exact)
        numbers.append(Number(f"{dtype}, share of pairs reordered", order.mean(), most=bound))
    return numbers


def _signs(rewards: np.ndarray) -> np.ndarray:
    """The order of every two responses, whatever their prompts (N(N-1)/2,)."""
    return np.sign(rewards[:, None] - rewards)[np.triu_indices(len(rewards), 1)]
