"""The synthetic world's prompts and its gold reward: ten kinds of task, ten categories of nouns.

A prompt is one sentence of a small grammar, an answer is a list of words, and `gold` is a function
of both. Nothing is learnt and nothing depends on the response model, so the gold reward is exact on
any text, also on the degenerate text of an over-optimised policy.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from ...errors import InputError

T = TypeVar("T")

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
NUMBERS = tuple(_NUMBERS.split())
# The first three are in the order of their attribute: weight, latitude, density.
CATEGORIES = {
    "animals": "ant bee mouse rabbit cat dog sheep lion horse bull giraffe rhino elephant whale",
    "cities": "oslo moscow london paris rome madrid tokyo cairo delhi mumbai lagos nairobi lima "
    "sydney",
    "metals": "lithium magnesium aluminium titanium zinc tin iron nickel copper silver lead "
    "mercury gold platinum",
    "fruits": "apple banana cherry fig grape kiwi lemon lime mango melon papaya peach pear plum",
    "birds": "crow duck eagle finch gull hawk heron owl parrot penguin robin sparrow stork swan",
    "tools": "axe chisel clamp drill hammer ladder lathe pliers rake saw shovel sickle spade "
    "wrench",
    "vegetables": "beet cabbage carrot celery garlic kale leek onion pea potato pumpkin radish "
    "spinach turnip",
    "clothes": "belt boot coat dress glove hat jacket scarf shirt shoe skirt sock sweater vest",
    "instruments": "banjo cello drum flute guitar harp horn lute oboe organ piano trumpet tuba "
    "violin",
    "colors": "beige black blue brown crimson gray green pink purple red teal violet white yellow",
}
WORDS = {category: tuple(words.split()) for category, words in CATEGORIES.items()}
CATEGORY = {word: category for category, words in WORDS.items() for word in words}
NOUNS = tuple(CATEGORY)
SCALES = {
    ("small", "large"): WORDS["animals"],
    ("north", "south"): WORDS["cities"],
    ("light", "heavy"): WORDS["metals"],
    ("low", "high"): NUMBERS,
}
TEMPLATES = {
    "list": (
        "please list {n} {what} .",
        "name {n} {what} for me .",
        "can you give me {n} {what} ?",
    ),
    "except": ("list {n} {what} but not {x} or {y} .", "name {n} {what} other than {x} and {y} ."),
    "alphabet": ("sort in alphabetical order : {words} .", "put in alphabetical order : {words} ."),
    "scale": (
        "sort from {low} to {high} : {words} .",
        "put in order , {low} to {high} : {words} .",
    ),
    "pick": ("pick the {what} : {words} .", "which of these are {what} : {words} ?"),
    "count": ("count the {what} and name them : {words} .", "how many {what} are here : {words} ?"),
    "odd": ("find the odd words : {words} .", "which words do not belong : {words} ?"),
    "reverse": ("repeat in reverse order : {words} .", "say these words backwards : {words} ."),
    "add": ("add {n} to each number : {words} .", "what is each number plus {n} : {words} ?"),
    "compare": (
        "pick the numbers {side} {n} : {words} .",
        "which numbers are {side} {n} : {words} ?",
    ),
}
SLOTS = {"what": "[a-z]+(?: or [a-z]+)?", "words": "[a-z ]+", "side": "above|below"}
PATTERNS = [
    (
        kind,
        re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{SLOTS.get(m[1], '[a-z]+')})", t)),
    )
    for kind, templates in TEMPLATES.items()
    for t in (re.sub(r"([.?])", r"\\\1", template) for template in templates)
]


@dataclass(frozen=True)
class Task:
    """The task of a prompt: name `need` of the `right` words, in `order` where that is not empty.

    `lures` are plausible wrong items, `answer_words` every word that counts as an item of an
    answer, `number` the number word that a "count" prompt needs besides the items.
    """

    kind: str
    what: str
    need: int
    right: tuple[str, ...]
    lures: tuple[str, ...]
    answer_words: frozenset[str]
    order: tuple[str, ...] = ()
    number: str = ""


def pick(rng: random.Random, pool: Sequence[T], k: int) -> list[T]:
    """Draw `k` different entries of `pool` by `rng.random()`, which is stable across Pythons."""
    left = list(pool)
    return [left.pop(int(rng.random() * len(left))) for _ in range(k)]


def _between(rng: random.Random, low: int, high: int) -> int:
    """Draw a whole number from `low` to `high`."""
    return low + int(rng.random() * (high - low + 1))


def _slots(kind: str, rng: random.Random) -> dict[str, str]:
    """Draw the words that fill a template of this kind."""
    what, other, third = pick(rng, list(WORDS), 3)
    if kind == "list":
        either = f"{what} or {other}" if rng.random() < 0.5 else what
        return {"n": NUMBERS[_between(rng, 3, 6)], "what": either}
    if kind == "except":
        x, y = pick(rng, WORDS[what], 2)
        return {"n": NUMBERS[_between(rng, 3, 5)], "what": what, "x": x, "y": y}
    if kind == "alphabet":
        return {"words": " ".join(pick(rng, WORDS[what], _between(rng, 4, 5)))}
    if kind == "scale":
        ends = list(SCALES)[_between(rng, 0, len(SCALES) - 1)]
        low, high = ends if rng.random() < 0.5 else ends[::-1]
        words = pick(rng, SCALES[ends], _between(rng, 4, 5))
        return {"low": low, "high": high, "words": " ".join(words)}
    if kind in ("pick", "count"):
        mixed = pick(rng, WORDS[what], _between(rng, 2, 4))
        mixed += pick(rng, WORDS[other] + WORDS[third], 2)
        return {"what": what, "words": " ".join(pick(rng, mixed, len(mixed)))}
    if kind == "odd":
        mixed = pick(rng, WORDS[what], _between(rng, 3, 4)) + pick(rng, WORDS[other], 1)
        mixed += pick(rng, WORDS[third], _between(rng, 0, 1))
        return {"words": " ".join(pick(rng, mixed, len(mixed)))}
    if kind == "reverse":
        return {"words": " ".join(pick(rng, NOUNS, _between(rng, 4, 6)))}
    if kind == "add":
        words = pick(rng, NUMBERS[:16], _between(rng, 3, 5))
        return {"n": NUMBERS[_between(rng, 1, 5)], "words": " ".join(words)}
    numbers = pick(rng, NUMBERS, _between(rng, 5, 6))
    middle = sorted(numbers, key=NUMBERS.index)[_between(rng, 2, len(numbers) - 3)]
    side = "above" if rng.random() < 0.5 else "below"
    return {"side": side, "n": middle, "words": " ".join(numbers)}


def draw_prompt(rng: random.Random) -> str:
    """Draw one prompt of 5 to 14 words; every kind of task is equally likely."""
    kind = list(TEMPLATES)[_between(rng, 0, len(TEMPLATES) - 1)]
    templates = TEMPLATES[kind]
    template = templates[_between(rng, 0, len(templates) - 1)]
    return template.format(**_slots(kind, rng))


def _ordered(kind: str, what: str, order: Sequence[str], lures: Sequence[str]) -> Task:
    """A task whose items must stand in one order."""
    known = frozenset(NUMBERS if order[0] in NUMBERS else NOUNS)
    return Task(kind, what, len(order), tuple(order), tuple(lures), known, tuple(order))


def _subset(kind: str, what: str, listed: Sequence[str], right: Sequence[str]) -> Task:
    """A task that selects the `right` ones of the words listed in the prompt."""
    lures = [word for word in listed if word not in right]
    known = frozenset(NUMBERS if listed[0] in NUMBERS else NOUNS)
    number = NUMBERS[len(right)] if kind == "count" else ""
    return Task(kind, what, len(right), tuple(right), tuple(lures), known, number=number)


def _solve(kind: str, slots: dict[str, str]) -> Task:
    """Find the right items, and the plausible wrong ones, from a template's words."""
    if kind in ("list", "except"):
        names = slots["what"].split(" or ")
        barred = [slots[slot] for slot in ("x", "y") if slot in slots]
        right = [word for name in names for word in WORDS[name] if word not in barred]
        off_topic = next(name for name in WORDS if name not in names)
        lures = (*barred, *WORDS[off_topic])
        what = names[0] if len(names) == 1 else "words"
        need = NUMBERS.index(slots["n"])
        return Task(kind, what, need, tuple(right), lures, frozenset(NOUNS))
    listed = list(dict.fromkeys(slots["words"].split()))
    if kind in ("pick", "count"):
        right = [word for word in listed if CATEGORY[word] == slots["what"]]
        return _subset(kind, slots["what"], listed, right)
    if kind == "odd":
        usual = Counter(CATEGORY[word] for word in listed).most_common(1)[0][0]
        return _subset(kind, "words", listed, [w for w in listed if CATEGORY[w] != usual])
    if kind == "compare":
        edge, sign = NUMBERS.index(slots["n"]), 1 if slots["side"] == "above" else -1
        right = [word for word in listed if sign * (NUMBERS.index(word) - edge) > 0]
        return _subset(kind, "numbers", listed, right)
    if kind == "add":
        plus = NUMBERS.index(slots["n"])
        sums = [NUMBERS[NUMBERS.index(word) + plus] for word in listed]
        near = [NUMBERS[min(NUMBERS.index(word) + d, 20)] for word in sums for d in (-1, 1)]
        return _ordered(kind, "numbers", sums, [word for word in near if word not in sums])
    if kind == "scale":
        low, high = slots["low"], slots["high"]
        up = (low, high) in SCALES
        pool = SCALES[(low, high) if up else (high, low)]
        order = sorted(listed, key=pool.index, reverse=not up)
        what = "numbers" if pool is NUMBERS else CATEGORY[pool[0]]
        return _ordered(kind, what, order, [word for word in pool if word not in listed])
    order = sorted(listed) if kind == "alphabet" else listed[::-1]
    nouns = {noun for word in listed for noun in WORDS[CATEGORY[word]]}
    return _ordered(kind, "words", order, sorted(nouns.difference(listed)))


@lru_cache(maxsize=1 << 16)
def parse(prompt: str) -> Task:
    """Read the task from a prompt of any case and spacing; InputError if there is none."""
    text = " ".join(prompt.lower().split())
    for kind, pattern in PATTERNS:
        match = pattern.fullmatch(text)
        if match:
            try:
                task = _solve(kind, match.groupdict())
            except (LookupError, ValueError):
                break
            if 1 <= task.need <= len(task.right):
                return task
            break
    raise InputError(
        "prompt",
        repr(prompt),
        f"a prompt of the synthetic world, such as {TEMPLATES['pick'][0]!r} with its slots filled",
        "the programmatic gold reward reads no other prompts",
    )


def _concordance(items: Sequence[str], order: Sequence[str]) -> float:
    """The share of pairs of items that stand in the right order; 1 for fewer than two."""
    places = [order.index(word) for word in items]
    pairs = [a < b for i, a in enumerate(places) for b in places[i + 1 :]]
    return sum(pairs) / len(pairs) if pairs else 1.0


def gold(prompt: str, response: str) -> float:
    """The gold reward r* of a response, between -1 and 1.

    The share of the needed right items; times 0.4 to 1 by the share of pairs in order,
    where the order matters; a "count" prompt gives half of the share to the number. Then a
    penalty p, saturated as 1 - exp(-p): 0.75 for each wrong item, 0.25 for each repeated or surplus
    one, relative to the needed number, and 0.0025 for each character outside the items, so that
    talk costs little compared with a mistake. An empty answer has 0. InputError on a prompt that is
    not of this world; no response raises.
    """
    task = parse(prompt)
    tokens = re.findall(r"[a-z]+|[^a-z\s]", response.lower())
    items = [token for token in tokens if token in task.answer_words]
    hits = [item for item in items if item in task.right]
    counted = list(dict.fromkeys(hits))[: task.need]
    share = len(counted) / task.need
    if task.order:
        share *= 0.4 + 0.6 * _concordance(counted, task.order)
    talk = sum(map(len, tokens)) - sum(map(len, items))
    if task.number:
        said = next((token for token in tokens if token in NUMBERS), "")
        off = abs(NUMBERS.index(said) - NUMBERS.index(task.number)) if said else math.inf
        share = 0.5 * share + 0.5 * math.exp(-off)
        talk -= len(said)
    wrong, repeated_or_surplus = len(items) - len(hits), len(hits) - len(counted)
    penalty = (0.75 * wrong + 0.25 * repeated_or_surplus) / task.need + 0.0025 * talk
    return share - (1.0 - math.exp(-penalty))
