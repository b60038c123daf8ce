"""One rendering of (prompt, response) to token ids, shared by training, evaluation and RL.

The reward is read at the last token of the rendering, so its template decides which token that is
(docs/DEVIATIONS.md D21-D23). Nothing adds BOS, EOS or padding outside the template.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ..errors import InputError

Messages = list[dict[str, str]]
CHUNK = 1024  # chats tokenised at once: a tokenizer needs ten times the memory of its ids meanwhile

# What a template that asks for the time gets, so that no rendering depends on the day. It is the
# date that Llama's own templates write where they have no clock.
CLOCK = datetime(2024, 7, 26)
# The only function of time that transformers gives to templates; a variable comes before it.
TEMPLATE_VARIABLES = {"strftime_now": CLOCK.strftime}
FIX = "save another one beside the tokenizer (chat_template.jinja)"


def prepare(tokenizer: Any, settings: dict[str, Any], where: str) -> None:
    """Set a tokenizer's template, EOS and PAD from config; refuse one that would pool wrongly.

    `settings` is a backbone's `chat` section: template (null keeps the tokenizer's own), eos, pad.
    """
    if settings["template"] is not None:
        tokenizer.chat_template = settings["template"]
    if tokenizer.chat_template is None:
        raise InputError(where, "no chat template", "one", "set backbones.*.chat.template")
    for name in ("eos", "pad"):
        token = settings[name]
        if token not in tokenizer.get_vocab():
            raise InputError(f"{where}: chat.{name}", f"'{token}'", "a token of the vocabulary")
    tokenizer.eos_token, tokenizer.pad_token = settings["eos"], settings["pad"]
    if tokenizer.eos_token_id == tokenizer.pad_token_id:
        # With pad = eos a classifier pools at the first EOS, which ends the prompt's turn (D22).
        raise InputError(f"{where}: chat.pad", f"'{tokenizer.pad_token}', the EOS", "another token")
    tokenizer.padding_side = "right"


def pair_ids(
    tokenizer: Any,
    prompts: list[str],
    responses: list[str],
    earlier: Sequence[Messages] | None = None,
) -> list[list[int]]:
    """Token ids of each chat-formatted (prompt, response), the last one being the pooled token.

    `earlier` has the turns before each prompt, for chats of more than one. Special tokens spelt out
    in a text are removed first: an EOS at the end of a policy's completion, or a pad token in it,
    cannot change the score.
    """
    specials = _specials(tokenizer)
    before = [[]] * len(prompts) if earlier is None else earlier
    chats = [
        [*turns, {"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for turns, prompt, response in zip(before, prompts, responses, strict=True)
    ]
    return ids(
        tokenizer,
        [
            [turn | {"content": specials.sub("", turn["content"]).strip()} for turn in turns]
            for turns in chats
        ],
    )


def frame_ids(tokenizer: Any, frame: Any) -> list[list[int]]:
    """`pair_ids` of a frame of responses; a column `earlier` has the turns before each prompt."""
    earlier = list(frame["earlier"]) if "earlier" in frame else None
    return pair_ids(tokenizer, list(frame["prompt"]), list(frame["response"]), earlier)


def plain_pairs(tokenizer: Any, frame: Any) -> tuple[list[list[int]], list[list[int]] | None]:
    """Token ids and token types of each (prompt, response) as an encoder's tokenizer joins a pair.

    Special tokens spelt out in a text are removed first. Raises InputError for earlier turns, which
    a pair has no place for.
    """
    specials = _specials(tokenizer)
    if "earlier" in frame and any(len(turns) for turns in frame["earlier"]):
        found = "no chat template, and chats of several turns"
        raise InputError(tokenizer.name_or_path, found, "chats of one turn", FIX)
    prompts, responses = (
        [specials.sub("", text).strip() for text in frame[name]] for name in ("prompt", "response")
    )
    encoded = tokenizer(prompts, responses, truncation=False)
    return encoded["input_ids"], encoded.get("token_type_ids")


def _specials(tokenizer: Any) -> re.Pattern[str]:
    """A pattern of the tokenizer's special tokens; one that matches nothing where it has none."""
    known = tokenizer.added_tokens_decoder.values()
    names = [re.escape(token.content) for token in known if token.special]
    return re.compile("|".join(names) or "(?!)")


def prompt_ids(tokenizer: Any, prompts: list[str]) -> list[list[int]]:
    """Token ids of each prompt as one user turn, with the opening of the assistant's turn."""
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return ids(tokenizer, turns, add_generation_prompt=True)


def ids(tokenizer: Any, chats: list[Messages], **options: Any) -> list[list[int]]:
    """Token ids of whole conversations, as the template renders them and nothing more."""
    tokens: list[list[int]] = []
    for start in range(0, len(chats), CHUNK):
        texts = render(tokenizer, chats[start : start + CHUNK], **options)
        tokens += tokenizer(texts, add_special_tokens=False)["input_ids"]
    return tokens


def clock_fact(tokenizer: Any) -> dict[str, str]:
    """What a record says of `CLOCK`: its date, for a template that asks for the time."""
    dated = "strftime_now" in str(tokenizer.chat_template)
    return {"template_clock": CLOCK.date().isoformat()} if dated else {}


def render(tokenizer: Any, chats: list[Messages], **options: Any) -> list[str]:
    """Texts of whole conversations by the tokenizer's template, at the time `CLOCK`.

    Raises InputError for whatever the template raises, and for a text without one of the turns: a
    template that takes contents as lists of parts renders every text as nothing, and says nothing.
    """
    if tokenizer.chat_template is None:
        expected = "the one that the model was trained with"
        raise InputError(tokenizer.name_or_path, "no chat template", expected, FIX)
    where = f"chat template of {tokenizer.name_or_path}"
    try:
        texts: list[str] = tokenizer.apply_chat_template(
            chats, tokenize=False, **TEMPLATE_VARIABLES, **options
        )
    except Exception as error:  # a template is a program of other people
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(where, reason, "one that renders chats of texts", FIX) from error
    for turns, text in zip(chats, texts, strict=True):
        for turn in turns:
            last_words = turn["content"].split()[-1:]  # templates may trim, or cut off a beginning
            # Not every template has system turns.
            if turn["role"] != "system" and not all(word in text for word in last_words):
                found = f"it left out the turn of the {turn['role']} {turn['content']!r:.40}"
                raise InputError(where, found, "every turn", FIX)
    return texts
