"""HTML pages of tables and claims: one self-contained file each, from their Markdown."""

import re
from html import escape
from itertools import pairwise
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --page: #ffffff; --band: #f6f8fa; --up: #00694b; --down: #a83f00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #9aa4af; --line: #3a424b; --page: #15181c; --band: #1e2328;
    --up: #4cc79c; --down: #f2904f; }
}
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
thead th { position: sticky; top: 0; background: var(--band); vertical-align: bottom; }
.number { padding-right: 1.6rem; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th.number { white-space: normal; }
.up, .down { display: inline-block; width: 1.1rem; margin-right: -1.1rem; text-align: center;
  font-weight: 700; }
.up { color: var(--up); } .down { color: var(--down); }
.number small { display: block; color: var(--soft); }
</style>
</head>
<body>
$body</body>
</html>
""")

EMPTY = {"", "-", "not measured"}
AMOUNT = r"[+-]?\d[\d.,:]*(?:e[+-]?\d+)?%?"
NUMBER = re.compile(
    rf"(?P<value>{AMOUNT}(?: ± {AMOUNT}| \[{AMOUNT}, {AMOUNT}\])?(?: [A-Za-z%]+)?)"
    r"(?: (?P<arrow>[↑↓]))?(?: \((?P<paper>paper [^)]*)\))?"
)


def page(markdown: str, title: str) -> str:
    """Render CommonMark with tables as one HTML page; raw HTML is escaped, images are disabled.

    A table column whose non-empty cells are all numbers as `tables.cell` formats them is aligned to
    the right, with arrows beside and the paper's numbers below them, so that digits line up. The
    page loads no resources, runs no scripts and follows the reader's light or dark mode.
    """
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = renderer.parse(markdown)
    for table in _tables(tokens):
        for column in _columns(table):
            _align_right(column)
    body = renderer.renderer.render(tokens, renderer.options, {})
    body = body.replace("<table>", '<div class="table" tabindex="0">\n<table>')
    body = body.replace("</table>", "</table>\n</div>")
    return PAGE.substitute(title=escape(title), body=body)


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
