"""The reward that a policy is optimised against: a reward model, called with texts."""

import math
from pathlib import Path

import torch

from ..errors import InputError
from ..models import chat
from ..models.heads import context
from ..models.reward_model import load
from ..models.scoring import plan_for, scores_of


class ProxyReward:
    """A reward model as a function of prompts and completions, as texts.

    Each pair is rendered by the reward model's own tokenizer and template and scored unpadded, so
    a reward equals what the command `score` computes for that text, whatever the policy's
    tokenizer is (D15) where both have one format; `dtype` bfloat16 rounds the body alone (D48), in
    half the memory. An empty completion, the end token at once, is an empty turn.
    """

    def __init__(
        self, folder: Path, batch_tokens: int, device: torch.device, dtype: str = "float32"
    ) -> None:
        self.model, self.tokenizer = load(folder, dtype)
        self.model.to(device)
        self.batch_tokens = batch_tokens
        self.context = context(self.model)

    def __call__(self, prompts: list[str], completions: list[str]) -> list[float]:
        """Rewards in order; InputError names a pair that is too long or has no finite reward."""
        sequences = chat.pair_ids(self.tokenizer, prompts, completions)
        names = [_named(*pair) for pair in zip(prompts, completions, strict=True)]
        fix = "lower rloo.prompt_length or rloo.response_length"
        plan = plan_for(self.model, sequences, self.batch_tokens, prompts, names, fix)
        scores = scores_of(self.model, plan)
        rewards = [float(reward) for reward in scores.rewards]
        for row, reward in enumerate(rewards):
            if not math.isfinite(reward):
                raise InputError(names[row], f"a reward of {reward}", "a finite one")
        return rewards


def _named(prompt: str, completion: str) -> str:
    """Name a pair in an error message."""
    return f"prompt {prompt[:60]!r}, completion {completion[:60]!r}"
