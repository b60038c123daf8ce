"""One rendering of (prompt, response) to token ids, shared by training, evaluation and RL.

The reward is read at the last token of the rendering, so its template decides which token that is
(docs/DEVIATIONS.md D21-D23). Nothing adds BOS, EOS or padding outside the template.
"""

import re
from typing import Any

from ..errors import InputError

Messages = list[dict[str, str]]


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


def pair_ids(tokenizer: Any, prompts: list[str], responses: list[str]) -> list[list[int]]:
    """Token ids of each chat-formatted (prompt, response), the last one being the pooled token.

    Special tokens spelt out in a text are removed first: an EOS at the end of a policy's
    completion, or a pad token in it, cannot change the score.
    """
    known = tokenizer.added_tokens_decoder.values()
    specials = re.compile("|".join(re.escape(token.content) for token in known if token.special))

    def clean(text: str) -> str:
        return specials.sub("", text).strip()

    return ids(
        tokenizer,
        [
            [
                {"role": "user", "content": clean(prompt)},
                {"role": "assistant", "content": clean(response)},
            ]
            for prompt, response in zip(prompts, responses, strict=True)
        ],
    )


def ids(tokenizer: Any, chats: list[Messages]) -> list[list[int]]:
    """Token ids of whole conversations, as the template renders them and nothing more."""
    if not chats:
        return []
    texts = tokenizer.apply_chat_template(chats, tokenize=False)
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"])
