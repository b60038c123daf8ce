"""HTML from Markdown: a page of a table or of the claims, and the parts of a larger page."""

import re
from html import escape
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .html_page import document
from .verdicts import MARKS

CLAIM = re.compile(r"C\d+\b")
RESULT = re.compile(r"(?:table|figure)\d\.csv")
EMPTY = {"", "-", "not measured"}
AMOUNT = r"[+-]?\d[\d.,:]*(?:e[+-]?\d+)?%?"
NUMBER = re.compile(
    rf"(?P<value>{AMOUNT}(?: ± {AMOUNT}| \[{AMOUNT}, {AMOUNT}\])?(?: [A-Za-z%]+)?)"
    r"(?: (?P<arrow>[↑↓]))?(?: \((?P<paper>paper [^)]*)\))?"
)


def page(markdown: str, title: str) -> str:
    """Render the Markdown of a table or of the claims as one HTML page, as `rendered` does.

    The page loads no resources, runs no scripts and follows the reader's light or dark mode.
    """
    return document(rendered(markdown), title)


def rendered(markdown: str, *, deeper: int = 0) -> str:
    """Render CommonMark with tables as HTML; raw HTML is escaped, images are disabled.

    A table column whose non-empty cells are all numbers as `tables.cell` formats them is aligned to
    the right, with arrows beside and the paper's numbers below them, so that digits line up; one
    without any cell filled is left out. Verdicts get their marks, results their links, claims
    anchors. Headings are `deeper` levels down.
    """
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = renderer.parse(markdown)
    for table in _tables(tokens):
        for column in _columns(table):
            _align_right(column)
            _decorate(column)
    _mark_headings(tokens, deeper)
    body = str(renderer.renderer.render(_filled(tokens), renderer.options, {}))
    body = body.replace("<table>", '<div class="table" tabindex="0">\n<table>')
    return body.replace("</table>", "</table>\n</div>")


def mark(verdict: str) -> str:
    """The mark of a verdict, by its first words; the text beside it says the same."""
    name = next((name for name in MARKS if verdict.startswith(name)), "")
    kind = name.replace(" ", "-")
    return f'<span class="mark {kind}" aria-hidden="true">{MARKS[name]}</span>' if name else ""


def _decorate(column: list[tuple[Token, Token]]) -> None:
    """Put marks beside verdicts, and link claims to their sections and results to their files."""
    heading = column[0][1].content
    for _, content in column[1:]:
        text = content.content
        html = escape(text)
        if heading.startswith("verdict"):
            html = mark(text) + html
        elif heading == "artifact" and RESULT.fullmatch(text):
            html = f'<a href="{html}">{html}</a>'
        elif heading == "claim" and CLAIM.fullmatch(text):
            html = f'<a href="#{html}">{html}</a>'
        if html != escape(text):
            content.children = [Token("html_inline", "", 0, content=html)]


def _mark_headings(tokens: list[Token], deeper: int) -> None:
    """Move headings down; those of claims (`C1: verdict`) get an anchor and the verdict's mark."""
    for i, token in enumerate(tokens):
        if token.type not in ("heading_open", "heading_close"):
            continue
        token.tag = f"h{min(int(token.tag[1]) + deeper, 6)}"
        claim = CLAIM.match(tokens[i + 1].content) if token.type == "heading_open" else None
        if claim:
            token.attrs["id"] = claim[0]
            verdict = tokens[i + 1].content.partition(": ")[2]
            before = Token("html_inline", "", 0, content=mark(verdict))
            tokens[i + 1].children = [before, *(tokens[i + 1].children or [])]


def _filled(tokens: list[Token]) -> list[Token]:
    """The tokens without the columns of tables in which every cell is empty."""
    empty = [
        {id(token) for token, _ in column}
        for table in _tables(tokens)
        for column in _columns(table)
        if len(column) > 1 and not any(content.content for _, content in column[1:])
    ]
    left_out = set().union(*empty)
    # A cell is its opening tag, its content and its closing tag.
    drop = {i + n for i, token in enumerate(tokens) if id(token) in left_out for n in range(3)}
    return [token for i, token in enumerate(tokens) if i not in drop]


def _tables(tokens: list[Token]) -> list[list[Token]]:
    starts = [i for i, token in enumerate(tokens) if token.type == "table_open"]
    ends = [i for i, token in enumerate(tokens) if token.type == "table_close"]
    return [tokens[start:end] for start, end in zip(starts, ends, strict=True)]


def _columns(table: list[Token]) -> list[list[tuple[Token, Token]]]:
    """Split a table's tokens by column: lists of (opening tag, content), the heading first."""
    cells = [
        (token, content)
        for token, content in pairwise(table)
        if token.type in ("th_open", "td_open")
    ]
    width = sum(token.type == "th_open" for token, _ in cells)
    return [cells[i::width] for i in range(width)]


def _align_right(column: list[tuple[Token, Token]]) -> None:
    """Align a column to the right if all of its non-empty cells are numbers."""
    filled = [content for _, content in column[1:] if content.content not in EMPTY]
    numbers = [NUMBER.fullmatch(content.content) for content in filled]
    if not filled or not all(numbers):
        return
    for opening, _ in column:
        opening.attrs["class"] = "number"
    for content, number in zip(filled, numbers, strict=True):
        assert number is not None
        html = escape(number["value"])
        if number["arrow"]:
            name = {"↑": "up", "↓": "down"}[number["arrow"]]
            html += f'<span class="{name}">{number["arrow"]}</span>'
        if number["paper"]:
            html += f"<small>{escape(number['paper'])}</small>"
        content.children = [Token("html_inline", "", 0, content=html)]
