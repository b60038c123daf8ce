"""An HTML table of texts: columns of numbers to the right, and headings over several columns."""

from collections.abc import Sequence
from html import escape


def html_table(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    classes: Sequence[str] = (),
    spans: Sequence[tuple[str, int]] = (),
) -> str:
    """A table, columns of numbers to the right; `spans` head columns after the first together."""
    right = [all(_is_number(line[i]) for line in lines) for i in range(len(head))]

    def cell(tag: str, i: int, text: str) -> str:
        kind = ' class="number"' if right[i] else ' class="words"' * (len(text) > 40)
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    above = "".join(
        f'<th colspan="{count}" class="set"><span>{escape(text)}</span></th>'
        for text, count in spans
    )
    above = f"<tr><th></th>{above}</tr>" if spans else ""
    heading = "".join(cell("th", i, text) for i, text in enumerate(head))
    body = "\n".join(
        (f'<tr class="{kind}">' if kind else "<tr>")
        + "".join(cell("td", i, text) for i, text in enumerate(line))
        + "</tr>"
        for line, kind in zip(lines, classes or [""] * len(lines), strict=True)
    )
    return f"""\
<div class="table" tabindex="0"><table>
<thead>{above}<tr>{heading}</tr></thead>
<tbody>
{body}
</tbody></table></div>"""


def _is_number(text: str) -> bool:
    return text == "-" or text.lstrip("+-")[:1].isdigit()
