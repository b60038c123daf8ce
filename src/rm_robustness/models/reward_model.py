"""A reward model: an ordinary AutoModelForSequenceClassification with one label, and its head."""

import contextlib
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from ..errors import InputError
from ..files import parse_json
from . import adapters, checkpoint, hub
from .heads import head, reads_last_token
from .language_model import require_exact_weights
from .memory import SMALLER, out_of_memory

# Progress bars for loading and saving a few tensors only fill the logs.
transformers_logging.disable_progress_bar()

FORMATS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
FINAL_NORMS = {"norm", "final_layernorm", "final_layer_norm", "ln_f"}  # by their name in the body
# What classifiers leave unread: the heads of language models, and masks that old releases stored.
OTHER_HEADS = ("lm_head.", "embed_out.", "cls.", "lm_predictions.", "mask_predictions.")
BUFFERS = (".masked_bias", ".attn.bias", ".attention.bias")


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
    if not reads_last_token(model):
        expected = "a decoder, whose reward is read at the last token"
        raise InputError(backbone, f"a {type(model).__name__}", expected)
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
    `revision`; no code of it is run. A folder with an adapter is merged onto its base model.
    `dtype` is one of `FORMATS`: `bfloat16` rounds the body alone, the final norm and the head stay
    in float32 (D48); `tf32` lets a GPU multiply float32 matrices in TF32, for all of the process
    until the next call, and is float32 on a CPU. Raises InputError for another format, when the
    model cannot be read (by cause: `checkpoint.CAUSES`) or does not fit the memory, when it is a
    language model without a reward head or that head is renamed (transformers would draw a new one
    and go on), and when it has more than one label.
    """
    if dtype not in FORMATS:
        raise InputError("dtype", dtype, f"one of {', '.join(FORMATS)}")
    folder = hub.folder_of(source, revision)
    try:
        checkpoint.check(folder)
        _check_memory(folder, dtype)
        if checkpoint.is_adapter(folder):
            model = adapters.merged(folder, _read)
        else:
            model, info = _read(folder)
            _check_weights(model, info, folder)
        tokenizer = _tokenizer(folder)
        head(model), model.get_input_embeddings().weight  # what every caller reads
    except InputError as error:
        where = str(source) if error.where == str(folder) else error.where
        raise InputError(where, error.found, error.expected, error.fix) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise _unreadable(source, error) from error
        raise InputError(source, "no memory to load it", "a model that fits", SMALLER) from error
    except Exception as error:  # other people's files may raise anything in other people's code
        raise _unreadable(source, error) from error
    tokenizer.name_or_path = str(source)  # errors of its template name it
    if FORMATS[dtype] == torch.bfloat16:
        _round_body(model)
    if not torch.cuda.is_available():
        return model.eval(), tokenizer
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    return model.to("cuda").eval(), tokenizer


def _read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A classifier of one label in float32, and what transformers says of its weights.

    One label is asked for whatever the configuration says, which has two where nobody wrote it: the
    weights decide.
    """
    kind = parse_json(folder / "config.json")["model_type"]
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise InputError(
            folder, f"the architecture '{kind}'", "one that transformers classifies with"
        )
    with _quiet():
        return AutoModelForSequenceClassification.from_pretrained(  # type: ignore[no-any-return]
            folder,
            num_labels=1,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported by `_check_weights`, in one line
        )


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder; of an adapter without one, that of its base model."""
    if checkpoint.is_adapter(folder) and not (folder / "tokenizer_config.json").is_file():
        folder = adapters.base_folder(folder)
    with _quiet():
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _unreadable(source: str | Path, error: Exception) -> InputError:
    """What a library raised, in one line."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return InputError(source, f"unreadable checkpoint ({reason})", "a whole one")


def _check_memory(folder: Path, dtype: str) -> None:
    """Refuse a model whose weights do not fit the memory: on the CPU in float32, then the GPU."""
    folders = [adapters.base_folder(folder)] if checkpoint.is_adapter(folder) else []
    values = sum(map(checkpoint.size, [folder, *folders]))
    rooms = [("memory", 4, psutil.virtual_memory().available)]
    if torch.cuda.is_available():
        rooms.append(("GPU memory", FORMATS[dtype].itemsize, torch.cuda.mem_get_info()[0]))
    for name, width, free in rooms:
        if (needed := width * values) > free:
            found = f"weights of {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of free {name}"
            raise InputError(folder, found, "a model that fits", SMALLER)


def _round_body(model: Any) -> None:
    """Round a reward model to bfloat16, but for its final norm and its head (D48).

    These two compute in float32, whatever the states before them are in: rewards rounded to
    bfloat16 would tie. A body whose final norm has another name than `FINAL_NORMS` is rounded
    whole. Buffers, such as the frequencies of positions, keep their format.
    """
    exact = [head(model)]
    if reads_last_token(model):
        exact += [
            module
            for name, module in model.base_model.named_modules()
            if name.removeprefix("language_model.").removeprefix("decoder.") in FINAL_NORMS
        ]
    kept = {id(weight) for module in exact for weight in module.parameters()}
    for weight in model.parameters():
        if id(weight) not in kept:
            weight.data = weight.data.to(torch.bfloat16)
    for module in exact:
        module.register_forward_pre_hook(_widen)


def _widen(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The inputs of a module in float32."""
    return tuple(tensor.float() for tensor in inputs)


def _check_weights(model: Any, info: dict[str, Any], folder: Path) -> None:
    """Refuse weights that are not exactly those of a reward model with one label."""
    name = next(name for name, module in model.named_modules() if module is head(model))
    for key, stored, expected in info["mismatched_keys"]:
        if key == f"{name}.weight":
            raise InputError(folder, f"{stored[0]} labels", "one reward (num_labels 1)")
        found = f"{key} of shape {tuple(stored)}, and {tuple(expected)} in config.json"
        raise InputError(folder, found, "a whole checkpoint", "fetch the folder again")
    missing = {key for key in info["missing_keys"] if not _computed(key)}
    unexpected = sorted(key for key in info["unexpected_keys"] if not _needless(key))
    if f"{name}.weight" in missing and not unexpected:
        raise InputError(
            folder,
            f"no weights of a reward head ({name}.weight), as in a language model",
            "a reward model",
            "train one on it; a missing score head is never drawn at random",
        )
    code = parse_json(folder / "config.json").get("auto_map") or {}
    if (missing or unexpected) and "AutoModelForSequenceClassification" in code:
        raise InputError(
            folder,
            f"custom code for its reward head ({[*sorted(missing), *unexpected][0]})",
            f"the weights of {type(model).__name__}",
            "code beside a model is never run",
        )
    if f"{name}.weight" in missing:
        raise InputError(
            folder,
            f"a reward or value head of another name or form ({unexpected[0]})",
            f"{name}.weight of {type(model).__name__}",
            "if it is one linear layer without bias, save the weights with that name",
        )
    if unexpected == [f"{name}.bias"]:
        raise InputError(
            folder,
            f"a bias of the reward head ({unexpected[0]})",
            f"the weights of {type(model).__name__}, which has none and would drop it",
            "save the weights without it: it adds one number to every reward",
        )
    require_exact_weights(
        {"missing_keys": missing, "unexpected_keys": unexpected}, folder, "a reward model"
    )


def _needless(key: str) -> bool:
    """Whether a stored weight is of no use to a classifier: another head, or an old buffer.

    Older releases stored masks, position numbers and rotary frequencies, which are computed now.
    """
    return key.startswith(OTHER_HEADS) or key.endswith(BUFFERS) or _computed(key)


def _computed(key: str) -> bool:
    """Whether a weight is a buffer that is computed where it is not stored."""
    return key.endswith((".inv_freq", ".position_ids"))


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
