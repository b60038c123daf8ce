"""Files of a model's folder: its weights, and what makes a folder unreadable, with the cure.

The causes are found by looking at the files, before any library reads them; torch is not needed.
"""

import json
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..files import parse_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
# Weights of other formats, by their endings: pickles can run code, the others have other tensors.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHERS = (".gguf", ".ggml", ".h5", ".msgpack", ".npz", ".onnx")
# What tokenizers are read from; canine and perceiver read bytes, without a vocabulary.
VOCABULARIES = ("tokenizer.json", "vocab.", "merges.txt", "tekken.json", "spm.")
BYTES = ("canine", "perceiver")


class Cause(NamedTuple):
    """A reason why a folder cannot be read."""

    look: Callable[[Path], str]  # what was found in a folder; "" where the cause does not apply
    expected: str
    fix: str


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, to be merged onto a base model."""
    return (folder / ADAPTER_CONFIG).is_file()


def check(folder: Path) -> None:
    """Raise InputError with the first of `CAUSES` why the model in a folder cannot be read."""
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "a folder with a model", "check the spelling")
    for cause in CAUSES:
        if found := cause.look(folder):
            raise InputError(folder, found, cause.expected, cause.fix)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, for its record; InputError as in `check`.

    One file, the index with every file that it names, or an adapter with its configuration.
    """
    check(folder)
    if is_adapter(folder):
        return [folder / ADAPTER, folder / ADAPTER_CONFIG]
    return _files(folder)


def weight_inputs(name: str, folder: Path) -> dict[str, Path]:
    """`weight_files` of a model as the inputs of a record: the first one has the model's `name`."""
    first, *others = weight_files(folder)
    return {name: first} | {f"{name}, {path.name}": path for path in others}


def tensors(folder: Path) -> dict[str, list[int]]:
    """The shape of each tensor in a folder's weights, from the headers of the files."""
    files = [path for path in weight_files(folder) if path.suffix == ".safetensors"]
    return {
        name: entry["shape"]
        for path in files
        for name, entry in _header(path)[0].items()
        if name != "__metadata__"
    }


def size(folder: Path) -> int:
    """Number of values in a folder's weights."""
    return sum(math.prod(shape) for shape in tensors(folder).values())


def _files(folder: Path) -> list[Path]:
    """The weight files of a whole model, whether they are there or not."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [folder / WEIGHTS]
    named = parse_json(index)
    names = named.get("weight_map") if isinstance(named, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise InputError(index, "no weight_map", "the file of each weight", "fetch it again")
    return [index, *(folder / name for name in sorted(set(names.values())))]


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and the size that it promises; ({}, -1) if it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < path.stat().st_size:
            return {}, -1
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for n, entry in header.items() if n != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}, -1
    return header, 8 + length + max(ends, default=0)


def _config(folder: Path) -> dict[str, Any]:
    """config.json; empty for an adapter, whose base has one."""
    if is_adapter(folder):
        return {}
    config = parse_json(folder / "config.json")
    if not isinstance(config, dict):
        raise InputError(folder / "config.json", "no object", "a model's configuration")
    return config


def _two_models(folder: Path) -> str:
    whole = is_adapter(folder) and any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    return "an adapter and a whole model" if whole else ""


def _pointer(folder: Path) -> str:
    small = [p for p in sorted(folder.iterdir()) if p.is_file() and p.stat().st_size < 1024]
    named = [p.name for p in small if p.read_bytes().startswith(b"version https://git-lfs")]
    return f"{named[0]} is a git-lfs pointer" if named else ""


def _weightless(folder: Path) -> Iterator[str]:
    """The names of a folder without safetensors of a whole model, or of an adapter."""
    expected = [ADAPTER] if is_adapter(folder) else [WEIGHTS, INDEX]
    if not any((folder / name).is_file() for name in expected):
        yield from sorted(path.name for path in folder.iterdir())


def _pickle(folder: Path) -> str:
    names = [name for name in _weightless(folder) if name.endswith(PICKLES)]
    return f"weights only as a pickle ({names[0]}), which can run code" if names else ""


def _other_format(folder: Path) -> str:
    names = [name for name in _weightless(folder) if name.endswith(OTHERS)]
    return f"weights only as {names[0]}" if names else ""


def _no_config(folder: Path) -> str:
    return "" if (folder / "config.json").is_file() or is_adapter(folder) else "no config.json"


def _no_weights(folder: Path) -> str:
    names = list(_weightless(folder))
    return f"no {ADAPTER if is_adapter(folder) else WEIGHTS}" if names else ""


def _missing_file(folder: Path) -> str:
    absent = [] if is_adapter(folder) else [p.name for p in _files(folder) if not p.is_file()]
    return f"{INDEX} names {absent[0]}, which is missing" if absent else ""


def _cut(folder: Path) -> str:
    files = [folder / ADAPTER] if is_adapter(folder) else _files(folder)
    for path in files:
        if path.suffix == ".safetensors" and path.stat().st_size != (size := _header(path)[1]):
            whole = f"of {size:,}" if size > 0 else "without a header"
            return (
                f"an unreadable checkpoint: {path.name} has {path.stat().st_size:,} bytes {whole}"
            )
    return ""


def _quantised(folder: Path) -> str:
    section = _config(folder).get("quantization_config")
    method = section.get("quant_method", "?") if isinstance(section, dict) else "?"
    return f"a quantised checkpoint ({method})" if section else ""


def _no_type(folder: Path) -> str:
    return "" if is_adapter(folder) or _config(folder).get("model_type") else "no model_type"


def _own_code(folder: Path) -> str:
    config = _config(folder)
    known = is_adapter(folder) or config.get("model_type") in _known()
    return f"custom code for '{config['model_type']}'" if not known and "auto_map" in config else ""


def _unknown(folder: Path) -> str:
    config = _config(folder)
    known = is_adapter(folder) or config.get("model_type") in _known()
    return "" if known else f"the unknown architecture '{config['model_type']}'"


def _known() -> Any:
    """The architectures that transformers has."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING


def _no_tokenizer(folder: Path) -> str:
    names = [path.name for path in folder.iterdir()]
    found = any(name.startswith(VOCABULARIES) or name.endswith(".model") for name in names)
    known = found or is_adapter(folder) or _config(folder).get("model_type") in BYTES
    return "" if known else "no tokenizer"


def _sentencepiece(folder: Path) -> str:
    names = [path.name for path in folder.glob("*.model")]
    alone = names and not (folder / "tokenizer.json").is_file()
    return f"{names[0]} alone" if alone and not find_spec("sentencepiece") else ""


SAFETENSORS = "weights as safetensors"
CONVERT = "load it where you trust it and save it with save_pretrained, which writes safetensors"
AGAIN = "fetch the folder again"
CAUSES = [
    Cause(
        _two_models, "one of them", f"remove {ADAPTER_CONFIG} and {ADAPTER} to read the whole one"
    ),
    Cause(_pointer, "the file itself", "run `git lfs pull` there, or `hf download` the model"),
    Cause(_other_format, SAFETENSORS, "use the model that it was converted from"),
    Cause(_no_config, "a checkpoint of transformers", "check the folder"),
    Cause(_pickle, SAFETENSORS, CONVERT),
    Cause(_no_weights, SAFETENSORS, AGAIN),
    Cause(_missing_file, "every file of the index", AGAIN),
    Cause(_cut, "a whole one", AGAIN),
    Cause(_no_type, "one in config.json", "write the architecture into it, such as llama"),
    Cause(_own_code, "an architecture of transformers", "code beside a model is never run"),
    Cause(_unknown, "one of the installed transformers", "a newer transformers may have it"),
    Cause(
        _quantised,
        "weights as they were trained",
        "use the model that it was quantised from, or save it with model.dequantize()",
    ),
    Cause(
        _sentencepiece, "tokenizer.json, or the package that reads it", "pip install sentencepiece"
    ),
    Cause(_no_tokenizer, "one beside the model", "save the one that it was trained with there"),
]
