"""What the tables share: columns of an estimate, the paper's numbers, and their layout as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..experiment.grid import objective_parts
from ..frames import read_csv
from ..statistics import holm

PUBLISHED = ["artifact", "model", "method", "lambda", "metric", "value"]


def correct(rows: list[dict[str, Any]]) -> None:
    """Give each row that has a p-value `p_holm`, corrected by Holm's method over all of them."""
    compared = [row for row in rows if np.isfinite(row.get("p_value", np.nan))]
    for row, p in zip(compared, holm([row["p_value"] for row in compared]), strict=True):
        row["p_holm"] = p


def effective_weight(weight: float | None, settings: Mapping[str, Any]) -> float:
    """Lambda x micro-batch, the strength that acts under reduction `release` (D2); else NaN."""
    if weight is None or settings["bsr"]["reduction"] != "release":
        return np.nan
    return float(weight * settings["micro_batch"])


def read_published(path: Path) -> pd.DataFrame:
    """Read the paper's numbers: a csv with the columns `PUBLISHED`."""
    frame = read_csv(path)
    if missing := [column for column in PUBLISHED if column not in frame]:
        raise InputError(path, f"columns {list(frame)}", f"also the columns {missing}")
    return frame


def paper_value(
    published: pd.DataFrame,
    artifact: str,
    model: str | None,
    method: str,
    weight: float | None,
    metric: str,
) -> float:
    """Look one cell up among the published numbers, at the same lambda; NaN if it is not there."""
    rows = published[
        (published["artifact"] == artifact)
        & (published["model"] == (model or ""))
        & (published["method"] == objective_parts(method)[0])
        & (published["metric"] == metric)
    ]
    if weight is not None:
        rows = rows[np.isclose(rows["lambda"].astype(float), weight)]
    return float(rows["value"].iloc[0]) if len(rows) else np.nan


def document(title: str, about: str, note: str, cells: list[list[str]], legend: list[str]) -> str:
    """Write a table as a Markdown page: title, what it is about, the preset's note, legend."""
    lines = [f"# {title}", "", about, *(["", note] if note else []), "", *grid(cells)]
    return "\n".join([*lines, *(["", *legend] if legend else [])]) + "\n"


def arrows(reference: str, over: str) -> str:
    """Explain the arrows of `cell` in a line of a legend."""
    return (
        f"- ↑ ↓: above or below `{reference}` {over}, "
        "p < 0.05 after Holm's correction over every comparison of the table."
    )


def strengths(models: pd.DataFrame) -> list[str]:
    """List the effective strength of each BSR method in a line of a legend, if there is any."""
    effective = models.dropna(subset=["weight_times_batch"]).drop_duplicates("method")
    each = [f"`{m}` {v:g}" for m, v in effective[["method", "weight_times_batch"]].to_numpy()]
    if not each:
        return []
    return [f"- Effective strength of BSR (lambda x micro-batch): {', '.join(each)}."]


def grid(cells: list[list[str]]) -> list[str]:
    """Lay rows of texts out as a Markdown table, the first row its heading; a line each."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    rule = ["-" * width for width in widths]
    return [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in [cells[0], rule, *cells[1:]]
    ]


def cell(row: pd.Series, digits: int = 4) -> str:
    """Write one cell: value, half the interval's width, arrow, the paper's number."""
    if pd.isna(row["value"]):
        return "not measured"
    text = f"{row['value']:.{digits}f}"
    if not pd.isna(row["ci_low"]):  # one seed alone has no interval
        text += f" ± {(row['ci_high'] - row['ci_low']) / 2:.{digits}f}"
    if not pd.isna(row["p_holm"]) and row["p_holm"] < 0.05:
        text += " ↑" if row["difference"] > 0 else " ↓"
    return text if pd.isna(row["paper"]) else f"{text} (paper {row['paper']:.{digits}f})"


def published_name(method: str, published_as: Mapping[str, str]) -> str:
    """Name the paper's method whose numbers belong to a method of ours; "" if they are another's.

    `published_as` maps ours to theirs where the two differ, as {"skywork": "bt"}: the numbers that
    the paper prints as bt are then skywork's, and not those of bt itself (D42).
    """
    if method in published_as:
        return published_as[method]
    return "" if method in published_as.values() else method
