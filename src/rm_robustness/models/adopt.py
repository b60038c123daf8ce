"""Convert a downloaded third-party model to this repository's checkpoint layout."""

import shutil
import time
from pathlib import Path

from ..errors import InputError
from ..experiment.config import Settings
from ..files import atomic_write, hashes, read_json, sha256, write_json
from ..provenance.record import record
from . import chat
from .language_model import load_language_model
from .reward_model import load as load_reward_model
from .reward_model import save


def adopt(settings: Settings, pretrained: Path, work: Path) -> Path:
    """Convert a downloaded model: one safetensors file, its chat format, a record.

    `settings` has its `kind` (reward_models, backbones or policies), its `chat` format and the
    files of its training that are copied along (`needs`). `pretrained` is the manifest of the
    download. A reward model's head is checked as in `reward_model.load`. Returns the finished
    folder inside `work`. Raises InputError when the download does not match its manifest.
    """
    started, manifest = time.time(), read_json(pretrained)
    inputs = {"pretrained": {"path": str(pretrained), "sha256": sha256(pretrained)}}
    folder = pretrained.parent / "model"
    _check_files(folder, manifest["files"])
    scores = settings["kind"] == "reward_models"
    load = load_reward_model if scores else load_language_model
    model, tokenizer = load(folder, "float32")
    chat.prepare(tokenizer, settings["chat"], "artifacts")
    for config in [model.config, *([] if scores else [model.generation_config])]:
        config.pad_token_id = tokenizer.pad_token_id
        config.eos_token_id = tokenizer.eos_token_id
    for attributes in (model.config.__dict__, tokenizer.init_kwargs):
        attributes.pop("auto_map", None)  # names the publisher's own code, which is never run
    source = {"repo": manifest["init"]["repo"], "commit": manifest["resolved"]}
    with atomic_write(work / "final") as draft:
        save(model, tokenizer, draft)
        for name in settings["needs"]:
            shutil.copy(folder / name, draft)
        contents = record(
            settings,
            inputs,
            sorted(draft.iterdir()),
            None,
            started,
            source={**source, "sha256": manifest["files"]},
            **chat.clock_fact(tokenizer),
        )
        write_json(contents, draft / "record.json")
        shutil.rmtree(work / "final", ignore_errors=True)
    return work / "final"


def _check_files(folder: Path, expected: dict[str, str]) -> None:
    """Refuse a downloaded folder whose files are no longer those of its manifest."""
    hashed = hashes(folder)
    for name in sorted(hashed.keys() | expected.keys()):
        if hashed.get(name) != expected.get(name):
            raise InputError(
                folder / name,
                f"sha256 {hashed.get(name, 'of no file')}",
                f"{expected.get(name, 'no such file')}, as {folder.parent / 'manifest.json'} says",
                f"remove {folder.parent} and run it again",
            )
