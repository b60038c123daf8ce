"""Exact scoring: evaluation, probes and RLOO all compute rewards with `score_ids`.

A score is what a batch of one gives. Sequences of equal length share a batch, so nothing is ever
padded or masked, and a score cannot depend on what it was batched with beyond float rounding.
"""

import types
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ..errors import InputError
from ..frames import check_texts
from ..progress import Progress
from . import chat
from .batching import equal_length_batches
from .score_log import ScoreLog


class Scores(NamedTuple):
    """Rewards (N,), pooled hidden states (N, H), token counts (N,), in the sequences' order."""

    rewards: np.ndarray
    hidden: np.ndarray
    n_tokens: np.ndarray


def score_ids(
    model: Any, sequences: list[list[int]], batch_tokens: int, label: str | None = None
) -> Scores:
    """Score token sequences.

    The pooled hidden state h is the last layer's, after the final norm, at the last token that is
    no padding; the reward is W_p . h, both in float32 (D39, D45). `batch_tokens` bounds a batch's
    size, 0 means one sequence at a time. Raises InputError when a sequence does not fit the model.
    """
    limit = model.config.max_position_embeddings
    sequences = _without_padding(model, sequences)
    lengths = [len(sequence) for sequence in sequences]
    for row, length in enumerate(lengths):
        if length > limit:
            raise InputError(f"row {row}", f"{length} tokens", f"{limit} or fewer")
    rewards = np.empty(len(sequences), np.float32)
    hidden = np.empty((len(sequences), model.config.hidden_size), np.float32)
    for batch, batch_rewards, states in _batches(model, sequences, batch_tokens, label):
        rewards[batch], hidden[batch] = batch_rewards, states
    return Scores(rewards, hidden, np.array(lengths, np.int64))


@torch.no_grad()
def _batches(
    model: Any,
    sequences: list[list[int]],
    batch_tokens: int,
    label: str | None,
    done: Collection[int] = (),
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield rows, rewards (B,) and pooled states (B, H) of each batch whose rows are not `done`."""
    head, training = whole_weight(model.score.weight).float(), model.training
    body = _body(model)
    model.eval()
    progress = Progress(label, len(sequences), "responses", len(done)) if label else None
    for batch in equal_length_batches([len(sequence) for sequence in sequences], batch_tokens):
        if batch[0] in done:
            continue
        tokens = torch.tensor([sequences[row] for row in batch], device=model.device)
        states = body(input_ids=tokens, use_cache=False).last_hidden_state
        pooled = states[:, -1].float()
        rewards = (pooled @ head.T).squeeze(-1)
        yield batch, rewards.cpu().numpy(), pooled.cpu().numpy()
        if progress:
            progress.update(progress.done + len(batch))
    model.train(training)


def _without_padding(model: Any, sequences: list[list[int]]) -> list[list[int]]:
    """Drop padding tokens at the end, as a transformers classifier does when it reads the reward.

    Many models were trained with EOS as the padding token, and so never read the reward at EOS
    (D22).
    """
    pad, ends = model.config.pad_token_id, []
    for ids in sequences:
        end = len(ids)
        while end > 1 and ids[end - 1] == pad:
            end -= 1
        ends.append(end)
    return [ids[:end] for ids, end in zip(sequences, ends, strict=True)]


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
    model: Any,
    tokenizer: Any,
    split: pd.DataFrame,
    batch_tokens: int,
    label: str | None = None,
    log: ScoreLog | None = None,
) -> pd.DataFrame:
    """Score a split: a row per response with reward, hidden_norm (L2) and n_tokens.

    `split` has prompt_id, response_id, prompt, response, response_model and gold. Finished batches
    go into `log`, and those that are in it are not scored again. Raises InputError for an empty
    response, for what is no text and for a response that does not fit the model's length.
    """
    check_texts(split, ["prompt"])
    check_texts(split, ["response"], filled=True)
    sequences = _without_padding(model, chat.frame_ids(tokenizer, split))
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
    values = np.empty((len(sequences), 2))  # reward, hidden_norm
    done = log.done if log else {}
    for row, scores in done.items():
        values[row] = scores
    for batch, rewards, hidden in _batches(model, sequences, batch_tokens, label, done):
        norms = np.linalg.norm(hidden.astype(np.float64), axis=1)
        values[batch] = np.stack([rewards, norms], axis=1)
        if log:
            log.add(batch, values[batch])
    keys = split[["prompt_id", "response_id", "response_model", "gold"]].reset_index(drop=True)
    return keys.assign(
        reward=values[:, 0],
        hidden_norm=values[:, 1],
        n_tokens=np.array([len(sequence) for sequence in sequences], np.int64),
    )[["prompt_id", "response_id", "response_model", "reward", "gold", "hidden_norm", "n_tokens"]]
