"""A reward model: an ordinary AutoModelForSequenceClassification with one label, and its head."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from transformers.utils import logging as transformers_logging

from .errors import InputError

# Bars for loading and saving a few tensors would only fill the logs.
transformers_logging.disable_progress_bar()

PADDING = 1024  # rows that an embedding may have beyond its tokenizer, as Qwen2.5's has


def initialise(backbone: Path, seed: int) -> Any:
    """Put a new reward head on a backbone, in float32 master weights (D25).

    W_p (1, H) has no bias and is drawn from N(0, 1/(H+1)) (paper section 2; the release divides
    by H, a difference below 0.03 %, D20), by a generator of its own so that nothing drawn earlier
    can move it. `seed` also seeds everything that training draws later.
    """
    set_seed(seed)
    with _quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone, num_labels=1, dtype=torch.float32
        )
    hidden = model.score.weight.shape[1]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.normal_(0.0, (hidden + 1) ** -0.5, generator=generator)
    return model


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load a reward model and its tokenizer, refusing any weight that would be invented or dropped.

    Raises InputError when the folder is no such checkpoint, its score head is missing or renamed
    (transformers would draw a new one and go on), or its vocabulary is not the tokenizer's.
    """
    if not (folder / "config.json").is_file():
        raise InputError(folder, "no config.json", "a sequence-classification checkpoint")
    try:
        with _quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise InputError(folder, f"unreadable checkpoint ({reason})", "a whole one") from error
    wrong = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    if wrong:
        raise InputError(
            folder, f"missing or unexpected weights {wrong[:3]}", "exactly those of a reward model",
            "train or fetch it again; a missing score head is never made up",
        )  # fmt: skip
    if model.config.num_labels != 1:
        raise InputError(folder, f"{model.config.num_labels} labels", "one reward (num_labels 1)")
    rows, words = model.get_input_embeddings().num_embeddings, len(tokenizer)
    padded = rows % 64 == 0 and 0 < rows - words < PADDING
    if rows != words and not padded:
        raise InputError(folder, f"{rows} embeddings for {words} tokens", "the same vocabulary")
    return model.eval(), tokenizer


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save as one safetensors file with its tokenizer, whatever the model's size."""
    model.save_pretrained(folder, max_shard_size="1TB")
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence transformers' warnings on the weights that this file checks itself."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
