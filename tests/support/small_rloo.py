"""A tiny policy, reward model and split, and RLOO on them: seconds on one thread."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from support.small_models import make_backbone
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models import chat
from rm_robustness.models.reward_model import initialise, save
from rm_robustness.training import rloo_trainer as rloo

TURNS = (
    "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QUESTIONS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}Question : {{ m['content'] }}\n"
    "{% else %}My answer : {{ m['content'] }}<|endoftext|>\n{% endif %}{% endfor %}"
)


def rloo_settings(**changes: Any) -> dict[str, Any]:
    """20 prompts twice, in rollouts of 6: 6 updates, of which the 4th has prompts of both."""
    return {
        "learning_rate": 1e-2,
        "epochs": 2,
        "beta": 0.05,
        "k": 2,
        "batch_form": "fixed",
        "prompts_per_update": 6,
        "mini_batches": 3,
        "micro_batch": 2,
        "schedule": "linear",
        "warmup": 0.05,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optimizer": "adamw_torch",
        "bf16": False,
        "gradient_checkpointing": False,
        "prompt_length": 40,
        "response_length": 12,
        "temperature": 0.7,
        "generation": "transformers",
        "batch_size": 4,
        "batch_tokens": 512,
        "eval_every": 2,
        "eval_prompts": 7,
        "reward_dtype": "float32",
        "vllm_memory": None,
        "save_updates": 2,
    } | changes


def make_policy(world: pd.DataFrame, folder: Path) -> Path:
    """A Qwen2 that says any word but ends a response with a chance of about 1 in 8 a token."""
    make_backbone("qwen2", world, folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), read_tokenizer(folder)
    tokenizer.chat_template = TURNS
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] = 5.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[tokenizer.eos_token_id, 0] = 0.7 * math.log(len(tokenizer) / 7) / 5.5
    save(model, tokenizer, folder)
    return folder


def make_reward_model(world: pd.DataFrame, folder: Path) -> Path:
    """A Llama reward model with a vocabulary, a template and an EOS unlike the policy's.

    Its head is enlarged until rewards differ enough to be learnt from.
    """
    make_backbone("llama", world.tail(300), folder)
    tokenizer = read_tokenizer(folder)
    chat.prepare(tokenizer, {"template": QUESTIONS, "eos": "<|endoftext|>", "pad": "<|end|>"}, "")
    model = initialise(folder, 3)
    model.score.weight.data *= 30
    save(model, tokenizer, folder)
    return folder


def make_prompts(splits: Path, folder: Path) -> Path:
    """A split of 20 prompts."""
    frame = read_frame(splits / "prompt_disjoint.parquet")
    path = folder / "prompts.parquet"
    write_frame(frame[frame["prompt_id"].isin(frame["prompt_id"].unique()[:20])], path)
    return path


def read_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def once(
    policy: Path, reward_model: Path, prompts: Path, work: Path, seed: int = 0, **changes: Any
) -> Path:
    return rloo.train_policy(
        policy, reward_model, prompts, rloo_settings(**changes), seed, work, "standard-bt"
    )
