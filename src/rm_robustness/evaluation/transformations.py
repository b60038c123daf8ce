"""Meaning-preserving transformations of prompts and responses, in the manner of reWordBench.

Each is a function of a text and a seed alone, the same on every machine; a text that it cannot
change comes back as it is. Code, formulas, rows of tables, addresses and tags stay byte for byte.
docs/TRANSFORMATIONS.md says why each leaves the meaning, and what it is not.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ..data.splits import key

Match = re.Match[str]
# Fenced code, to the end of the text where nothing closes it.
FENCED = re.compile(
    r"(`{3,}|~{3,})[^`\n]*(?=\n|\Z)(?s:.*?)(?:^[ \t]*\1[`~]*[ \t\r]*$|(?P<open>\Z))", re.MULTILINE
)
LINES = r"^(?: {4}|\t)[^\n]*$|^ {0,3}\|[^\n]*$"  # indented as code, or rows of a table
# What stays as it is besides fenced code: such lines, formulas, inline code, addresses, tags.
KEPT = "|".join(
    [
        LINES,
        r"\$\$(?s:.+?)\$\$|\\\[(?s:.+?)\\\]|\\\((?s:.+?)\\\)|\$[^$\s][^$\n]*\$",
        r"`+[^`\n]+`+",
        r"[A-Za-z]{2,10}://\S+|[A-Za-z0-9._%+-]{1,64}@[\w.-]+",
        r"</?[A-Za-z][^<>\n]*>",
    ]
)
# Letters that are no part of an identifier, a file's name, a command or a compound.
WORD = r"(?<![\w./@#\\-])(?:%s)(?![\w/@(-]|\.\w)"
# Marks at the beginning of lines, and what may span lines: text without them is paragraphs alone.
STRUCTURE = re.compile(rf"`{{3,}}|~{{3,}}|{LINES}|\$\$|\\[(\[]|^[ \t]*(?:[-*+>#|=]|\d+[.)])", re.M)
MARKS = (  # of Markdown: a heading, a bullet, bold
    r"^#{1,6} +(?=[^\s#])|^[ \t]*[-*+] +(?=[^\s*+-])"
    r"|(?<![*`])\*\*(?=[^\s*])[^*`\n]+(?<=[^\s*])\*\*(?![*`])"
)
BULLET = re.compile(r"([ \t]*)([-*+])[ \t]+\S")
# Words by which the order of a list says something, and ends of an item that goes on in the next.
ORDERED = re.compile(
    r"\b(?:first|second|third|fourth|then|next|finally|lastly?|before|after|above|below|former|"
    r"latter|previous(?:ly)?|steps?|order\w*|sequence|rank\w*|top)\b|(?:[,;:]|\b(?:and|or))\s*$",
    re.IGNORECASE | re.MULTILINE,
)
TYPOS = 0.05  # share of the words of five letters or more
NEIGHBOURS = {  # letters beside a letter on the keyboard
    letter: row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for place, letter in enumerate(row)
}
SENTENCE = "This is the end of the answer."
TEMPLATE = "Please answer the following."
HEADING = "## Answer"


class Transformation(NamedTuple):
    """What changes one part of a chat (last user turn, or response): in words, and as code."""

    part: Literal["prompt", "response"]
    description: str
    change: Callable[[str, int], str]  # of a text and a seed


def transformed(frame: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    """The same rows and ids, with the texts of one part changed by a transformation.

    Equal texts are changed alike, so the responses of a prompt still have one prompt.
    """
    part, _, change = TRANSFORMATIONS[name]
    texts = {text: change(text, seed) for text in frame[part].unique()}
    return frame.assign(**{part: frame[part].map(texts)})


def changed_rows(frame: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """Mask (N,) of the rows that a model reads differently in two frames of the same rows.

    Spaces around a text are never read (`models.chat`).
    """
    prompts, responses = (
        frame[part].str.strip().to_numpy() != other[part].str.strip().to_numpy()
        for part in ("prompt", "response")
    )
    return np.asarray(prompts | responses, bool)


def _double_spaces(text: str, seed: int) -> str:
    return _replaced(r"(?<=\S) (?=\S)", lambda hit: "  ", text)


def _non_breaking_spaces(text: str, seed: int) -> str:
    return _replaced(r"(?<=[^\W\d_]) (?=[^\W_])", lambda hit: "\u00a0", text)


def _line_breaks(text: str, seed: int) -> str:
    whole = r"^[ \t]*(?:[-*+>#]|\d+[.)])[^\n]*"  # headings, items and quotes stay in their line
    breaks = r"(?<=[a-z][.!?]) (?=[A-Z])"
    return _replaced(f"{whole}|{breaks}", lambda hit: "\n" if hit[0] == " " else hit[0], text)


def _final_mark(text: str, seed: int) -> str:
    end = len(text.rstrip())
    return _replaced(r"(?<=\w) ?\.", lambda hit: hit[0] if hit.end() < end else "", text)


def _typos(text: str, seed: int) -> str:
    """The words with the smallest hashes of seed, text and place, and a letter of each likewise."""
    words, digest = WORD % "[a-z]{5,}", key(seed, text)  # lower case: no names
    found = (hit.start() for hit in _hits(words, text))
    places = sorted(found, key=lambda place: key(digest, place))
    chosen = set(places[: max(1, round(TYPOS * len(places)))])

    def mistyped(hit: Match) -> str:
        word = hit[0]
        if hit.start() not in chosen:
            return word
        draw = int(key(digest, hit.start(), "letter"), 16)
        at = 1 + draw % (len(word) - 2)  # neither the first letter nor the last
        near = NEIGHBOURS[word[at]]
        return word[:at] + near[draw // len(word) % len(near)] + word[at + 1 :]

    return _replaced(words, mistyped, text)


def _lower_case(text: str, seed: int) -> str:
    """Words of which at most the first letter is upper case: no abbreviations, no camelCase."""

    def lowered(hit: Match) -> str:
        word, lower = hit[0], hit[0].lower()
        same = lower.casefold() == word.casefold() and lower[1:] == word[1:]
        return lower if same else word

    return _replaced(WORD % r"[^\W\d_]{2,}", lowered, text)


def _bold_sentence(text: str, seed: int) -> str:
    return re.sub(r"\A([^\W\d_][^\n*`~|<$]*?[.!?:])(?=\s|\Z)", r"**\1**", text)


def _heading(text: str, seed: int) -> str:
    return text if text.lstrip().startswith("#") else f"{HEADING}\n\n{text}"


def _bullets(text: str, seed: int) -> str:
    lines = text.split("\n")
    if STRUCTURE.search(text) or sum(bool(line.strip()) for line in lines) < 2:
        return text
    return "\n".join(f"- {line}" if line.strip() else line for line in lines)


def _plain_text(text: str, seed: int) -> str:
    """Until no mark is left: one may have stood before another."""

    def unmarked(hit: Match) -> str:
        mark = hit[0]
        return mark[2:-2] if mark.startswith("**") else mark[: len(mark) - len(mark.lstrip())]

    while (plain := _replaced(MARKS, unmarked, text)) != text:
        text = plain
    return text


def _list_order(text: str, seed: int) -> str:
    """Items keep what is indented below them; see `_reordered` for the lists that are left."""
    lines = text.split("\n")
    code = {
        line
        for block in FENCED.finditer(text)
        for line in range(text.count("\n", 0, block.start()), text.count("\n", 0, block.end()) + 1)
    }
    start, digest = 0, key(seed, text)
    while start < len(lines):
        bullet = BULLET.match(lines[start])
        if not bullet:
            start += 1
            continue
        indent, end = len(bullet[1]), start + 1
        while end < len(lines) and end not in code and lines[end].strip():
            item = BULLET.match(lines[end])
            if not _indent(lines[end]) > indent and not (item and item.groups() == bullet.groups()):
                break
            end += 1
        lines[start:end] = _reordered(lines, start, end, bullet, digest)
        start = end
    return "\n".join(lines)


def _reordered(lines: list[str], start: int, end: int, bullet: Match, digest: str) -> list[str]:
    """The lines of a list with its items in another order.

    As they are where an item may go on below the list, where an item is a single letter, as of a
    word that is spelt, and where words say that order matters, in an item or in the line before.
    """
    block = lines[start:end]
    begins = [n for n, line in enumerate(block) if line.startswith(f"{bullet[1]}{bullet[2]}")]
    items = [block[a:b] for a, b in itertools.pairwise([*begins, len(block)])]
    below = next((line for line in lines[end:] if line.strip()), "")
    attached = bool(lines[end : end + 1]) and bool(lines[end].strip())
    before = next((line for line in reversed(lines[:start]) if line.strip()), "").rstrip(" :*")
    if (
        attached
        or _indent(below) > len(bullet[1])
        or any(len("".join(item).split(maxsplit=1)[1]) == 1 for item in items)
        or any(ORDERED.search(text) for text in (before, *map("\n".join, items)))
    ):
        return block
    order = sorted(range(len(items)), key=lambda place: key(digest, start, place))
    if order == sorted(order):
        order = [*order[1:], *order[:1]]
    return [line for place in order for line in items[place]]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _closing_sentence(text: str, seed: int) -> str:
    unclosed = any(block["open"] is not None for block in FENCED.finditer(text))
    return text if unclosed or text.endswith(SENTENCE) else f"{text}\n\n{SENTENCE}"


def _template(text: str, seed: int) -> str:
    return text if text.startswith(TEMPLATE) else f"{TEMPLATE}\n\n{text}"


def _quoted(text: str, seed: int) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    blocks = FENCED.search(text) or re.search(LINES, text, re.M)
    return text if quoted or blocks else f'"{text}"'


def _hits(pattern: str, text: str) -> Iterator[Match]:
    """Matches of a pattern outside of fenced code and of what is `KEPT`."""
    matches = re.compile(f"{KEPT}|(?P<hit>{pattern})", re.MULTILINE)
    ends = [0, *(end for block in FENCED.finditer(text) for end in block.span()), len(text)]
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        yield from (match for match in matches.finditer(text, start, end) if match["hit"])


def _replaced(pattern: str, change: Callable[[Match], str], text: str) -> str:
    """The text with the matches of a pattern outside of what stays replaced."""
    parts, end = [], 0
    for hit in _hits(pattern, text):
        parts += [text[end : hit.start()], change(hit)]
        end = hit.end()
    return "".join([*parts, text[end:]])


TRANSFORMATIONS = {
    "double_spaces": Transformation(
        "response", "Two spaces stand where one stood between words.", _double_spaces
    ),
    "non_breaking_spaces": Transformation(
        "response", "Spaces between words are non-breaking, U+00A0.", _non_breaking_spaces
    ),
    "line_breaks": Transformation(
        "response", "Each sentence of a paragraph begins on a line of its own.", _line_breaks
    ),
    "final_mark": Transformation("response", "The full stop at the end is removed.", _final_mark),
    "typos": Transformation(
        "response",
        "A letter of one in twenty longer words, no names, is its neighbour on the keyboard.",
        _typos,
    ),
    "lower_case": Transformation(
        "response", "Words that begin with a capital begin with a small letter.", _lower_case
    ),
    "bold_sentence": Transformation(
        "response", "The first sentence is in bold (Markdown).", _bold_sentence
    ),
    "heading": Transformation(
        "response", f"A heading (Markdown) stands before the text: {HEADING}.", _heading
    ),
    "bullets": Transformation(
        "response", "Lines of a text without Markdown become a list with bullets.", _bullets
    ),
    "plain_text": Transformation(
        "response", "Marks of Markdown are removed: of headings, bullets and bold.", _plain_text
    ),
    "list_order": Transformation(
        "response", "Items of lists with bullets, not with numbers, change places.", _list_order
    ),
    "closing_sentence": Transformation(
        "response", f"A sentence that says nothing is appended: {SENTENCE}", _closing_sentence
    ),
    "prompt_template": Transformation(
        "prompt", f"A line that asks for an answer stands before the prompt: {TEMPLATE}", _template
    ),
    "prompt_quoted": Transformation("prompt", "The prompt stands in quotation marks.", _quoted),
    "prompt_typos": Transformation(
        "prompt",
        "A letter of one in twenty longer words, no names, is its neighbour on the keyboard.",
        _typos,
    ),
}
