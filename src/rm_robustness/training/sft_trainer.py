"""Backbones: a pretrained language model or one made from config, and SFT by TRL."""

import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from ..errors import InputError
from ..experiment.config import Settings
from ..frames import read_frame, require_text
from ..models import chat
from ..models.language_model import from_config, load_language_model
from ..models.reward_model import save
from .distributed import on_main_process
from .loop import gathered_weights, train_to_end
from .resume import finalize, finished
from .trl_arguments import WholeBatches, training_arguments


def conversations(frame: Any, system_turn: str | None) -> list[chat.Messages]:
    """Chats as message lists; `system_turn`, if any, goes before those without one (D24)."""
    chats = [[dict(message) for message in messages] for messages in frame["messages"]]
    if system_turn is None:
        return chats
    system = {"role": "system", "content": system_turn}
    return [c if c[0]["role"] == "system" else [system, *c] for c in chats]


def build_backbone(
    settings: Settings,
    sft: Settings | None,
    chats: Path | None,
    pretrained: Path | None,
    work: Path,
    label: str,
) -> Path:
    """Build one backbone: initialise it, keep its first layers (`keep_layers`), tune it (`sft`).

    `settings` is its section of the config, `sft` the section `sft` (None: no SFT). Returns the
    finished folder inside `work`; a killed run resumes from its last checkpoint.
    """
    final, started = work / "final", time.time()
    inputs = {"chats": chats, "pretrained": pretrained}
    files = {name: path for name, path in inputs.items() if path is not None}
    if finished(work, {"settings": settings, "sft": sft}, files):
        return final
    frame = read_frame(chats, ["messages"]) if chats else None
    for row, messages in enumerate(frame["messages"] if frame is not None else []):
        for message in messages:
            require_text(message["content"], "content", f"{chats}, row {row}")
    if pretrained is None:
        if frame is None or sft is None:
            raise InputError("backbone", "neither a pretrained model nor chats", "one of them")
        texts = [message["content"] for chat in frame["messages"] for message in chat]
        model, tokenizer = from_config(settings["init"], texts, sft["seed"])
    else:
        model, tokenizer = load_language_model(pretrained.parent / "model", torch.float32)
    chat.prepare(tokenizer, settings["chat"], "backbones")
    if layers := settings["keep_layers"]:
        model.model.layers = model.model.layers[:layers]
        model.config.num_hidden_layers = len(model.model.layers)
        if kinds := getattr(model.config, "layer_types", None):  # of the attention, as Qwen2's
            model.config.layer_types = kinds[:layers]
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    facts: Settings = {}
    weights = None
    if sft is not None and frame is not None:
        ids = chat.ids(tokenizer, conversations(frame, sft["system_turn"]))
        model, weights, facts = _tune(model, tokenizer, ids, sft, work, label)
    seed = sft["seed"] if sft else None

    def finish() -> None:
        save(model, tokenizer, work / "draft", weights)
        facts.update(chat.clock_fact(tokenizer))
        finalize(work, "backbone", {**settings, "sft": sft}, seed, started, **facts)

    on_main_process(finish)
    return final


class Tuner(WholeBatches, SFTTrainer):  # type: ignore[misc]
    """trl.SFTTrainer in whole global batches."""


def _tune(
    model: Any, tokenizer: Any, ids: list[list[int]], sft: Settings, work: Path, label: str
) -> tuple[Any, dict[str, Any] | None, Settings]:
    """Train on whole conversations, packed end to end into blocks of max_length tokens.

    Returns the model, its weights where processes share them, and facts to record.
    """
    arguments = training_arguments(sft, work, sft["seed"]) | {"max_length": sft["max_length"]}
    trainer = Tuner(
        model=model,
        args=SFTConfig(**arguments, packing=True, packing_strategy="wrapped", shuffle_dataset=True),
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        processing_class=tokenizer,
    )
    facts = train_to_end(trainer, work, label)
    return trainer.accelerator.unwrap_model(trainer.model), gathered_weights(trainer), facts
