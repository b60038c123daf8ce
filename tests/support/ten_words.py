"""A random Llama over ten words, whose end token is likely enough to be drawn; prompts for it."""

from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def make_ten_words(folder: Path) -> Path:
    """A model and its tokenizer with a chat template; the context is 24 tokens."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<end>", "user:", *"abcdefgh"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<end>", unk_token="<pad>"
    )
    tokenizer.chat_template = "{% for m in messages %}user: {{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        initializer_range=0.5,
        eos_token_id=1,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def frame_of(prompts: list[str]) -> pd.DataFrame:
    """Prompts as `generate` reads them."""
    return pd.DataFrame({"example_id": [f"e{i}" for i in range(len(prompts))], "prompt": prompts})
