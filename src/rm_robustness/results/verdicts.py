"""Verdicts on the paper's claims as people read them: their marks, their tally."""

import csv
from collections import Counter
from pathlib import Path

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_MEASURED = "inconclusive", "not measured"
# In the order of a tally. A mark differs in shape and not in colour alone.
MARKS = {SUPPORTED: "✓", CONTRADICTED: "✗", INCONCLUSIVE: "?", NOT_MEASURED: "–"}  # noqa: RUF001


def shown(verdict: str, scope: str = "") -> str:
    """Say that a verdict is about the preset's models, or about `scope`, not about the paper's."""
    if verdict not in (SUPPORTED, CONTRADICTED):
        return verdict
    return f"{verdict} for {scope}" if scope else f"{verdict} here"


def read_verdicts(path: Path) -> list[dict[str, str]]:
    """The row of each claim itself in claims.csv, not those of its parts."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["part"] == "all"]


def counts(rows: list[dict[str, str]]) -> dict[str, int]:
    """How many claims have each verdict, in the order of `MARKS`."""
    counted = Counter(row["verdict"] for row in rows)
    return {name: counted[name] for name in MARKS}


def tally(rows: list[dict[str, str]]) -> str:
    """The counts in one line, as a terminal shows them and the page in colours."""
    each = [f"{MARKS[name]} {count} {shown(name)}" for name, count in counts(rows).items()]
    return f"Of {len(rows)} claims: {', '.join(each)}"
