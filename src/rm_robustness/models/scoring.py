"""Exact scoring: evaluation, probes and RLOO all compute rewards with `score_ids`.

A score is what a batch of one gives, up to float rounding. The responses of a prompt are read as a
prompt tree (packing.py), many prompts in one row; a model that cannot read these gets sequences of
equal length together. Nothing is ever padded or masked.
"""

import types
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ..errors import InputError
from ..frames import check_texts
from ..progress import Progress
from . import chat
from .batching import equal_length_batches
from .packing import NAME as TREES
from .packing import attention, packs, row_of, stock_attention, tree_batches, without_padding
from .score_log import ScoreLog


class Scores(NamedTuple):
    """Rewards (N,), pooled hidden states (N, H), token counts (N,), in the sequences' order."""

    rewards: np.ndarray
    hidden: np.ndarray
    n_tokens: np.ndarray


class Batch(NamedTuple):
    """Numbers of the sequences of each prompt that are read together, and the tokens of them."""

    groups: list[list[int]]
    tokens: int

    @property
    def rows(self) -> list[int]:
        """The numbers of all its sequences."""
        return [row for group in self.groups for row in group]


class Plan(NamedTuple):
    """What a model will read: sequences without padding, their prompts, and the batches."""

    sequences: list[list[int]]
    prompts: Sequence[Hashable]
    batches: list[Batch]
    trees: bool

    @property
    def tokens(self) -> int:
        """Tokens of all batches."""
        return sum(batch.tokens for batch in self.batches)


def plan_for(
    model: Any,
    sequences: list[list[int]],
    batch_tokens: int,
    prompts: Sequence[Hashable] | None = None,
) -> Plan:
    """Plan the reading of token sequences; those of equal `prompts` (N,) share their beginning.

    `batch_tokens` bounds a batch's size, 0 means one sequence at a time. Raises InputError when a
    sequence does not fit the model.
    """
    limit = model.config.max_position_embeddings
    sequences = without_padding(sequences, model.config.get_text_config().pad_token_id)
    for row, sequence in enumerate(sequences):
        if len(sequence) > limit:
            raise InputError(f"row {row}", f"{len(sequence)} tokens", f"{limit} or fewer")
    prompts = range(len(sequences)) if prompts is None else prompts
    trees = batch_tokens > 0 and packs(model)
    if trees:
        batches = [Batch(*batch) for batch in tree_batches(sequences, prompts, batch_tokens)]
    else:
        lengths = [len(sequence) for sequence in sequences]
        batches = [
            Batch([[row] for row in rows], len(rows) * lengths[rows[0]])
            for rows in equal_length_batches(lengths, batch_tokens, longest_first=True)
        ]
    return Plan(sequences, prompts, batches, trees)


def score_ids(
    model: Any,
    sequences: list[list[int]],
    batch_tokens: int,
    prompts: Sequence[Hashable] | None = None,
    label: str | None = None,
) -> Scores:
    """Score token sequences; arguments and errors as in `plan_for`.

    The pooled hidden state h is the last layer's, after the final norm, at the last token that is
    no padding; the reward is W_p . h, both in float32 (D39, D45).
    """
    plan = plan_for(model, sequences, batch_tokens, prompts)
    return scores_of(model, plan, Progress(label, plan.tokens, "tokens") if label else None)


def scores_of(model: Any, plan: Plan, progress: Progress | None = None) -> Scores:
    """Score what is planned, as `score_ids`."""
    count = len(plan.sequences)
    rewards = np.empty(count, np.float32)
    hidden = np.empty((count, model.config.get_text_config().hidden_size), np.float32)
    for rows, batch_rewards, states in read(model, plan, progress):
        rewards[rows], hidden[rows] = batch_rewards, states
    return Scores(rewards, hidden, np.array(list(map(len, plan.sequences)), np.int64))


@torch.no_grad()
def read(
    model: Any, plan: Plan, progress: Progress | None = None, done: Collection[int] = ()
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield rows, rewards (B,) and pooled states (B, H) of each batch whose rows are not `done`.

    `progress` counts tokens. A batch that does not fit the memory is read in two halves; raises
    InputError, with the prompt, when one of these does not fit either.
    """
    head, training = whole_weight(model.score.weight).float(), model.training
    body = _body(model)
    model.eval()
    try:
        with attention(model, TREES if plan.trees else stock_attention(model)):
            for batch in plan.batches:
                rows = batch.rows
                if all(row in done for row in rows):
                    if progress:
                        progress.skip(batch.tokens)
                    continue
                states = _pooled(body, model, plan, batch.groups).float()
                rewards = (states @ head.T).squeeze(-1)
                yield rows, rewards.cpu().numpy(), states.cpu().numpy()
                if progress:
                    progress.update(progress.done + batch.tokens)
    finally:
        model.train(training)


def _pooled(
    body: Callable[..., Any],
    model: Any,
    plan: Plan,
    groups: list[list[int]],
    in_halves: bool = False,
) -> Tensor:
    """Pooled states (B, H) of a batch; if it does not fit the memory, of one half after another."""
    device, middle = model.device, len(groups) // 2
    try:
        if plan.trees:
            row = row_of([[plan.sequences[number] for number in group] for group in groups])
            states = body(**row.inputs(device), use_cache=False).last_hidden_state
            return states[0, row.ends]  # type: ignore[no-any-return]
        tokens = torch.tensor([plan.sequences[row] for (row,) in groups], device=device)
        return body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]  # type: ignore[no-any-return]
    except RuntimeError as error:
        # The other processes of a sharded model would wait for this one for ever.
        if not _out_of_memory(error) or is_sharded(model):
            raise
        if in_halves or not middle:
            longest = max(len(plan.sequences[row]) for row in groups[0])
            raise InputError(
                f"prompt {plan.prompts[groups[0][0]]}",
                f"{len(groups[0])} responses, the longest of {longest} tokens, and no memory for "
                f"the {len(groups)} prompts of their batch on {device}",
                "a batch that fits",
                "lower batch_tokens, or use a device with more memory",
            ) from error
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return torch.cat(
        [_pooled(body, model, plan, part, True) for part in (groups[:middle], groups[middle:])]
    )


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether torch found too little memory; for the CPU's it has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


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
    plan = plan_of_split(model, tokenizer, split, batch_tokens)
    progress = Progress(label, plan.tokens, "tokens") if label else None
    return score_plan(model, plan, split, progress, log)


def plan_of_split(model: Any, tokenizer: Any, split: pd.DataFrame, batch_tokens: int) -> Plan:
    """Plan the scoring of a split; arguments and errors as in `score`."""
    check_texts(split, ["prompt"])
    check_texts(split, ["response"], filled=True)
    pad = model.config.get_text_config().pad_token_id
    sequences = without_padding(chat.frame_ids(tokenizer, split), pad)
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
    return plan_for(model, sequences, batch_tokens, list(split["prompt_id"]))


def score_plan(
    model: Any,
    plan: Plan,
    split: pd.DataFrame,
    progress: Progress | None = None,
    log: ScoreLog | None = None,
) -> pd.DataFrame:
    """Score a split by its plan, which may serve many models of one tokenizer; as `score`."""
    values = np.empty((len(split), 2))  # reward, hidden_norm
    done = log.restore(values) if log else {}
    for rows, rewards, hidden in read(model, plan, progress, done):
        norms = np.linalg.norm(hidden.astype(np.float64), axis=1)
        values[rows] = np.stack([rewards, norms], axis=1)
        if log:
            log.add(rows, values[rows])
    keys = split[["prompt_id", "response_id", "response_model", "gold"]].reset_index(drop=True)
    return keys.assign(
        reward=values[:, 0],
        hidden_norm=values[:, 1],
        n_tokens=np.array(list(map(len, plan.sequences)), np.int64),
    )[["prompt_id", "response_id", "response_model", "reward", "gold", "hidden_norm", "n_tokens"]]
