"""Prompt trees: many prompts in one row, each read once for all of its responses.

The sequences of a prompt (its rendering with each response) share their longest common prefix of
tokens. A row holds, prompt after prompt, that prefix and then the rest of each sequence, its
branch, whose positions go on behind the prefix. Nothing is padded or masked: attention sees whole
sequences one at a time, and all other parts of a model treat tokens alone. So a reward and its
gradient are those of a batch of one up to rounding, for the tokens P + nR in place of n(P + R).
"""

import functools
import math
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from ..errors import InputError
from .heads import window

NAME = "prompt_trees"  # of the attention, in AttentionInterface

Tree = list[int]  # tokens of the shared prefix, then of each branch
Sequences = Sequence[Sequence[int]]
# Queries, keys and values of whole sequences (1, heads, length, d), and the scale; the outputs.
Attention = Callable[[list[Tensor], list[Tensor], list[Tensor], float | None], list[Tensor]]


class Row(NamedTuple):
    """Some prompts in one row: tokens, positions, trees, and where each sequence ends in it."""

    tokens: list[int]
    positions: list[int]
    trees: list[Tree]
    ends: list[int]

    def inputs(self, device: Any = None) -> dict[str, Any]:
        """Arguments of a model's forward pass for tokens (1, T)."""
        return {
            "input_ids": torch.tensor([self.tokens], device=device),
            "position_ids": torch.tensor([self.positions], device=device),
            "trees": self.trees,
        }


def without_padding(sequences: Sequences, pad: int | None) -> list[list[int]]:
    """Drop padding tokens at the end, as a transformers classifier does when it reads the reward.

    Many models were trained with EOS as the padding token, and so never read the reward at EOS
    (D22).
    """
    ends = []
    for ids in sequences:
        end = len(ids)
        while end > 1 and ids[end - 1] == pad:
            end -= 1
        ends.append(end)
    return [list(ids[:end]) for ids, end in zip(sequences, ends, strict=True)]


def shared_prefix(sequences: Sequences) -> int:
    """Length of the longest common prefix that leaves each sequence a token; 0 for a single one."""
    if len(sequences) < 2:
        return 0
    first, last = min(map(list, sequences)), max(map(list, sequences))
    limit = min(map(len, sequences)) - 1
    return next((n for n in range(limit) if first[n] != last[n]), limit)


def _tree(sequences: Sequences) -> tuple[list[tuple[int, ...]], int]:
    """The distinct sequences of a prompt, in order, and the length of their shared prefix."""
    distinct = list(dict.fromkeys(map(tuple, sequences)))
    return distinct, shared_prefix(distinct)


def tree_tokens(sequences: Sequences) -> int:
    """Number of tokens in a row of one prompt's sequences."""
    distinct, prefix = _tree(sequences)
    return sum(map(len, distinct)) - (len(distinct) - 1) * prefix


def row_of(prompts: Sequence[Sequences]) -> Row:
    """Lay the sequences of some prompts in one row; equal ones of a prompt are read once.

    `ends` has the place of the last token of each sequence, in the order given, prompt by prompt.
    """
    row = Row([], [], [], [])
    for sequences in prompts:
        distinct, prefix = _tree(sequences)
        row.tokens.extend(distinct[0][:prefix])
        row.positions.extend(range(prefix))
        end_of = {}
        for sequence in distinct:
            row.tokens.extend(sequence[prefix:])
            row.positions.extend(range(prefix, len(sequence)))
            end_of[sequence] = len(row.tokens) - 1
        row.trees.append([prefix, *(len(sequence) - prefix for sequence in distinct)])
        row.ends.extend(end_of[tuple(sequence)] for sequence in sequences)
    return row


def rows_by_prompt(prompts: Sequence[Hashable]) -> list[list[int]]:
    """The numbers of the sequences of each prompt, prompts in order of their first one."""
    rows: dict[Hashable, list[int]] = {}
    for number, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(number)
    return list(rows.values())


def tree_batches(
    sequences: Sequences, prompts: Sequence[Hashable], batch_tokens: int
) -> Iterator[tuple[list[list[int]], int]]:
    """Cut prompts into rows of at most `batch_tokens` tokens, or one prompt that alone has more.

    Yields the numbers of the sequences of each prompt of a row, and the row's tokens. Prompts of
    many tokens come first: a row that does not fit the memory fails at once. None is ever split.
    """
    groups = rows_by_prompt(prompts)
    sizes = [tree_tokens([sequences[number] for number in group]) for group in groups]
    batch: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(groups)), key=lambda place: (-sizes[place], place)):
        if batch and tokens + sizes[place] > batch_tokens:
            yield batch, tokens
            batch, tokens = [], 0
        batch.append(groups[place])
        tokens += sizes[place]
    if batch:
        yield batch, tokens


class UnsoundError(Exception):
    """A model asks of attention what prompt trees do not have."""


# What models hand on to their attention that has no influence on it.
NEUTRAL = {"position_ids", "cache_position", "use_cache", "output_attentions", "is_causal"}


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    trees: list[Tree] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of a row's trees, as transformers calls it.

    `query` is (1, heads, T, d), `key` and `value` may have fewer heads; returns (1, T, heads, d).
    The queries of a prefix are computed for each of its sequences and kept once, which costs less
    than a mask would. Raises UnsoundError for a window that a sequence exceeds, a soft cap
    or anything else unknown.
    """
    if trees is not None and not _exceeds(options.get("sliding_window"), trees):
        options["sliding_window"] = None
    asked = sorted(
        name
        for name, option in options.items()
        if name not in NEUTRAL and option is not None and option is not False
    )
    if asked or dropout or attention_mask is not None or not getattr(module, "is_causal", True):
        raise UnsoundError(", ".join(asked) or "attention that is not causal, masked or drops out")
    if trees is None:
        raise UnsoundError("no trees for a row")
    lengths = [length for tree in trees for length in tree]
    q, k, v = (_sequences(trees, torch.split(x, lengths, dim=2)) for x in (query, key, value))
    run: Attention = _one_by_one
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        run = _kernel(query.device, query.dtype, query.shape[-1])
    outputs = run(q, k, v, scaling)
    kept = iter(outputs)
    parts = [
        next(kept)[:, :, prefix if number else 0 :]
        for prefix, *branches in trees
        for number in range(len(branches))
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _exceeds(window: int | None, trees: list[Tree]) -> bool:
    """Whether a sequence has tokens that a sliding window would not let its last one see."""
    return window is not None and any(prefix + max(own) > window for prefix, *own in trees)


def _sequences(trees: list[Tree], parts: Sequence[Tensor]) -> list[Tensor]:
    """Whole sequences from the parts of a row: a prefix and each of its branches."""
    left, whole = iter(parts), []
    for _, *branches in trees:
        prefix = next(left)
        whole += [torch.cat([prefix, next(left)], dim=2) for _ in branches]
    return whole


def _one_by_one(
    queries: list[Tensor], keys: list[Tensor], values: list[Tensor], scaling: float | None
) -> list[Tensor]:
    """Attention of one sequence after the other."""
    groups = queries[0].shape[1] // keys[0].shape[1]
    if queries[0].is_cuda and groups > 1:
        # In float32 a GPU's only kernel for grouped keys is the one that stores all scores.
        keys, values = ([x.repeat_interleave(groups, dim=1) for x in y] for y in (keys, values))
        groups = 1
    return [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=groups > 1)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]


def _varlen(
    queries: list[Tensor], keys: list[Tensor], values: list[Tensor], scaling: float | None
) -> list[Tensor]:
    """The same in one call of FlashAttention, which takes half precision on a GPU."""
    lengths = [q.shape[2] for q in queries]
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=queries[0].device)
    q, k, v = (torch.cat(parts, dim=2)[0].transpose(0, 1) for parts in (queries, keys, values))
    longest, grouped = max(lengths), q.shape[1] != k.shape[1]
    output = varlen_attn(
        *(q, k, v, starts, starts, longest, longest),
        scale=scaling,
        window_size=(-1, 0),  # causal
        enable_gqa=grouped,
    )
    assert isinstance(output, Tensor)
    return list(torch.split(output.transpose(0, 1)[None], lengths, dim=2))


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype, size: int) -> Attention:
    """FlashAttention where the GPU has it, once it has given what attention one by one gives.

    Raises InputError when outputs or gradients differ: every reward would be wrong.
    """
    generator = torch.Generator(device).manual_seed(0)
    found = []
    kernels: tuple[Attention, Attention] = (_one_by_one, _varlen)
    for run in kernels:
        generator.manual_seed(0)
        parts: Any = [
            [
                torch.randn(
                    (1, heads, length, size), generator=generator, device=device, dtype=dtype
                ).requires_grad_()
                for length in (70, 1, 33)
            ]
            for heads in (4, 2, 2)
        ]
        try:
            outputs = run(parts[0], parts[1], parts[2], None)
        except (RuntimeError, NotImplementedError):  # of a GPU before Ampere
            return _one_by_one
        torch.autograd.backward(torch.cat(outputs, dim=2).float().square().sum())
        of_all = [x.detach() for x in outputs] + [x.grad for part in parts for x in part]
        found.append(torch.cat([x.flatten().float() for x in of_all]))
    exact, fast = found
    difference = float((exact - fast).abs().max() / exact.abs().max())
    if not difference < 0.02:  # NaN too
        raise InputError(
            f"varlen_attn of torch {torch.__version__} on {torch.cuda.get_device_name(device)}",
            f"a relative difference of {difference:.2g} from attention one by one",
            "0.02 or less",
            "use a torch or a driver that was tested, or scoring.batch_tokens 0",
        )
    return _varlen


AttentionInterface.register(NAME, attend)


def stock_attention(model: Any) -> str:
    """The attention of a model without trees: its own, or torch's if it takes rows."""
    name = str(model.config._attn_implementation)
    return "sdpa" if name == NAME else name


@contextmanager
def attention(model: Any, name: str = NAME) -> Iterator[None]:
    """Give a model another attention for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def take_rows(model: Any) -> None:
    """Let a sequence classifier's forward pass take rows: `trees` and `ends` (N,) give N rewards.

    What a row gives is the logits (N, 1) of the tokens at `ends`; other inputs are read as before.
    The checkpoint stays an ordinary one. Raises InputError when another attention is set between a
    forward pass and its backward pass, which with gradient checkpointing would compute with both.
    """
    stock, before = model.forward, stock_attention(model)

    def unchanged(_: Tensor) -> None:
        if model.config._attn_implementation != NAME:
            raise InputError(
                "attention",
                f"'{model.config._attn_implementation}' in the backward pass",
                f"'{NAME}', as in the forward pass",
                "set another one after the optimizer's step",
            )

    def forward(
        self: Any,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        trees: list[Tree] | None = None,
        ends: Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        if trees is None or ends is None:
            inputs |= {"attention_mask": attention_mask, "position_ids": position_ids}
            with attention(self, before):
                return stock(input_ids=input_ids, **inputs)
        body = self.base_model(
            input_ids=input_ids, position_ids=position_ids, trees=trees, **inputs
        )
        logits = self.score(body.last_hidden_state[0].index_select(0, ends))
        if logits.requires_grad:
            logits.register_hook(unchanged)
        return SequenceClassifierOutputWithPast(logits=logits)

    model.set_attn_implementation(NAME)
    model.forward = MethodType(forward, model)


_reasons: "weakref.WeakKeyDictionary[Any, str]" = weakref.WeakKeyDictionary()


def packs(model: Any, longest: int | None = None) -> bool:
    """Whether a model can read prompt trees; if not, a line says why, the first time.

    One with sliding windows can where the `longest` sequence, if it is known, is within them.

    It must have a head `score`, attention in every layer, in sliding windows at most, and positions
    that do not depend on the longest of a row, and on a few tokens it must give the states of a
    batch of one.
    """
    if model not in _reasons:
        _reasons[model] = _unsound(model)
        if _reasons[model]:
            print(
                f"{type(model).__name__}: reads no prompt trees ({_reasons[model]}); "
                "slower, with the same result",
                file=sys.stderr,
            )
    size = window(model)
    inside = size is None or (longest is not None and longest <= size)
    return not _reasons[model] and inside


def _unsound(model: Any) -> str:
    """Why a model cannot read prompt trees; "" if it can."""
    if not hasattr(model, "score"):
        return "a head that is not named score"
    config = model.config.get_text_config()
    others = set(getattr(config, "layer_types", None) or []) - {
        "full_attention",
        "sliding_attention",
    }
    if others:
        return f"layers of {', '.join(sorted(others))}"
    scaling = getattr(config, "rope_parameters", None) or {}
    for options in [scaling, *(each for each in scaling.values() if isinstance(each, dict))]:
        if options.get("rope_type") in ("dynamic", "longrope"):
            return f"positions of type {options['rope_type']}"
    words = [n for n in range(1, min(60, config.vocab_size)) if n != config.pad_token_id]
    prompts = [[words[:7] + words[9:12], words[:7] + words[20:28]], [words[3:8]]]
    row, training = row_of(prompts), model.training
    model.eval()
    try:
        with torch.no_grad():
            with attention(model):
                states = model.base_model(**row.inputs(model.device), use_cache=False)
            packed = states.last_hidden_state[0, row.ends]
            with attention(model, stock_attention(model)):
                alone = torch.stack(
                    [
                        model.base_model(
                            input_ids=torch.tensor([sequence], device=model.device), use_cache=False
                        ).last_hidden_state[0, -1]
                        for sequences in prompts
                        for sequence in sequences
                    ]
                )
    except InputError:  # of this file: attention on this device is wrong for every model
        raise
    except Exception as error:  # of other people's code, which may refuse in any way
        return str(error).strip().split("\n")[0][:120] or type(error).__name__
    finally:
        model.train(training)
    difference = float((packed - alone).abs().max() / alone.abs().max())
    body = model.get_input_embeddings().weight.dtype  # the final norm may be in float32 alone
    exact = body == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    bound = 1e-4 if exact else 0.1
    return "" if difference < bound or math.isnan(difference) else "other states than alone"
