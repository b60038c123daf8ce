"""Helpers of the tables: comparisons with the reference and the paper, and Markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.estimates import AGAINST_PAPER, DIFFERENCE, against_paper, difference_columns
from ..experiment.grid import bsr_batch, bsr_weight, objective_parts
from ..frames import read_csv
from ..pivot import Array
from ..statistics import Estimate, contrast, holm, moderated, paired_difference, respread

PUBLISHED = ["artifact", "model", "method", "lambda", "metric", "value"]
COMPARISON = [*DIFFERENCE, "p_holm"]  # columns of a difference from the reference
PAPER = ["paper", "paper_difference", *AGAINST_PAPER, "paper_model"]


def add_comparisons(rows: list[dict[str, Any]], reference: str) -> None:
    """Add to each row with a `gap`, the difference from `reference`, its columns, in place.

    That is `DIFFERENCE`, and `AGAINST_PAPER` for the paper's difference: the row's `paper` minus
    that of the reference at the same place.
    """
    keys = ("backbone", "n", "metric")
    papers = {
        tuple(row.get(key) for key in keys): row["paper"]
        for row in rows
        if row["method"] == reference
    }
    for row in rows:
        if "gap" in row:
            paper = row["paper"] - papers[tuple(row.get(key) for key in keys)]
            row |= comparison_columns(row["gap"], paper)


def moderate(rows: list[dict[str, Any]]) -> None:
    """Shrink the seeds' variances of all differences towards each other, in place."""
    compared = [row for row in rows if "gap" in row and np.isfinite(row["gap"].low)]
    spreads = moderated([row["gap"].spread for row in compared])
    for row, spread in zip(compared, spreads, strict=True):
        row["gap"] = respread(row["gap"], spread)


def comparison_columns(gap: Estimate, paper: float) -> dict[str, Any]:
    """Table columns of a difference and of what it says of the paper's."""
    return difference_columns(gap) | {"paper_difference": paper} | against_paper(gap, paper)


def add_holm(rows: list[dict[str, Any]]) -> None:
    """Add `p_holm` to each row with a p-value: Holm's correction over all of them, in place."""
    compared = [row for row in rows if np.isfinite(row.get("p_value", np.nan))]
    for row, p in zip(compared, holm([row["p_value"] for row in compared]), strict=True):
        row["p_holm"] = p


def effective_weight(method: str, settings: Mapping[str, Any]) -> float:
    """Effective strength of BSR under reduction `release`: lambda x pairs of a micro-batch (D2).

    NaN for another objective or reduction.
    """
    weight = bsr_weight(method, settings["bsr"]["weight"])
    if weight is None or settings["bsr"]["reduction"] != "release":
        return np.nan
    batch = bsr_batch(method) or settings["micro_batch"]
    return float(weight * batch * settings["pairs_per_prompt"])


def read_published(path: Path) -> pd.DataFrame:
    """Read the paper's numbers, a csv with the columns `PUBLISHED` (raises InputError)."""
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
    """Look up one cell of the published numbers, at the same lambda; NaN if absent.

    The paper does not give its micro-batch: its numbers belong to the preset's own (D2).
    """
    if bsr_batch(method):
        return np.nan
    rows = published[
        (published["artifact"] == artifact)
        & (published["model"] == (model or ""))
        & (published["method"] == objective_parts(method)[0])
        & (published["metric"] == metric)
    ]
    if weight is not None:
        rows = rows[np.isclose(rows["lambda"].astype(float), weight)]
    return float(rows["value"].iloc[0]) if len(rows) else np.nan


def markdown_page(
    title: str, caption: str, note: str, cells: list[list[str]], legend: list[str]
) -> str:
    """Format a Markdown page: title, caption, the preset's note, table, legend."""
    lines = [f"# {title}", "", caption, *(["", note] if note else []), "", *markdown_table(cells)]
    return "\n".join([*lines, *(["", *legend] if legend else [])]) + "\n"


def arrow_legend(reference: str, over: str) -> str:
    """Legend line that explains the arrows of `cell`."""
    return (
        f"- ↑ ↓: above or below `{reference}` {over}, "
        "p < 0.05 after Holm's correction over every comparison of the table."
    )


def difference_from(reference: Array, values: Array, paired: bool) -> Estimate:
    """Values minus reference (seeds, prompts) on the same prompts, and seed by seed if `paired`."""
    if paired:
        return paired_difference(values, reference)
    return contrast([values, reference], [1, -1])


def seeds_a_method(models: pd.DataFrame) -> str:
    """The number of seeds of the rows of a table, and of the methods that have fewer."""
    by_method = models.drop_duplicates("method").set_index("method")["n_seeds"].astype(int)
    most = by_method.max()
    fewer = [f"`{method}` {count}" for method, count in by_method.items() if count < most]
    return f"{most} seeds a method" + (f" ({', '.join(fewer)})" if fewer else "")


def single_checkpoints(models: pd.DataFrame, reference: str) -> list[str]:
    """Legend line about methods of which there is one checkpoint; none where all have seeds."""
    counts = models.drop_duplicates("method").set_index("method")["n_seeds"]
    single = [f"`{method}`" for method, count in counts.items() if count == 1 < counts[reference]]
    if not single:
        return []
    return [
        f"- {' and '.join(single)}: one checkpoint. Its difference from `{reference}` is of this "
        "checkpoint and the mean of the seeds, on the same prompts; it says nothing of another "
        "training of the same recipe."
    ]


def strength_legend(models: pd.DataFrame) -> list[str]:
    """Legend line with the effective strength of each BSR method; none without BSR methods."""
    effective = models.dropna(subset=["weight_times_batch"]).drop_duplicates("method")
    strengths_by_method = [
        f"`{m}` {v:g}" for m, v in effective[["method", "weight_times_batch"]].to_numpy()
    ]
    if not strengths_by_method:
        return []
    return [
        f"- Effective strength of BSR (lambda x micro-batch): {', '.join(strengths_by_method)}."
    ]


def markdown_table(cells: list[list[str]]) -> list[str]:
    """Format rows of strings as the lines of a Markdown table; the first row is the heading."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    rule = ["-" * width for width in widths]
    return [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in [cells[0], rule, *cells[1:]]
    ]


def cell(row: pd.Series, digits: int = 4) -> str:
    """Format one cell: value with its interval, arrow, the paper's number."""
    if pd.isna(row["value"]):
        return "not measured"
    text = interval(row["value"], row["ci_low"], row["ci_high"], f".{digits}f") + arrow(row)
    return text if pd.isna(row["paper"]) else f"{text} (paper {row['paper']:.{digits}f})"


def difference_cell(row: pd.Series, digits: int = 4) -> str:
    """Format one cell as the difference from the reference: as `cell`, every number signed."""
    if pd.isna(row["difference"]):
        return "not measured"
    low, high, paper = row[["difference_low", "difference_high", "paper_difference"]]
    text = interval(row["difference"], low, high, f"+.{digits}f") + arrow(row)
    return text if pd.isna(paper) else f"{text} (paper {paper:+.{digits}f})"


def interval(value: float, low: float, high: float, form: str) -> str:
    """Format a value with its interval: ± half the width, or [low, high] where that would mislead.

    It would where one arm is more than 2% longer than the other. A value without an interval, of
    one seed alone, stands alone.
    """
    if pd.isna(low):
        return f"{value:{form}}"
    arms = value - low, high - value
    if abs(arms[0] - arms[1]) > 0.02 * max(arms) + 1e-9:
        return f"{value:{form}} [{low:{form}}, {high:{form}}]"
    return f"{value:{form}} ± {(high - low) / 2:{form.removeprefix('+')}}"


def arrow(row: pd.Series) -> str:
    """Arrow in the direction of a difference that is significant, else nothing."""
    if pd.isna(row["p_holm"]) or row["p_holm"] >= 0.05:
        return ""
    return " ↑" if row["difference"] > 0 else " ↓"


def published_name(method: str, published_as: Mapping[str, str]) -> str:
    """Name under which the paper publishes a method's numbers; "" if it does not.

    `published_as` maps the methods of this preset to the paper's names where they differ: with
    {"skywork": "bt"}, the numbers that the paper prints as bt belong to skywork, and bt itself has
    none (D42).
    """
    if method in published_as:
        return published_as[method]
    return "" if method in published_as.values() else method
