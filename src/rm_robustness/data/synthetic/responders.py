"""The response models of the synthetic world, called responders.

A responder errs at its own rates and adds its own phrases ("talk"). The validation responders have
phrases, separators and endings that the training ones never use, so that unseen response models
are unseen in style as well as in skill; the "chat" responders, half in each style, write a language
model's pretraining text. A correlation per set couples talk with skill: a spurious feature that a
reward model may learn.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from .tasks import NUMBERS, Task, parse, pick


@dataclass(frozen=True)
class Style:
    """The phrases of one responder, or all those of a set; `{what}` stands for the topic."""

    openings: tuple[str, ...]
    fillers: tuple[str, ...]
    endings: tuple[str, ...]
    separators: tuple[str, ...]
    stop: str

    def share(self, i: int, n: int) -> "Style":
        """Select the phrases of responder `i`: `n` of each sort and one separator."""

        def own(pool: tuple[str, ...], n: int) -> tuple[str, ...]:
            return tuple(pool[(n * i + j) % len(pool)] for j in range(n))

        return Style(
            own(self.openings, n),
            own(self.fillers, n),
            own(self.endings, n),
            own(self.separators, 1),
            self.stop,
        )


@dataclass(frozen=True)
class Responder:
    """A response model: rates of wrong, omitted, repeated and surplus items, and of talk (0-1)."""

    name: str
    wrong: float
    omitted: float
    repeated: float
    surplus: float
    talk: float
    style: Style

    @property
    def errors(self) -> float:
        """The rates of mistakes, weighted as the gold reward weighs them."""
        return 1.75 * self.wrong + self.omitted + 0.25 * (self.repeated + self.surplus)


TRAIN_STYLE = Style(
    openings=(
        "here are the {what} :",
        "sure , here you go :",
        "my answer is :",
        "of course , the {what} are :",
        "the {what} you asked for :",
        "okay , let me see :",
        "i would say :",
        "thank you , my list is :",
        "happy to help with {what} :",
        "the answer is simple :",
        "these are good {what} :",
        "well , i think of :",
        "let us begin :",
        "a good answer would be :",
        "that is easy :",
        "i can help , try :",
        "below are my {what} :",
        "you can use these :",
    ),
    fillers=(
        "that is a nice question .",
        "i like this topic .",
        "let me think about it .",
        "many people ask me this .",
        "i checked every word .",
        "this took some thought .",
        "others may differ .",
        "i am quite sure of it .",
        "it is a common question .",
        "please keep this in mind .",
        "in short , that is all .",
        "the order matters here .",
        "{what} are a fine topic .",
        "i know a lot about {what} .",
        "you could look them up .",
        "there is more to say .",
        "it is good to ask .",
        "i read it with care .",
    ),
    endings=(
        "i hope this helps .",
        "let me know if not .",
        "have a good day .",
        "thanks for asking .",
        "feel free to ask more .",
        "good luck with it .",
        "that is my final answer .",
        "is that what you wanted ?",
        "ask me again any time .",
        "enjoy your {what} .",
        "done .",
        "all set .",
        "i am glad to help .",
        "please check my answer .",
        "that is all i know .",
        "see you soon .",
        "take care .",
        "do you need more ?",
    ),
    separators=(",", "and", ";", "then", "&", "or"),
    stop=".",
)
VALID_STYLE = Style(
    openings=(
        "hey friend , {what} coming up =",
        "quick reply =",
        "wow , fun =",
        "result =",
        "so basically =",
        "from memory =",
        "got it =",
        "hello there , {what} =",
    ),
    fillers=(
        "honestly , such great stuff !",
        "trust me here !",
        "no worries about {what} !",
        "my best guess today !",
        "what an awesome task !",
        "as an assistant , i love {what} !",
        "maybe double check later !",
        "kind of tricky !",
    ),
    endings=(
        "cheers !",
        "hope that works !",
        "anything else , friend ?",
        "bye now !",
        "over and out !",
        "best wishes !",
        "catch you later !",
        "peace !",
    ),
    separators=("/", "|", "-", "plus"),
    stop="!",
)

Row = tuple[str, float, float, float, float, int]
TRAIN_ROWS: tuple[Row, ...] = (  # wrong, omitted, repeated, surplus; rank of talk at dial 0
    ("alder", 0.05, 0.06, 0.00, 0.02, 3),
    ("ash", 0.08, 0.05, 0.01, 0.05, 9),
    ("aspen", 0.06, 0.12, 0.02, 0.10, 15),
    ("beech", 0.10, 0.10, 0.01, 0.04, 4),
    ("birch", 0.12, 0.12, 0.04, 0.08, 10),
    ("cedar", 0.08, 0.24, 0.01, 0.02, 16),
    ("cypress", 0.15, 0.14, 0.03, 0.10, 5),
    ("elm", 0.18, 0.14, 0.05, 0.06, 11),
    ("fir", 0.14, 0.28, 0.02, 0.05, 0),
    ("hazel", 0.22, 0.18, 0.06, 0.12, 6),
    ("larch", 0.20, 0.28, 0.04, 0.08, 12),
    ("maple", 0.26, 0.22, 0.08, 0.15, 1),
    ("oak", 0.24, 0.32, 0.06, 0.10, 7),
    ("pine", 0.32, 0.24, 0.12, 0.10, 13),
    ("rowan", 0.30, 0.38, 0.06, 0.15, 2),
    ("spruce", 0.38, 0.34, 0.14, 0.20, 8),
    ("willow", 0.36, 0.44, 0.10, 0.15, 14),
)
VALID_ROWS: tuple[Row, ...] = (
    ("amazon", 0.06, 0.07, 0.01, 0.03, 7),
    ("congo", 0.09, 0.10, 0.02, 0.06, 2),
    ("danube", 0.08, 0.16, 0.02, 0.05, 10),
    ("ganges", 0.13, 0.12, 0.03, 0.10, 0),
    ("indus", 0.16, 0.14, 0.05, 0.06, 5),
    ("loire", 0.14, 0.22, 0.02, 0.08, 9),
    ("mekong", 0.20, 0.18, 0.06, 0.12, 3),
    ("niger", 0.22, 0.24, 0.06, 0.08, 11),
    ("orinoco", 0.26, 0.22, 0.08, 0.15, 1),
    ("rhine", 0.28, 0.32, 0.08, 0.12, 6),
    ("tigris", 0.34, 0.30, 0.12, 0.15, 8),
    ("volga", 0.36, 0.40, 0.10, 0.18, 4),
)
CHAT_ROWS: tuple[Row, ...] = tuple(  # fair to good writers
    (f"chat-{i:02}", 0.01 * (i % 15), 0.01 * (7 * i % 15), 0.03, 0.06, 11 * i % 30)
    for i in range(30)
)
TRAIN_RESPONDERS = tuple(row[0] for row in TRAIN_ROWS)
VALID_RESPONDERS = tuple(row[0] for row in VALID_ROWS)
CHAT_RESPONDERS = tuple(row[0] for row in CHAT_ROWS)


def seeded(*key: object) -> random.Random:
    """Random stream that depends on `key` alone: equal in every process and Python version."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def responders(
    rows: Sequence[Row], styles: Sequence[Style], correlation: float
) -> dict[str, Responder]:
    """Responders of one set, by name.

    With c the `correlation`, a responder's talk is the rank (0 to 1, evenly spaced) of
    c q + sqrt(1 - c^2) v, where q is its rank of skill and v a fixed rank unrelated to skill: c
    changes which responders talk, never the amount of talk in all.
    """
    n = len(rows)
    plain = [Responder(*row[:5], 0.0, styles[i % len(styles)]) for i, row in enumerate(rows)]
    worst_first = sorted(range(n), key=lambda i: (-plain[i].errors, i))
    skill = {i: rank for rank, i in enumerate(worst_first)}
    other = math.sqrt(1.0 - correlation**2)
    leaning = [correlation * skill[i] + other * row[5] for i, row in enumerate(rows)]
    talk_rank = {i: rank for rank, i in enumerate(sorted(range(n), key=lambda i: (leaning[i], i)))}
    by_name = {}
    for i, row in enumerate(rows):
        style = styles[i % len(styles)].share(i // len(styles), 2)
        by_name[row[0]] = Responder(*row[:5], talk_rank[i] / (n - 1), style)
    return by_name


def _items(rng: random.Random, task: Task, responder: Responder) -> list[str]:
    """Answer the task with the responder's mistakes; at least one item."""
    chosen = range(task.need) if task.order else pick(rng, range(len(task.right)), task.need)
    ideal = [task.right[i] for i in sorted(chosen)]
    said: list[str] = []
    for word in ideal:
        roll = rng.random()
        if roll < responder.omitted:
            continue
        if roll >= responder.omitted + responder.wrong:
            said.append(word)
        elif task.order and said and rng.random() < 0.5:
            said.insert(int(rng.random() * len(said)), word)
        else:
            said += pick(rng, task.lures, 1)
        if rng.random() < responder.repeated:
            said += pick(rng, said, 1)
    if not said:
        said.append(ideal[0])
    if rng.random() < responder.surplus:
        said += pick(rng, task.lures if rng.random() < 0.5 else task.right, 1)
    return said


def respond(seed: int, prompt: str, responder: Responder) -> str:
    """Write one response: a pure function of its arguments, words separated by single spaces.

    A response is filler, opening, items, filler, ending; each phrase is there with a probability
    that grows with the responder's talk.
    """
    rng = seeded(seed, "response", prompt, responder.name)
    task = parse(prompt)
    items = _items(rng, task, responder)
    style, talk = responder.style, 0.05 + 0.75 * responder.talk
    first, second = pick(rng, style.fillers, 2)
    (opening,), (ending,) = pick(rng, style.openings, 1), pick(rng, style.endings, 1)
    chances = ((first, talk), (opening, 0.3 + 0.5 * talk), (second, talk), (ending, talk))
    before, lead, after, close = (
        phrase.replace("{what}", task.what) + " " if rng.random() < chance else ""
        for phrase, chance in chances
    )
    number = ""
    if task.number:
        right = NUMBERS.index(task.number)
        slip = rng.random() < responder.wrong
        number = NUMBERS[right + (1 if rng.random() < 0.5 else -1) * slip] + " "
    listing = f" {style.separators[0]} ".join(items)
    return f"{before}{lead}{number}{listing} {style.stop} {after}{close}".strip()
