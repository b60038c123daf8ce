"""Models that others published, in the form that ours have."""

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..errors import InputError
from ..experiment.config import Settings
from ..files import atomic_write, hashes, read_json, sha256, write_json
from ..provenance.record import record
from . import chat
from .reward_model import load, save


def adopt(settings: Settings, pretrained: Path, work: Path) -> Path:
    """Take a downloaded model into the form of ours: one file, its chat format, a record.

    `settings` has its `kind` (reward_models, backbones or policies), its `chat` format and the
    files of its training that it `needs` beside it. `pretrained` is the manifest of the download.
    A reward model's head is checked as that of any. Returns the finished folder inside `work`.
    Raises InputError when the download is not what its manifest says.
    """
    started, manifest = time.time(), read_json(pretrained)
    inputs = {"pretrained": {"path": str(pretrained), "sha256": sha256(pretrained)}}
    folder = pretrained.parent / "model"
    _check(folder, manifest["files"])
    scores = settings["kind"] == "reward_models"
    model, tokenizer = load(folder, torch.float32) if scores else _language_model(folder)
    chat.prepare(tokenizer, settings["chat"], "artifacts")
    for config in [model.config, *([] if scores else [model.generation_config])]:
        config.pad_token_id = tokenizer.pad_token_id
        config.eos_token_id = tokenizer.eos_token_id
    for named in (model.config.__dict__, tokenizer.init_kwargs):
        named.pop("auto_map", None)  # code of the publisher's, which nothing here runs
    source = {"repo": manifest["init"]["repo"], "commit": manifest["resolved"]}
    with atomic_write(work / "final") as draft:
        save(model, tokenizer, draft)
        for name in settings["needs"]:
            shutil.copy(folder / name, draft)
        made = record(
            settings,
            inputs,
            sorted(draft.iterdir()),
            None,
            started,
            source={**source, "sha256": manifest["files"]},
        )
        write_json(made, draft / "record.json")
        shutil.rmtree(work / "final", ignore_errors=True)
    return work / "final"


def _check(folder: Path, expected: dict[str, str]) -> None:
    """Refuse a downloaded folder whose files are no longer those of its manifest."""
    found = hashes(folder)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(
                folder / name,
                f"sha256 {found.get(name, 'of no file')}",
                f"{expected.get(name, 'no such file')}, as {folder.parent / 'manifest.json'} says",
                f"remove {folder.parent} and run it again",
            )


def _language_model(folder: Path) -> tuple[Any, Any]:
    """Load a language model and its tokenizer; no weight may be invented or dropped."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise InputError(folder, f"no readable language model ({reason})", "one") from error
    wrong = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    if wrong:
        found = f"missing or unexpected weights {wrong[:3]}"
        raise InputError(folder, found, "exactly those of a language model")
    return model, tokenizer
