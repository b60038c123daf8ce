"""Exact scoring: evaluation, probes and RLOO all compute rewards with `score_ids`.

A score is what a batch of one gives. Sequences of equal length share a batch, so nothing is ever
padded or masked, and a score cannot depend on what it was batched with beyond float rounding.
"""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ..errors import InputError
from ..progress import Progress
from . import chat
from .batching import equal_length_batches


class Scores(NamedTuple):
    """Rewards (N,), pooled hidden states (N, H), token counts (N,), in the sequences' order."""

    rewards: np.ndarray
    hidden: np.ndarray
    n_tokens: np.ndarray


@torch.no_grad()
def score_ids(
    model: Any, sequences: list[list[int]], batch_tokens: int, label: str | None = None
) -> Scores:
    """Score token sequences.

    The pooled hidden state h is the last layer's, after the final norm, at the last token that is
    no padding; the reward is W_p . h, both in float32 (D39, D45). `batch_tokens` bounds a batch's
    size, 0 means one sequence at a time. Raises InputError when a sequence does not fit the model.
    """
    limit = model.config.max_position_embeddings
    sequences = [_without_padding(sequence, model.config.pad_token_id) for sequence in sequences]
    lengths = [len(sequence) for sequence in sequences]
    for row, length in enumerate(lengths):
        if length > limit:
            raise InputError(f"row {row}", f"{length} tokens", f"{limit} or fewer")
    rewards = np.empty(len(sequences), np.float32)
    hidden = np.empty((len(sequences), model.config.hidden_size), np.float32)
    progress = Progress(label, len(sequences), "responses") if label else None
    head, training, done = whole_weight(model.score.weight).float(), model.training, 0
    body = _body(model)
    model.eval()
    for batch in equal_length_batches(lengths, batch_tokens):
        tokens = torch.tensor([sequences[row] for row in batch], device=model.device)
        states = body(input_ids=tokens, use_cache=False).last_hidden_state
        pooled = states[:, -1].float()
        hidden[batch] = pooled.cpu().numpy()
        rewards[batch] = (pooled @ head.T).squeeze(-1).cpu().numpy()
        done += len(batch)
        if progress:
            progress.update(done)
    model.train(training)
    return Scores(rewards, hidden, np.array(lengths, np.int64))


def _without_padding(ids: list[int], pad: int | None) -> list[int]:
    """Drop padding tokens at the end, as a transformers classifier does when it reads the reward.

    Many models were trained with EOS as the padding token, and so never read the reward at EOS
    (D22).
    """
    end = len(ids)
    while end > 1 and ids[end - 1] == pad:
        end -= 1
    return ids[:end]


def is_sharded(model: Any) -> bool:
    """Whether processes share the model's weights (FSDP2), so that all of them must score."""
    return isinstance(model, FSDPModule)


def whole_weight(weight: torch.Tensor) -> torch.Tensor:
    """A weight as one tensor, gathered where processes share it."""
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach()


def _body(model: Any) -> Callable[..., Any]:
    """The model without its head. FSDP2 gathers weights only in methods registered with it."""
    if not is_sharded(model):
        return model.base_model  # type: ignore[no-any-return]
    model.read = types.MethodType(lambda self, **inputs: self.base_model(**inputs), model)
    register_fsdp_forward_method(model, "read")
    return model.read  # type: ignore[no-any-return]


def score(
    model: Any, tokenizer: Any, split: pd.DataFrame, batch_tokens: int, label: str | None = None
) -> pd.DataFrame:
    """Score a split: a row per response with reward, hidden_norm (L2) and n_tokens.

    `split` has prompt_id, response_id, prompt, response, response_model and gold.
    Raises InputError for an empty response and for one that does not fit the model's length.
    """
    empty = split["response"].str.strip() == ""
    if empty.any():
        where = f"response {split['response_id'][empty].iloc[0]}"
        raise InputError(where, "an empty response", "some text")
    sequences = chat.frame_ids(tokenizer, split)
    limit = model.config.max_position_embeddings
    for row, sequence in enumerate(sequences):
        if len(sequence) > limit:
            response = tokenizer(split["response"].iloc[row], add_special_tokens=False)
            raise InputError(
                f"response {split['response_id'].iloc[row]}",
                f"{len(sequence)} tokens with its prompt, {len(response['input_ids'])} alone",
                f"{limit} or fewer",
                "lower splits.max_characters: responses are never cut",
            )
    scores = score_ids(model, sequences, batch_tokens, label)
    keys = split[["prompt_id", "response_id", "response_model", "gold"]].reset_index(drop=True)
    return keys.assign(
        reward=scores.rewards.astype(np.float64),
        hidden_norm=np.linalg.norm(scores.hidden.astype(np.float64), axis=1),
        n_tokens=scores.n_tokens,
    )[["prompt_id", "response_id", "response_model", "reward", "gold", "hidden_norm", "n_tokens"]]
