"""The reward that a policy is optimised against: a reward model, called with texts."""

import math
from pathlib import Path

import torch
from safetensors import safe_open

from ..errors import InputError
from ..models import chat
from ..models.reward_model import load
from ..models.scoring import score_ids


class ProxyReward:
    """A reward model as a function of prompts and completions, as texts.

    Each pair is rendered by the reward model's own tokenizer and template and scored unpadded, so
    a reward equals what the command `score` computes for that text, whatever the policy's
    tokenizer is (D15); with `dtype` bfloat16 up to that type's rounding of the body, in half the
    memory. An empty completion, the end token at once, is an empty turn.
    """

    def __init__(
        self, folder: Path, batch_tokens: int, device: torch.device, dtype: str = "float32"
    ) -> None:
        self.model, self.tokenizer = load(folder, getattr(torch, dtype))
        # In bfloat16 the head would round rewards into ties (D39).
        with safe_open(folder / "model.safetensors", "pt") as file:
            self.model.score.weight.data = file.get_tensor("score.weight").float()
        self.model.to(device)
        self.batch_tokens = batch_tokens
        self.context: int = self.model.config.max_position_embeddings

    def __call__(self, prompts: list[str], completions: list[str]) -> list[float]:
        """Rewards in order; InputError names a pair that is too long or has no finite reward."""
        sequences = chat.pair_ids(self.tokenizer, prompts, completions)
        for row, sequence in enumerate(sequences):
            if len(sequence) > self.context:
                raise InputError(
                    _named(prompts[row], completions[row]),
                    f"{len(sequence)} tokens for the reward model",
                    f"{self.context} or fewer, its context",
                    "lower rloo.prompt_length or rloo.response_length",
                )
        scores = score_ids(self.model, sequences, self.batch_tokens, prompts)
        rewards = [float(reward) for reward in scores.rewards]
        for row, reward in enumerate(rewards):
            if not math.isfinite(reward):
                raise InputError(
                    _named(prompts[row], completions[row]), f"a reward of {reward}", "a finite one"
                )
        return rewards


def _named(prompt: str, completion: str) -> str:
    """Name a pair in an error message."""
    return f"prompt {prompt[:60]!r}, completion {completion[:60]!r}"
