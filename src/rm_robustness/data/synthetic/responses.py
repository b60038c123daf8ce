"""Synthetic responses and chats of the demo, as frames in the shape of UltraFeedback.

`tasks` has the prompts and the gold reward, `responders` the response models; this module samples
which model answers which prompt. Everything is a pure function of the seed: each draw has its own
stream of random numbers, named after its purpose, so that nothing depends on the order or the
number of draws.
"""

import difflib
import math
from collections.abc import Sequence

import pandas as pd

from ...errors import InputError
from .responders import (
    CHAT_RESPONDERS,
    CHAT_ROWS,
    TRAIN_RESPONDERS,
    TRAIN_ROWS,
    TRAIN_STYLE,
    VALID_RESPONDERS,
    VALID_ROWS,
    VALID_STYLE,
    respond,
    responders,
    seeded,
)
from .tasks import draw_prompt, gold

__all__ = ["CHAT_RESPONDERS", "TRAIN_RESPONDERS", "VALID_RESPONDERS", "chats", "gold", "responses"]

REPEATED_PROMPTS = 0.01  # share of prompts that repeat an earlier one
TWIN_RESPONSES = 0.005  # share of prompts with identical responses of two models


def draw_prompts(seed: int, stream: str, count: int, repeated: float) -> list[str]:
    """Draw `count` prompts: new ones, but a share `repeated` that copies an earlier one.

    Half of the copies are in title case with wider spacing. The first k prompts are the same
    whatever `count` is.
    """
    drawn: list[str] = []
    seen: set[str] = set()
    for i in range(count):
        rng = seeded(seed, stream, i)
        if drawn and rng.random() < repeated:
            copy = drawn[int(rng.random() * len(drawn))]
            drawn.append(copy if rng.random() < 0.5 else copy.title().replace(" ", "  ", 1))
            continue
        prompt = draw_prompt(rng)
        while prompt in seen:
            prompt = draw_prompt(rng)
        seen.add(prompt)
        drawn.append(prompt)
    return drawn


def _check_names(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse unknown and repeated names."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InputError(key, repr(name), f"one of {', '.join(known)}", f"nearest: {near!r}")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InputError(key, f"{twice[0]!r} twice", "every name once", "drop one of them")


def _check_range(key: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high]."""
    if not low <= value <= high:
        near = low if value < low or math.isnan(value) else high
        raise InputError(key, str(value), f"a number from {low} to {high}", f"nearest: {near}")


def _chosen(seed: int, prompt: str, names: Sequence[str], count: int) -> list[str]:
    """Choose the models that answer a prompt, by hash: independent of order and other prompts."""
    return sorted(names, key=lambda name: seeded(seed, "chosen", prompt, name).random())[:count]


def responses(
    seed: int,
    prompts: int,
    train_models: Sequence[str],
    valid_models: Sequence[str],
    length_quality_correlation: float,
    valid_length_quality_correlation: float,
    responses_per_prompt: int = 4,
) -> pd.DataFrame:
    """Draw the raw responses: one row each of example_id, prompt, response, response_model.

    Every one of the `prompts` examples is answered by `responses_per_prompt` of the
    `train_models` and as many of the `valid_models`, chosen by hash as UltraFeedback samples its
    models. About 1% of the examples repeat an earlier prompt (half of them in other
    case and spacing) and in about 0.5% two training models give the same response, as in real data.
    A response depends on `seed`, its prompt and its model (and on the correlation of its set)
    alone, apart from those copies. The correlations, in [-1, 1], couple talk with skill.
    InputError on an unknown name, a correlation out of range or a count that cannot be met.
    """
    _check_names("train_models", train_models, TRAIN_RESPONDERS)
    _check_names("valid_models", valid_models, VALID_RESPONDERS)
    _check_range("prompts", prompts, 1, math.inf)
    fewest = min(len(train_models), len(valid_models))
    _check_range("responses_per_prompt", responses_per_prompt, 1, fewest)
    _check_range("length_quality_correlation", length_quality_correlation, -1, 1)
    _check_range("valid_length_quality_correlation", valid_length_quality_correlation, -1, 1)
    train = responders(TRAIN_ROWS, [TRAIN_STYLE], length_quality_correlation)
    valid = responders(VALID_ROWS, [VALID_STYLE], valid_length_quality_correlation)
    rows = []
    for i, prompt in enumerate(draw_prompts(seed, "prompts", prompts, REPEATED_PROMPTS)):
        chosen = _chosen(seed, prompt, train_models, responses_per_prompt)
        unseen = _chosen(seed, prompt, valid_models, responses_per_prompt)
        answers = {name: respond(seed, prompt, train[name]) for name in chosen}
        if seeded(seed, "twins", prompt).random() < TWIN_RESPONSES and len(chosen) > 1:
            answers[chosen[1]] = answers[chosen[0]]
        answers |= {name: respond(seed, prompt, valid[name]) for name in unseen}
        rows += [(f"synthetic-{i:06}", prompt, text, name) for name, text in answers.items()]
    return pd.DataFrame(rows, columns=["example_id", "prompt", "response", "response_model"])


def chats(seed: int, examples: int) -> pd.DataFrame:
    """Draw a language model's pretraining text: frame as of `responses`, one answer an example.

    Only chat responders write it, each in the style of one of the two sets. The prompts come from
    the same grammar by another stream of random numbers, so a few are the same as those of
    `responses`; the answers are other ones.
    """
    _check_range("examples", examples, 1, math.inf)
    writers = responders(CHAT_ROWS, [TRAIN_STYLE, VALID_STYLE], 0.0)
    rows = []
    for i, prompt in enumerate(draw_prompts(seed, "chats", examples, 0.0)):
        name = CHAT_RESPONDERS[int(seeded(seed, "writer", i).random() * len(CHAT_RESPONDERS))]
        rows.append((f"chat-{i:06}", prompt, respond(seed, prompt, writers[name]), name))
    return pd.DataFrame(rows, columns=["example_id", "prompt", "response", "response_model"])
