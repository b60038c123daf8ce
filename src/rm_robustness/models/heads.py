"""How a classifier is read: its reward head, where that reads, and how many positions it has."""

from typing import Any

from torch import nn

from ..errors import InputError


def head(model: Any) -> nn.Linear:
    """The last layer of a reward model: the one linear layer of one output behind the body.

    Raises InputError where there is none or several, as of a head that is no linear layer.
    """
    body = set(model.base_model.modules())
    found = [
        module
        for module in model.modules()
        if module not in body and isinstance(module, nn.Linear) and module.out_features == 1
    ]
    if len(found) != 1:
        raise InputError(
            model.name_or_path or type(model).__name__,
            f"a {type(model).__name__} with {len(found)} linear layers of one output as its head",
            "a reward head whose last layer is one linear layer",
        )
    return found[0]


def reads_last_token(model: Any) -> bool:
    """Whether the reward is the head `score` of the body's last state, as decoders have it.

    Any other model, such as an encoder, is read by its own forward pass.
    """
    return "score" in dict(model.named_children()) and model.score is head(model)


def positions(config: Any) -> int | None:
    """Number of positions in a configuration; None where it names no limit."""
    text = config.get_text_config()
    sizes = [getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    limits = [size for size in sizes if isinstance(size, int) and size > 0]  # XLNet's is -1
    return min(limits, default=None)


def context(model: Any) -> int | None:
    """Number of tokens that a model can read; None where its positions have no limit."""
    limit = positions(model.config)
    # Tables of RoBERTa's kind count positions from the one behind the padding token's.
    before = [
        module.padding_idx + 1
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return limit and limit - max(before, default=0)


def window(model: Any) -> int | None:
    """Number of tokens that a model's sliding windows see; None where it has none."""
    size = getattr(model.config.get_text_config(), "sliding_window", None)
    return size or None  # Qwen2-MoE's is 0 where it uses none
