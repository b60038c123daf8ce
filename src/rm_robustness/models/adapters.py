"""Adapters of `peft`, such as LoRA, merged onto the base model that their configuration names."""

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import parse_json, sha256
from . import checkpoint, hub
from .heads import head


def base_folder(folder: Path) -> Path:
    """The folder of an adapter's base model, on this machine or in the cache of the hub."""
    config = parse_json(folder / checkpoint.ADAPTER_CONFIG)
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not name:
        raise InputError(
            folder / checkpoint.ADAPTER_CONFIG, "no base_model_name_or_path", "the base model"
        )
    try:
        base = hub.folder_of(name, config.get("revision"))
    except InputError as error:
        where = f"{folder}, its base model {name}"
        raise InputError(where, error.found, error.expected, error.fix) from error
    checkpoint.check(base)
    return base


def merged(folder: Path, read: Callable[[Path], tuple[Any, dict[str, Any]]]) -> Any:
    """Load a base model by `read` and merge an adapter onto it: the product is an ordinary model.

    Raises InputError without the package `peft`, when a weight of the adapter is missing or is not
    one of its configuration's, and when neither has the reward head.
    """
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            folder, "an adapter", "a whole model, or peft to merge it", "pip install peft"
        )
    from peft import PeftModel, get_peft_model_state_dict

    base = base_folder(folder)
    model, info = read(base)
    name = next(name for name, module in model.named_modules() if module is head(model))
    with warnings.catch_warnings():  # on missing weights, which are an error here
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(model, folder, torch_device="cpu")
    stored = set(checkpoint.tensors(folder))
    expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if wrong := sorted(stored ^ expected):
        found = f"missing or unexpected weights {wrong[:3]}"
        fix = "fetch it again, or merge it where it was trained"
        raise InputError(folder, found, "exactly those of adapter_config.json", fix)
    missing = info["missing_keys"] | {key for key, *_ in info["mismatched_keys"]}
    absent = [key for key in missing if not any(f".{key}" in weight for weight in stored)]
    if absent:
        raise InputError(
            folder,
            f"no {absent[0]} in it or in its base model {base}",
            "a reward head",
            "save it with modules_to_save, which needs task_type SEQ_CLS",
        )
    whole = adapted.merge_and_unload()
    assert whole.get_submodule(name) is head(whole)
    return whole


def model_sums(folder: Path) -> dict[str, str]:
    """sha256 of each file that a model and its tokenizer are read from, and an adapter's base too.

    By name, a base's after `base/`. Other files of the folder, such as a trainer's, do not count.
    """
    texts = [path for pattern in hub.TEXTS for path in sorted(folder.glob(pattern))]
    sums = {path.name: sha256(path) for path in [*checkpoint.weight_files(folder), *texts]}
    if not checkpoint.is_adapter(folder):
        return sums
    base = model_sums(base_folder(folder))
    return sums | {f"base/{name}": digest for name, digest in base.items()}
