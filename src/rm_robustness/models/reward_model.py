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

FORMATS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
FINAL_NORMS = {"norm", "final_layernorm", "final_layer_norm", "ln_f"}  # by their name in the body
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
    source: str | Path, dtype: str = "float32", revision: str | None = None
) -> tuple[Any, Any]:
    """Load a reward model and its tokenizer; no weight may be missing or unexpected.

    `source` is a folder, or as a text that names no folder a model of the Hugging Face hub at
    `revision`; no code of it is run. `dtype` is one of `FORMATS`: `bfloat16` rounds the body alone,
    the final norm and the head stay in float32 (D48); `tf32` lets a GPU multiply float32 matrices
    in TF32, for all of the process until the next call, and is float32 on a CPU. Raises InputError
    for another format, when the model cannot be read, when it is a
    language model without a score head or that head is renamed (transformers would draw a new one
    and go on), when it has more than one label, and when its vocabulary is not the tokenizer's.
    """
    if dtype not in FORMATS:
        raise InputError("dtype", dtype, f"one of {', '.join(FORMATS)}")
    local = isinstance(source, Path) or Path(source).is_dir()
    if local and not (Path(source) / "config.json").is_file():
        raise InputError(source, "no config.json", "a sequence-classification checkpoint")
    where: dict[str, Any] = {"pretrained_model_name_or_path": source, "trust_remote_code": False}
    if not local:
        where["revision"] = revision or "main"
    try:
        with _quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                **where, dtype=torch.float32, output_loading_info=True, use_safetensors=True
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
    if FORMATS[dtype] == torch.bfloat16:
        _round_body(model)
    if not torch.cuda.is_available():
        return model.eval(), tokenizer
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    return model.to("cuda").eval(), tokenizer


def _round_body(model: Any) -> None:
    """Round a reward model to bfloat16, but for its final norm and its head (D48).

    These two compute in float32, whatever the states before them are in: rewards rounded to
    bfloat16 would tie. A body whose final norm has another name than `FINAL_NORMS` is rounded
    whole. Buffers, such as the frequencies of positions, keep their format.
    """
    body = model.base_model.named_children()
    exact = [model.score, *(module for name, module in body if name in FINAL_NORMS)]
    kept = {id(weight) for module in exact for weight in module.parameters()}
    for weight in model.parameters():
        if id(weight) not in kept:
            weight.data = weight.data.to(torch.bfloat16)
    for module in exact:
        module.register_forward_pre_hook(_widen)


def _widen(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The inputs of a module in float32."""
    return tuple(tensor.float() for tensor in inputs)


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
