"""Cost of a Llama or Qwen2 model: parameters, GPU memory, floating-point operations.

Pure arithmetic on a model's shape, without torch, cheap enough for every job of a dry run.

Memory of one GPU in training, in bytes. N: parameters; n: GPUs; s: n under FSDP2, which shards
the weights (SFT, reward models, on one GPU too), 1 where each GPU has all (DDP: RLOO); T: tokens of
a micro-batch, in RLOO with padding, in reward-model training one row of prompt trees without (a
pair is at most two sequences of maximum length); S: their length; h, i, V, L: hidden size, MLP
width, vocabulary, layers; k: width of the keys, h where a mask makes attention repeat them; c: 2
with bf16, else 4 (the width of matrix products); r: c under FSDP2, else 4 (that of the residual).

    weights      4N / s       float32 masters (D25)
    gradients    4N / s
    optimizer    8N / s       AdamW's two moments; adamw_8bit: 2N / s
    copies       FSDP2:       c (2 root + 3 layer), gathered: the layer in use, the next and its
                              gradient, and root, what is outside the layers, with its gradient;
                              and cN when gradients accumulate, as they stay whole until the step
                 DDP, n > 1:  4N, its buckets of gradients
    activations  the largest of four moments:
      forward    T (Lrh + 3ic + 3rh) + w    with checkpointing, whose backward holds one layer's w
      backward   T (La) + w + p, or with checkpointing T (Lrh + a + S) + w/L + p, less the layer's
                 input, 4Th, where a has it too; S is the mask, a byte a pair of tokens
      embedding  4Vh                        its gradient before it is added
      step       4N / s                     AdamW's temporary; the fused one has none

    w  cN with bf16 without FSDP2           autocast's copies of the weights
    p  T (2ic + rh)                         gradients on their way through a layer; or, if larger,
       min(T, 4096) 32768 c + 32768 ch + 4Vh + 4Th   the head of a language model: TRL never holds
                                            all logits, only a tile of them
    a  2 (4 + r) h + (5ch where autocast casts, r not c; else 2rh)   norms, inputs of projections
       + (2h + 2k) c + 4 heads + 8          attention
       + 4ic + (Sc with a mask)             MLP, additive mask

tests/cluster/test_model_cost.py compares this with measured trainings. Not included: fragmentation
and the CUDA context, for which `resources.HEADROOM` leaves a tenth of the GPU.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

Parts = dict[str, float]  # bytes by name

TILE = (4096, 32768)  # tokens and words of the logits that TRL's language models hold at once


class Shape(NamedTuple):
    """Architecture and sizes of a model, as in its config.json."""

    architecture: str  # llama or qwen2, whose queries, keys and values have a bias
    vocabulary: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    key_value_heads: int
    tied: bool  # the head of a language model is its embedding

    @property
    def key_value_size(self) -> int:
        """Width of the keys, and of the values, of all heads together."""
        return self.hidden_size * self.key_value_heads // self.heads


def shape_of(config: Mapping[str, Any], backbone: str) -> Shape:
    """Shape of a backbone: from `init` if it is trained from scratch, else from `sizes`."""
    section = config["backbones"][backbone]
    init = section["init"]
    if init["kind"] == "config":
        values = init | {"key_value_heads": init["heads"], "tied": False}
    else:
        values = config["sizes"]["backbones"][backbone]
    shape = Shape(**{name: values[name] for name in Shape._fields})
    return shape._replace(layers=min(shape.layers, section["keep_layers"] or shape.layers))


def layer_parameters(shape: Shape) -> int:
    """Parameters of one layer: projections with their biases, MLP and two norms."""
    h, kv = shape.hidden_size, shape.key_value_size
    biases = h + 2 * kv if shape.architecture == "qwen2" else 0
    return 2 * h * h + 2 * h * kv + biases + 3 * h * shape.intermediate_size + 2 * h


def parameters(shape: Shape, reward: bool = False) -> int:
    """Parameters of a language model; `reward`: of a reward model, with W_p (1, H) as its head."""
    embedding = shape.vocabulary * shape.hidden_size
    body = embedding + shape.layers * layer_parameters(shape) + shape.hidden_size
    if reward:
        return body + shape.hidden_size
    return body if shape.tied else body + embedding


def training_memory(
    shape: Shape,
    *,
    reward: bool,
    sequences: int,
    length: int,
    masked: bool,
    bf16: bool,
    checkpointing: bool,
    optimizer: str = "adamw_torch",
    processes: int = 1,
    sharded: bool = False,
    accumulating: bool = False,
) -> Parts:
    """Peak bytes of one GPU in training, by part, with the formulas of the module's docstring.

    `sequences` x `length` tokens are on the GPU at once, `masked` when some are padded; `sharded`
    over the `processes` or all on each; `accumulating` when a step has more micro-batches.
    """
    total, layer = parameters(shape, reward), layer_parameters(shape)
    shares = processes if sharded else 1
    compute = 2 if bf16 else 4
    residual = compute if sharded else 4
    casts = compute * total if bf16 and not sharded else 0  # autocast's copies
    if sharded:
        root = total - shape.layers * layer
        copies = compute * (2 * root + 3 * layer + (total if accumulating else 0))
    else:
        copies = 4 * total if processes > 1 else 0
    tokens, h, i = sequences * length, shape.hidden_size, shape.intermediate_size
    passing = tokens * (2 * i * compute + residual * h)
    head = 0 if reward else _language_head(shape, tokens, compute)
    saved = tokens * _layer_activations(shape, length, masked, compute, residual)
    forward = 0.0
    if checkpointing:
        inputs = tokens * shape.layers * residual * h
        forward = inputs + casts + 3 * tokens * (i * compute + h * residual)
        shared = 4 * h if residual == 4 else 0
        inside = saved + tokens * ((length if masked else 0) - shared)
        backward = inputs + max(inside + passing + casts / shape.layers, head)
    else:
        backward = shape.layers * saved + casts + max(passing, head)
    step = 4 * total / shares if optimizer == "adamw_torch" else 0
    return {
        "weights": 4 * total / shares,
        "gradients": 4 * total / shares,
        "optimizer": (2 if optimizer == "adamw_8bit" else 8) * total / shares,
        "copies": copies,
        "activations": max(forward, backward, 4 * shape.vocabulary * h, step),
    }


def _layer_activations(
    shape: Shape, length: int, masked: bool, compute: int, residual: int
) -> float:
    """Bytes a token that a layer saves for its backward pass."""
    h = shape.hidden_size
    inputs = 5 * compute * h if residual != compute else 2 * residual * h
    keys = h if masked else shape.key_value_size
    attention = (2 * h + 2 * keys) * compute + 4 * shape.heads + 8
    mlp = 4 * shape.intermediate_size * compute
    return 2 * (4 + residual) * h + inputs + attention + mlp + (length * compute if masked else 0)


def _language_head(shape: Shape, tokens: int, compute: int) -> float:
    """Bytes of TRL's head in the backward pass: a tile of logits, gradients of weight and input."""
    rows, words = TILE
    h = shape.hidden_size
    tile = min(tokens, rows) * words * compute + words * h * compute
    return tile + 4 * shape.vocabulary * h + 4 * tokens * h


def inference_memory(shape: Shape, tokens: int, width: int, reward: bool = True) -> Parts:
    """Peak bytes of scoring batches of `tokens` tokens, weights and activations `width` bytes wide.

    At its peak a layer holds three tensors of the MLP's width and four of the hidden size.
    """
    wide = 3 * shape.intermediate_size + 4 * shape.hidden_size
    return {"weights": width * parameters(shape, reward), "activations": width * tokens * wide}


def generation_memory(shape: Shape, sequences: int, length: int, width: int) -> float:
    """Bytes of the key-value cache of `sequences` sequences, and of their logits of one token."""
    keys = 2 * shape.layers * shape.key_value_size * length
    return sequences * (keys * width + 2 * 4 * shape.vocabulary)


class Reading(NamedTuple):
    """Tokens that a model reads: those of its matrices, and those of attention's queries."""

    tokens: float
    queries: float
    length: float  # of the sequences in which queries attend


def sequences(tokens: float, length: float) -> Reading:
    """Reading of sequences of this length that share nothing."""
    return Reading(tokens, tokens, length)


def prompt_trees(prompts: float, prompt: float, responses: float, response: float) -> Reading:
    """Reading of prompts, each once for all of its responses.

    Attention alone computes the prompt's queries again for each response.
    """
    tokens = prompts * (prompt + responses * response)
    return Reading(tokens, prompts * responses * (prompt + response), prompt + response)


def forward_flops(shape: Shape, reading: Reading, reward: bool = True) -> float:
    """Floating-point operations of a forward pass.

    A multiplication and an addition for every weight of a matrix, and 4 S h a layer and query for
    attention, without the factor 1/2 of causality: most kernels with a mask compute all of it.
    """
    h = shape.hidden_size
    weights = 2 * h * h + 2 * h * shape.key_value_size + 3 * h * shape.intermediate_size
    head = h if reward else shape.vocabulary * h
    attention = 4 * reading.queries * reading.length * h * shape.layers
    return reading.tokens * 2 * (shape.layers * weights + head) + attention


def training_flops(shape: Shape, reading: Reading, reward: bool, checkpointing: bool) -> float:
    """Floating-point operations of a forward pass and a backward pass (twice the forward).

    Checkpointing recomputes the layers, except the last product of each, which no gradient needs;
    TRL's chunked loss always recomputes the logits of a language model.
    """
    tokens, whole = reading.tokens, forward_flops(shape, reading, reward)
    head = 2 * tokens * shape.hidden_size * (1 if reward else shape.vocabulary)
    last = 2 * tokens * shape.hidden_size * shape.intermediate_size * shape.layers
    again = (whole - head - last if checkpointing else 0) + (0 if reward else head)
    return 3 * whole + again
