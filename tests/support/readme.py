"""The numbers of README.md and some documents, from released results.

`PYTHONPATH=tests python -m support.readme`, with runs/*/results as after `dvc pull`, writes what
stands between `<!-- NAME -->` and `<!-- /NAME -->`: averages of table 5, the tally of verdicts, or
the first table of the result NAME; and the pictures.
"""

import re
import shutil
from itertools import dropwhile, takewhile
from pathlib import Path

import pandas as pd

from rm_robustness.results.table5_scenarios import averages_line
from rm_robustness.results.verdicts import counts, read_verdicts

from .paths import ROOT

# A document, and the preset whose results it shows.
PAGES = {"README.md": "laptop", "docs/LAPTOP.md": "laptop", "docs/DEMO.md": "demo"}
BLOCK = re.compile(r"<!-- (\w+) -->")
PICTURE = re.compile(r"\]\((?:docs/)?([a-z]+\d?)-([a-z]+)\.png\)")  # result, preset


def pictures(text: str) -> list[tuple[str, str]]:
    """The figures that a document shows, as names of result and preset."""
    return PICTURE.findall(text)


def block(name: str, results: Path) -> str:
    """The text of a block."""
    if name == "averages":
        return averages_line(pd.read_csv(results / "table5.csv"))
    if name == "verdicts":
        whole = read_verdicts(results / "claims.csv")
        each = ", ".join(f"{count} {verdict}" for verdict, count in counts(whole).items() if count)
        return f"Of the paper's {len(whole)} claims, for these models: {each}."
    lines = (results / f"{name}.md").read_text(encoding="utf-8").splitlines()
    table = takewhile(_in_table, dropwhile(lambda line: not _in_table(line), lines))
    return "\n".join(table)


def _in_table(line: str) -> bool:
    return line.startswith("|")


def filled(text: str, results: Path) -> str:
    """A document with its blocks written from results."""
    written, n = re.subn(
        r"(?s)(<!-- (\w+) -->\n).*?(\n<!-- /\2 -->)",
        lambda found: found[1] + block(found[2], results) + found[3],
        text,
    )
    assert n == text.count("<!-- /") == len(BLOCK.findall(text)), "a block without beginning or end"
    return written


if __name__ == "__main__":
    for name, of in PAGES.items():
        page = ROOT / name
        page.write_text(filled(page.read_text("utf-8"), ROOT / "runs" / of / "results"), "utf-8")
        for result, preset in pictures(page.read_text("utf-8")):
            shown = ROOT / "docs" / f"{result}-{preset}.png"
            shutil.copyfile(ROOT / "runs" / preset / "results" / f"{result}.png", shown)
