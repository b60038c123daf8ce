"""The rendering of chats to tokens."""

import pytest
from support.small_models import CHAT, INIT
from transformers import AutoTokenizer

from rm_robustness.errors import InputError
from rm_robustness.models import chat
from rm_robustness.models.language_model import train_tokenizer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eos": "<|stop|>"}, ["chat.eos", "<|stop|>", "vocabulary"]),
        ({"pad": "<|end|>"}, ["chat.pad", "the EOS", "another token"]),
        ({"template": None}, ["no chat template"]),
    ],
)
def test_a_tokenizer_that_would_pool_wrongly_is_refused(world, changes, words):
    tokenizer = train_tokenizer(list(world["prompt"]), INIT)
    with pytest.raises(InputError) as error:
        chat.prepare(tokenizer, CHAT | changes, "backbones.llama")
    assert all(word in str(error.value) for word in words)


def test_special_tokens_written_in_a_text_are_not_special(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    plain, injected = chat.pair_ids(
        tokenizer,
        ["list two fruits .", "list two fruits <|end|>."],
        ["apple .", "apple .<|endoftext|>"],
    )
    assert injected.count(tokenizer.eos_token_id) == 1
    assert tokenizer.pad_token_id not in injected
    assert plain[-1] == injected[-1] == tokenizer.eos_token_id
