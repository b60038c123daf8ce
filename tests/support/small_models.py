"""Models and trainings small enough for a test: settings, an untrained backbone."""

from pathlib import Path
from typing import Any

import pandas as pd

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
)
CHAT = {"template": TEMPLATE, "eos": "<|end|>", "pad": "<|endoftext|>"}
INIT = {
    "kind": "config",
    "architecture": "llama",
    "vocabulary": 900,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "heads": 2,
    "max_length": 96,
}
SFT = {
    "seed": 3,
    "epochs": 1,
    "global_batch": 8,
    "micro_batch": 8,
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "warmup": 0.1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "max_length": 64,
    "optimizer": "adamw_torch",
    "bf16": False,
    "gradient_checkpointing": False,
    "save_steps": 5,
    "system_turn": None,
}


def make_backbone(architecture: str, world: pd.DataFrame, folder: Path) -> Path:
    from rm_robustness.models import chat
    from rm_robustness.models.language_model import from_config
    from rm_robustness.models.reward_model import save

    init = {
        "architecture": architecture,
        "vocabulary": 900,
        "hidden_size": 32,
        "intermediate_size": 64,
        "layers": 2,
        "heads": 2,
        "max_length": 96,
    }
    model, tokenizer = from_config(init, [*world["prompt"], *world["response"]], seed=0)
    chat.prepare(tokenizer, CHAT, "test")
    save(model, tokenizer, folder)
    return folder


def training_settings(**changes: Any) -> dict[str, Any]:
    """The settings of a small reward-model training."""
    return {
        "objective": "bt",
        "options": {},
        "pairs": "best_worst",
        "learning_rate": 1e-3,
        "epochs": 2,
        "global_batch": 8,
        "micro_batch": 8,
        "schedule": "linear",
        "warmup": 0.05,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "max_length": 96,
        "optimizer": "adamw_torch",
        "bf16": False,
        "gradient_checkpointing": False,
        "save_steps": 3,
        "probe_pairs": 16,
        "probe_evals": 4,
        "batch_tokens": 2048,
    } | changes
