"""Rows of preference data: a pair or a list of responses, as conversations with their gold."""

import itertools
from typing import Any

import numpy as np

from ..errors import InputError
from ..frames import require_text
from .hub_datasets import ROLES

Row = dict[str, Any]
Turns = list[dict[str, str]]
Response = tuple[Turns, str, float]  # the whole conversation, its model, its gold
TIED = 0.5  # the gold of both, where chosen equals rejected: no preference to agree with


def pair(row: Row, where: str) -> list[Response]:
    """The chosen and the rejected response of a row; two ties where they are equal."""
    chosen, rejected = row["chosen"], row["rejected"]
    if "prompt" in row:
        prompt = row["prompt"]
    elif isinstance(chosen, str) and isinstance(rejected, str):
        prompt = _common_beginning(chosen, rejected, where)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        prompt = []
    sides = [
        _conversation(prompt, value, name, where)
        for name, value in (("chosen", chosen), ("rejected", rejected))
    ]
    asked = [next(turn for turn in turns if turn["role"] == "user") for turns in sides]
    if asked[0] != asked[1]:
        found = f"chats that begin with {asked[0]['content']!r:.40} and {asked[1]['content']!r:.40}"
        raise InputError(where, found, "two answers to one prompt")
    golds = (TIED, TIED) if sides[0] == sides[1] else (1.0, 0.0)
    return list(zip(sides, ("chosen", "rejected"), golds, strict=True))


def ranked(row: Row, where: str) -> list[Response]:
    """The responses of a row with their scores."""
    responses, scores = (list_of(row[name], name, where) for name in ("responses", "scores"))
    if len(responses) < 2:
        raise InputError(where, f"{len(responses)} responses", "two or more")
    models = row.get("models")
    if models is None:
        models = [f"response-{number}" for number in range(1, len(responses) + 1)]
    for name, values in (("scores", scores), ("models", list_of(models, "models", where))):
        if len(values) != len(responses):
            found = f"{len(responses)} responses and {len(values)} {name}"
            raise InputError(where, found, "as many of one as of the other")
    return [
        (
            _conversation(row["prompt"], response, f"response {number}", where),
            require_text(model, f"model {number}", where),
            number_of(score, f"score {number}", where),
        )
        for number, (response, model, score) in enumerate(
            zip(responses, models, scores, strict=True), 1
        )
    ]


def _conversation(prompt: Any, answer: Any, name: str, where: str) -> Turns:
    """All turns of one response: those of its prompt, which may be in both, and its own."""
    asked = turns_of(prompt, "prompt", "user", where) if prompt != [] else []
    own = turns_of(answer, name, "assistant", where)
    # As in many data sets: the prompt once more by itself, as a text or as turns.
    whole = own[: len(asked)] == asked or (
        isinstance(prompt, str) and own[0]["role"] != "assistant"
    )
    turns = own if whole else asked + own
    roles = [turn["role"] for turn in turns]
    asked_twice = not whole and (asked[-1]["role"], own[0]["role"]) == ("user", "user")
    if asked_twice or roles[-2:] != ["user", "assistant"]:
        found = f"the turns {', '.join(roles)} of {name} and its prompt"
        expected = "a user's turn, then the assistant's answer, which is the last turn"
        raise InputError(where, found, expected)
    require_text(turns[-1]["content"], name, where, filled=True)
    return turns


def turns_of(value: Any, name: str, role: str, where: str) -> Turns:
    """The turns of a conversation; a text is one turn of the given role."""
    if not isinstance(value, list):
        return [{"role": role, "content": require_text(value, name, where)}]
    if not value:
        raise InputError(where, f"no turns in {name}", "some")
    turns = []
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            found = f"{short(turn)} in {name}"
            raise InputError(where, found, f"turns with `content` and a `role` of {ROLES}")
        content = require_text(turn.get("content"), f"content in {name}", where)
        turns.append({"role": turn["role"], "content": content})
    return turns


def _common_beginning(chosen: str, rejected: str, where: str) -> str:
    """The prompt of two texts that begin with it: up to the word in which they first differ.

    As `trl.extract_prompt`, which cuts within that word.
    """
    both = itertools.takewhile(lambda two: two[0] == two[1], zip(chosen, rejected, strict=False))
    common = "".join(letter for letter, _ in both)
    end = max((at + 1 for at, letter in enumerate(common) if letter.isspace()), default=0)
    if chosen == rejected or not common[:end].strip():
        found = "equal texts" if chosen == rejected else "texts that begin differently"
        fix = "put the prompt into a column of its own"
        raise InputError(where, f"{found} in chosen and rejected", "a prompt, then answers", fix)
    return common[:end]


def identity(value: Any, name: str, where: str) -> str:
    """An id as a text; InputError for what is neither text nor whole number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise InputError(where, f"{name} {short(value)}", "a text or a whole number")
    return require_text(str(value), name, where)


def number_of(value: Any, name: str, where: str) -> float:
    """A finite number; a text that spells one is not one."""
    try:
        number = np.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(where, f"{name} {short(value)}", "a finite number")
    return number


def list_of(value: Any, name: str, where: str) -> list[Any]:
    """A list; InputError for anything else."""
    if not isinstance(value, list):
        raise InputError(where, f"{name} {short(value)}", f"a list `{name}`")
    return value


def short(value: Any) -> str:
    """A value for an error's line."""
    return " ".join(repr(value).split())[:60]
