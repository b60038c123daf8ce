"""HTML from Markdown: a page of a table or of the claims, and the parts of a larger page."""

import re
from html import escape
from itertools import pairwise
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .verdicts import MARKS

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'$policy">
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --page: #ffffff; --band: #f6f8fa; --up: #00694b; --down: #a83f00; --unsure: #5b4a8a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #9aa4af; --line: #3a424b; --page: #15181c; --band: #1e2328;
    --up: #4cc79c; --down: #f2904f; --unsure: #b9a7ef; }
}
* { box-sizing: border-box; } html { scroll-padding-top: 1rem; }
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 75rem; background: var(--page);
  color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1.05rem; margin-top: 1.8rem; }
p, li { max-width: 48rem; } ul { padding-left: 1.2rem; }
a { color: inherit; }
code { padding: .1em .3em; border-radius: 4px; background: var(--band); font-size: .9em; }
pre { overflow: auto; padding: 1rem; border-radius: 6px; background: var(--band); }
pre code { padding: 0; } td code { white-space: nowrap; }
.table { overflow: auto; max-height: 90vh; width: fit-content; max-width: 100%; margin: 1.5rem 0;
  border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: separate; border-spacing: 0; font-size: .92rem; }
th, td { padding: .45rem .9rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: var(--band); }
thead th { position: sticky; top: 0; background: var(--band); vertical-align: bottom; z-index: 1; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page); }
thead th:first-child { z-index: 2; background: var(--band); }
tbody tr:hover td:first-child { background: var(--band); }
.number { padding-right: 1.6rem; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th.number { white-space: normal; }
.up, .down { display: inline-block; width: 1.1rem; margin-right: -1.1rem; text-align: center;
  font-weight: 700; }
.up { color: var(--up); } .down { color: var(--down); }
.number small { display: block; color: var(--soft); }
.mark { display: inline-block; width: 1.35em; height: 1.35em; border: 1.5px solid;
  border-radius: 50%; font-size: .8em; font-weight: 700; line-height: 1.2em; text-align: center;
  vertical-align: .1em; }
.supported { color: var(--up); } .contradicted { color: var(--down); border-radius: 3px; }
.inconclusive { color: var(--unsure); border-style: dashed; }
.not-measured { color: var(--soft); border-style: dotted; }
td .mark { margin-right: .45em; } :is(h2, h3, h4) .mark { margin-right: .55em; }
td:has(> .mark) { white-space: nowrap; }
$style</style>
</head>
<body>
$body</body>
</html>
""")

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


def document(body: str, title: str, style: str = "", *, images: bool = False) -> str:
    """An HTML page of a body that is safe HTML already; `images` are files beside it."""
    policy = "; img-src 'self'" if images else ""
    return PAGE.substitute(title=escape(title), body=body, style=style, policy=policy)


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
