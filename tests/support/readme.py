"""The README's numbers, from released results: `PYTHONPATH=tests python -m support.readme FOLDER`.

FOLDER has a finished run's results, such as runs/demo/results after `dvc pull`. The command writes
the blocks of README.md between `<!-- NAME -->` and `<!-- /NAME -->`, and docs/figure4.png.
"""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd

from rm_robustness.results.table5_scenarios import averages_line, table5_markdown
from rm_robustness.results.verdicts import counts, read_verdicts

from .paths import ROOT

README, FIGURE = ROOT / "README.md", ROOT / "docs" / "figure4.png"


def blocks(results: Path) -> dict[str, str]:
    """Text of each block of the README."""
    table = pd.read_csv(results / "table5.csv")
    grid = [line for line in table5_markdown(table).splitlines() if line.startswith("|")]
    whole = read_verdicts(results / "claims.csv")
    each = ", ".join(f"{count} {verdict}" for verdict, count in counts(whole).items() if count)
    tally = f"Of the paper's {len(whole)} claims, for the demo's models: {each}."
    return {"averages": averages_line(table), "verdicts": tally, "table5": "\n".join(grid)}


def filled(text: str, results: Path) -> str:
    """Text of the README with its blocks written from results."""
    for name, block in blocks(results).items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        text, n = re.subn(pattern, lambda m, b=block: m[1] + b + m[2], text, flags=re.DOTALL)
        assert n == 1, f"README.md has {n} blocks {name}"
    return text


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    README.write_text(filled(README.read_text(encoding="utf-8"), folder), encoding="utf-8")
    shutil.copyfile(folder / "figure4.png", FIGURE)
