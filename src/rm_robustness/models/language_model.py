"""Causal language models: loading one with its tokenizer, and making a small one from config."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    set_seed,
)

from ..errors import InputError
from ..experiment.config import Settings
from .checkpoint import check, is_adapter


def load_language_model(folder: str | Path, dtype: str | torch.dtype) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer from safetensors; no code of it is run.

    Raises InputError when the folder cannot be read, and when a weight is missing, which
    transformers would draw at random, or unexpected, which it would drop.
    """
    check(Path(folder))
    if is_adapter(Path(folder)):
        fix = "merge it onto its base with peft (merge_and_unload) and save that"
        raise InputError(folder, "an adapter", "a whole language model", fix)
    with explained_loading(folder, "a causal language model"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    require_exact_weights(report, folder, "a language model")
    return model, tokenizer


@contextmanager
def explained_loading(folder: str | Path, expected: str) -> Iterator[None]:
    """Turn what transformers raises for an unreadable model folder into one InputError."""
    try:
        yield
    except Exception as error:  # other people's files may raise anything in other people's code
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(folder, f"no readable model ({reason})", expected) from error


def require_exact_weights(report: dict[str, Any], source: str | Path, expected: str) -> None:
    """Refuse a loading report (`output_loading_info`) of missing or unexpected weights."""
    wrong = sorted(report["missing_keys"]) + sorted(report["unexpected_keys"])
    if wrong:
        raise InputError(
            source,
            f"missing or unexpected weights {wrong[:3]}",
            f"exactly those of {expected}",
            "train or fetch it again",
        )


def train_tokenizer(texts: list[str], settings: Settings) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; turns and EOS are special tokens.

    It splits text as Qwen2 does for every architecture, because AutoTokenizer gives a Qwen2 model
    that splitting whatever its files say: any other would not survive saving and loading.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings["vocabulary"],
        # The padding token has the name that transformers would otherwise add for Qwen2.
        special_tokens=["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Words are learnt with the space before them, as they stand in the template.
    tokenizer.train_from_iterator((f" {text}" for text in texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        padding_side="right",
        model_max_length=settings["max_length"],
    )


def from_config(settings: Settings, texts: list[str], seed: int) -> tuple[Any, Any]:
    """Initialise a small model (Llama or Qwen2) by `seed` and train its tokenizer."""
    tokenizer = train_tokenizer(texts, settings)
    config = AutoConfig.for_model(
        settings["architecture"],
        vocab_size=len(tokenizer),
        hidden_size=settings["hidden_size"],
        intermediate_size=settings["intermediate_size"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        num_key_value_heads=settings["heads"],
        max_position_embeddings=settings["max_length"],
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    set_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer
