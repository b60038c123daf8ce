"""Exact scoring: evaluation, probes and RLOO all compute rewards with `score_ids`.

A score is what a batch of one gives, up to float rounding. The responses of a prompt are read as a
prompt tree (packing.py), many prompts in one row; a model that cannot read these gets sequences of
equal length together. Nothing is ever padded or masked.

A decoder is read at the last token of the rendered chat that is no padding, as its own classifier
does (D22). Any other classifier, such as an encoder, is read by its own forward pass: of the
rendered chat where its tokenizer has a template, else of the pair (prompt, response) as its
tokenizer joins one, with token types. The hidden state h is what the last layer of the head takes.
"""

import inspect
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
from .heads import context, head, reads_last_token
from .memory import out_of_memory
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


class Texts(NamedTuple):
    """Tokens of each text without padding, and their token types where the model takes these."""

    ids: list[list[int]]
    types: list[list[int]] | None = None


class Plan(NamedTuple):
    """What a model will read: sequences without padding, their prompts, and the batches.

    `rows` are the numbers of the sequences' rows in the frame that was planned: all of them, unless
    prompts were left out.
    """

    sequences: list[list[int]]
    prompts: Sequence[Hashable]
    batches: list[Batch]
    trees: bool
    rows: np.ndarray
    types: list[list[int]] | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all batches."""
        return sum(batch.tokens for batch in self.batches)


def texts_of(model: Any, tokenizer: Any, frame: pd.DataFrame) -> Texts:
    """Tokens of a frame's responses with their prompts, as `model` reads them.

    Raises InputError for a decoder without a chat template: a reward is not read at a token that it
    was not trained to be read at.
    """
    if tokenizer.chat_template is None and not reads_last_token(model):
        ids, types = chat.plain_pairs(tokenizer, frame)
        typed = "token_type_ids" in inspect.signature(model.forward).parameters
        return Texts(ids, types if typed else None)
    return Texts(unpadded(model, chat.frame_ids(tokenizer, frame)))


def too_long(model: Any, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Whether each sequence of `texts_of` has more tokens than the model can read (N,)."""
    limit = context(model) or np.inf
    return np.array([len(each) > limit for each in ids], bool)


def unpadded(model: Any, ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Sequences up to the token at which a decoder's reward is read, by one rule for all callers.

    The padding is config.json's, and so may be an end token that the template writes. Another
    model's sequences are read whole.
    """
    pad = model.config.get_text_config().pad_token_id if reads_last_token(model) else None
    return without_padding(ids, pad)


def plan_frame(
    model: Any,
    tokenizer: Any,
    frame: pd.DataFrame,
    batch_tokens: int,
    *,
    skip_long: bool = False,
    fix: str = "responses are never cut: shorten it (splits.max_characters)",
) -> Plan:
    """Plan the scoring of the responses in a frame: prompt_id, response_id, prompt, response.

    Raises InputError for a response that exceeds the model's context, with the cure `fix`; with
    `skip_long` all responses of its prompt are left out of `Plan.rows`, which may leave none.
    """
    texts = texts_of(model, tokenizer, frame)
    rows, long = np.arange(len(frame)), too_long(model, texts.ids)
    if skip_long and long.any():
        prompts = frame["prompt_id"]
        rows = np.flatnonzero(~prompts.isin(prompts[long]))
        types = texts.types and [texts.types[row] for row in rows]
        texts = Texts([texts.ids[row] for row in rows], types)
    named = frame.iloc[rows]
    names = [f"response {response}" for response in named["response_id"]]
    plan = _plan(model, texts, batch_tokens, list(named["prompt_id"]), names, fix)
    return plan._replace(rows=rows)


def plan_for(
    model: Any,
    sequences: list[list[int]],
    batch_tokens: int,
    prompts: Sequence[Hashable] | None = None,
    names: Sequence[str] | None = None,
    fix: str = "",
) -> Plan:
    """Plan the reading of token sequences; those of equal `prompts` (N,) share their beginning.

    `batch_tokens` bounds a batch's size, 0 means one sequence at a time. Raises InputError when a
    sequence does not fit the model, or has a token that it has no embedding of; `names` (N,) are
    the sequences' in it, `fix` is what to do.
    """
    names = names or [f"row {row}" for row in range(len(sequences))]
    prompts = range(len(sequences)) if prompts is None else prompts
    return _plan(model, Texts(unpadded(model, sequences)), batch_tokens, prompts, names, fix)


def _plan(
    model: Any,
    texts: Texts,
    batch_tokens: int,
    prompts: Sequence[Hashable],
    names: Sequence[str],
    fix: str,
) -> Plan:
    """Check texts without padding and cut them into batches, as `plan_for`."""
    sequences, limit = texts.ids, context(model)
    words = model.get_input_embeddings().weight.shape[0]
    for name, sequence in zip(names, sequences, strict=True):
        if limit and len(sequence) > limit:
            found = f"{len(sequence)} tokens with its prompt"
            raise InputError(name, found, f"{limit} or fewer, the model's context", fix)
        if max(sequence, default=0) >= words:
            found = f"token {max(sequence)} for a model of {words} embeddings"
            raise InputError(name, found, "a token of the model", "its tokenizer is another's")
    lengths = [len(sequence) for sequence in sequences]
    trees = batch_tokens > 0 and packs(model, max(lengths, default=0))
    if trees:
        batches = [Batch(*batch) for batch in tree_batches(sequences, prompts, batch_tokens)]
    else:
        # A classifier of transformers that knows no padding token refuses several sequences.
        several = reads_last_token(model) or model.config.get_text_config().pad_token_id is not None
        batches = [
            Batch([[row] for row in rows], len(rows) * lengths[rows[0]])
            for rows in equal_length_batches(
                lengths, batch_tokens if several else 0, longest_first=True
            )
        ]
    return Plan(sequences, prompts, batches, trees, np.arange(len(sequences)), texts.types)


def score_ids(
    model: Any,
    sequences: list[list[int]],
    batch_tokens: int,
    prompts: Sequence[Hashable] | None = None,
    label: str | None = None,
) -> Scores:
    """Score token sequences; arguments and errors as in `plan_for`.

    The hidden state h of a decoder is the last layer's, after the final norm, at the last token
    that is no padding; the reward is W_p . h, both in float32 (D39, D45).
    """
    plan = plan_for(model, sequences, batch_tokens, prompts)
    return scores_of(model, plan, Progress(label, plan.tokens, "tokens") if label else None)


def scores_of(model: Any, plan: Plan, progress: Progress | None = None) -> Scores:
    """Score what is planned, as `score_ids`."""
    count = len(plan.sequences)
    rewards = np.empty(count, np.float32)
    hidden = np.empty((count, head(model).in_features), np.float32)
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
    last, training = head(model), model.training
    weight = whole_weight(last.weight).float()
    bias = 0.0 if last.bias is None else whole_weight(last.bias).float()
    body = _body(model) if reads_last_token(model) else _Whole(model)
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
                rewards = (states @ weight.T + bias).squeeze(-1)
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
        if isinstance(body, _Whole):
            types = plan.types and [plan.types[row] for (row,) in groups]
            return body(tokens, None if types is None else torch.tensor(types, device=device))
        return body(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]  # type: ignore[no-any-return]
    except RuntimeError as error:
        # The other processes of a sharded model would wait for this one for ever.
        if not out_of_memory(error) or is_sharded(model):
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


def is_sharded(model: Any) -> bool:
    """Whether processes share the model's weights (FSDP2), so that all of them must score."""
    return isinstance(model, FSDPModule)


def whole_weight(weight: torch.Tensor) -> torch.Tensor:
    """A weight as one tensor, gathered where processes share it."""
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach()


class _Whole:
    """A classifier's own forward pass, which gives what the last layer of its head takes."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, tokens: Tensor, types: Tensor | None) -> Tensor:
        """States (B, H) of tokens (B, T), and token types of the same shape.

        Raises InputError where the logit is not what the last layer makes of one state.
        """
        taken: list[Tensor] = []
        last = head(self.model)
        hook = last.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            more = {} if types is None else {"token_type_ids": types}
            logits = self.model(input_ids=tokens, **more).logits
        finally:
            hook.remove()
        (states,) = taken
        states = states if states.dim() == 2 else states[:, -1]  # of every token, as CTRL's
        if not torch.allclose(last(states), logits, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise InputError(
                self.model.name_or_path,
                f"a {type(self.model).__name__} whose reward is no product of one hidden state",
                "a reward read at one token or at a mean of them",
            )
        return states


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
    plan = plan_frame(model, tokenizer, split, batch_tokens)
    progress = Progress(label, plan.tokens, "tokens") if label else None
    return score_plan(model, plan, split, progress, log)


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
