"""A reward model: an ordinary AutoModelForSequenceClassification with one label, and its head."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from transformers.utils import logging as transformers_logging

from ..errors import InputError
from .language_model import require_exact_weights

# Progress bars for loading and saving a few tensors only fill the logs.
transformers_logging.disable_progress_bar()

PADDING = 1024  # rows that an embedding may have beyond its tokenizer, as Qwen2.5's has


def initialise(backbone: Path, seed: int) -> Any:
    """Initialise a reward model: a backbone with a new reward head, in float32 (D25).

    W_p (1, H) has no bias and is drawn from N(0, 1/(H+1)) (paper, section 2; the release divides
    by H, a difference below 0.03 %, D20), by a generator of its own so that earlier draws cannot
    change it. `seed` also seeds everything that training draws later.
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


def load(
    source: str | Path, dtype: torch.dtype = torch.float32, revision: str | None = None
) -> tuple[Any, Any]:
    """Load a reward model and its tokenizer; no weight may be missing or unexpected.

    `source` is a folder, or as a text that names no folder a model of the Hugging Face hub at
    `revision`; no code of it is run. Raises InputError when it cannot be read, when it is a
    language model without a score head or that head is renamed (transformers would draw a new one
    and go on), when it has more than one label, and when its vocabulary is not the tokenizer's.
    """
    local = isinstance(source, Path) or Path(source).is_dir()
    if local and not (Path(source) / "config.json").is_file():
        raise InputError(source, "no config.json", "a sequence-classification checkpoint")
    where: dict[str, Any] = {"pretrained_model_name_or_path": source, "trust_remote_code": False}
    if not local:
        where["revision"] = revision or "main"
    try:
        with _quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                **where, dtype=dtype, output_loading_info=True, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        if local:
            raise InputError(source, f"unreadable checkpoint ({reason})", "a whole one") from error
        raise InputError(
            source,
            f"no folder, and no model of the hub ({reason})",
            "one of them",
            "check the spelling, the network, and HF_TOKEN where the model is gated",
        ) from error
    _check_head(model, info, source)
    rows, words = model.get_input_embeddings().num_embeddings, len(tokenizer)
    padded = rows % 64 == 0 and 0 < rows - words < PADDING
    if rows != words and not padded:
        raise InputError(source, f"{rows} embeddings for {words} tokens", "the same vocabulary")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def _check_head(model: Any, info: dict[str, Any], source: str | Path) -> None:
    """Refuse a model whose reward is not the product of a stored score head and its last token."""
    if "score" not in dict(model.named_children()):
        raise InputError(
            source,
            f"a {type(model).__name__}, which has no head `score`",
            "a decoder with a reward head, read at the last token",
        )
    missing, unexpected = info["missing_keys"], info["unexpected_keys"] - {"lm_head.weight"}
    if missing == {"score.weight"} and not unexpected:
        raise InputError(
            source,
            "no weights of a reward head (score.weight), as in a language model",
            "a reward model",
            "train one on it; a missing score head is never drawn at random",
        )
    require_exact_weights(info, source, "a reward model")
    if model.config.num_labels != 1:
        raise InputError(source, f"{model.config.num_labels} labels", "one reward (num_labels 1)")


def save(
    model: Any, tokenizer: Any, folder: Path, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Save a model of any size as one safetensors file, with its tokenizer.

    `weights` are the whole ones of a model that is sharded over processes.
    """
    model.save_pretrained(folder, max_shard_size="1TB", state_dict=weights)
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
