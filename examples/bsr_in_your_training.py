"""BSR in an ordinary TRL training: the same model and pairs, once with bt and once with bt-bsr.

    python examples/bsr_in_your_training.py                 # a tiny model, offline, seconds
    python examples/bsr_in_your_training.py --model FOLDER  # your language model, or a hub id
    python examples/bsr_in_your_training.py --write FOLDER  # what examples/reward.yaml trains on

Bradley-Terry sees differences of rewards alone, so the mean reward stays wherever the first weights
and the training leave it. BSR pulls the mean of each batch to zero.
"""

import argparse
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PrinterCallback,
)
from transformers.utils import logging
from trl import RewardConfig

from rm_robustness import ObjectiveTrainer, bt, bt_bsr
from rm_robustness.models.language_model import train_tokenizer

WORDS = ["apple", "bread", "candle", "cloud", "lemon", "piano", "river", "stone", "tiger"]
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}<|end|>{% endfor %}"


def preferences(count: int, seed: int) -> Dataset:
    """Pairs in TRL's format: the chosen answer repeats three words, the rejected one does not."""
    draw = random.Random(seed)

    def said(role: str, words: list[str]) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(words)}]

    rows = []
    for _ in range(count):
        words = draw.sample(WORDS, 3)
        rows.append(
            {
                "prompt": said("user", ["repeat", *words]),
                "chosen": said("assistant", words),
                "rejected": said("assistant", draw.sample(WORDS, 3)),
            }
        )
    return Dataset.from_list(rows)


def load(name: str | None) -> tuple[Any, Any]:
    """Load a language model with a new reward head; without a name, initialise a tiny one."""
    torch.manual_seed(0)
    if name is None:
        texts = [" ".join(["repeat", *WORDS])]
        tokenizer = train_tokenizer(texts, {"vocabulary": 400, "max_length": 64})
        tokenizer.chat_template = TEMPLATE
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_labels=1,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = AutoModelForSequenceClassification.from_config(config)
    else:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=1, dtype=torch.float32
        )
    hidden = model.score.weight.shape[1]
    torch.nn.init.normal_(model.score.weight, 0.0, (hidden + 1) ** -0.5)  # as the paper draws it
    return model, tokenizer


def train(name: str | None, objective: Callable[..., torch.Tensor], epochs: float) -> None:
    """Train on 512 pairs and print the mean reward of 128 others, before and after."""
    model, tokenizer = load(name)
    pairs, held_out = preferences(512, seed=1), preferences(128, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        args = RewardConfig(
            output_dir=folder,
            num_train_epochs=epochs,
            learning_rate=1e-5 if name else 1e-3,
            per_device_train_batch_size=16,
            bf16=False,
            gradient_checkpointing=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = ObjectiveTrainer(
            model=model,
            args=args,
            train_dataset=pairs,
            eval_dataset=held_out,
            processing_class=tokenizer,
            objective=objective,
        )
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate()
        trainer.train()
        after = trainer.evaluate()
    means = f"{before['eval_mean_reward']:+7.3f} -> {after['eval_mean_reward']:+7.3f}"
    print(f"mean reward {means}, accuracy {after['eval_accuracy']:.2f}")


def main() -> None:
    """Train twice and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a language model with a chat template: folder or hub id")
    parser.add_argument("--weight", type=float, default=1e-3, help="lambda of BSR")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--write", type=Path, help="only write the model and its pairs there")
    options = parser.parse_args()
    if options.write:
        for part in load(options.model):
            part.save_pretrained(options.write / "model")
        preferences(512, seed=1).to_json(options.write / "pairs.jsonl")
        return
    disable_progress_bars()
    logging.set_verbosity_error()
    objectives = {"bt": bt, "bt-bsr": partial(bt_bsr, weight=options.weight)}
    for objective, function in objectives.items():
        print(f"{objective:7}", end=" ", flush=True)
        train(options.model, function, options.epochs)


if __name__ == "__main__":
    main()
