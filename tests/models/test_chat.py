"""The rendering of chats to tokens."""

from datetime import datetime

import pytest
from support.small_models import CHAT, INIT, TEMPLATE
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


DATED = "{{ strftime_now('%d %B %Y') }}" + CHAT["template"]


class Day(datetime):
    """A clock that stands at another day."""

    @classmethod
    def now(cls, tz=None):
        return cls(2031, 12, 24)


def test_a_date_in_a_template_does_not_depend_on_the_day(llama, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = DATED
    turns = [{"role": "user", "content": "hello"}]
    assert chat.render(tokenizer, [turns])[0].startswith("26 July 2024")
    pair, prompt = (
        chat.pair_ids(tokenizer, ["hello"], ["well ."]),
        chat.prompt_ids(tokenizer, ["hello"]),
    )
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Day)
    assert "2031" in tokenizer.apply_chat_template(turns, tokenize=False)
    assert chat.pair_ids(tokenizer, ["hello"], ["well ."]) == pair
    assert chat.prompt_ids(tokenizer, ["hello"]) == prompt


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('A system turn is required') }}", "A system turn is required"),
        ("{{ missing.attribute }}", "'missing' is undefined"),
        ("{% for m in messages %}{{ m['content'] }}", "Unexpected end of template"),
        ("{{ messages[0]['content'] + 1 }}", "can only concatenate str"),
        ({"rag": TEMPLATE, "tool_use": TEMPLATE}, "multiple chat templates"),
    ],
)
def test_whatever_a_template_raises_is_one_line(llama, template, message):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message) as error:
        chat.pair_ids(tokenizer, ["hello"], ["well ."])
    assert str(llama) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "template",
    [
        # Contents as a list of parts, of which a text has none.
        "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}",
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
        "{{ messages[-1]['content'] }}",
    ],
)
def test_a_rendering_that_lost_a_turn_is_refused(llama, template):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=r"left out the turn of the (user|assistant)"):
        chat.pair_ids(tokenizer, ["hello"], ["well ."])


def test_turns_before_the_prompt_are_rendered_before_it(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    before = [{"role": "user", "content": "a <|end|>"}, {"role": "assistant", "content": "b"}]
    turns = [{"role": "user", "content": "a"}, before[1], {"role": "user", "content": "c"}]
    turns.append({"role": "assistant", "content": "d"})
    assert chat.pair_ids(tokenizer, ["c"], ["d"], [before]) == chat.ids(tokenizer, [turns])
