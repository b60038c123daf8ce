"""The style of the figures: one style sheet, a colour and a marker per method, atomic files.

What is known of the objectives is imported where a figure is drawn, because it imports torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..files import atomic_write
from ..frames import write_csv

STYLE = "rm_robustness.results.paper"  # paper.mplstyle beside this file
SPARE_MARKS = [("#CC79A7", "P"), ("#0072B2", "p"), ("#7F7F7F", "h"), ("#B8A900", "<")]
WIDTH = 7.0  # inches, the text width of the paper


def label(method: str) -> str:
    """A method's name as the paper writes it: `bt-hinge` is BT-Hinge."""
    from ..objectives import OBJECTIVES

    name, _, weight = method.partition("@")
    written = OBJECTIVES[name].label if name in OBJECTIVES else name.upper()
    return f"{written}, λ = {weight}" if weight else written


def marks(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Give every method a colour and a marker; those of an objective are always the same."""
    from ..objectives import OBJECTIVES

    known = {name: (objective.colour, objective.marker) for name, objective in OBJECTIVES.items()}
    others = [method for method in methods if method not in known]
    spare = {m: SPARE_MARKS[i % len(SPARE_MARKS)] for i, m in enumerate(others)}
    return {method: known.get(method) or spare[method] for method in methods}


def save(figure: Figure, frame: pd.DataFrame, stem: Path) -> None:
    """Write `stem`.png (200 dpi), .pdf and .csv (what was drawn), each whole or absent.

    No date and no version goes in, so that equal inputs give equal bytes.
    """
    blank = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None}}
    with matplotlib.style.context(STYLE, after_reset=True):
        for kind, metadata in blank.items():
            with atomic_write(stem.with_name(f"{stem.name}.{kind}")) as draft:
                figure.savefig(draft, format=kind, metadata=metadata)
    write_csv(frame, stem.with_name(f"{stem.name}.csv"))


def panels(n: int, height: float, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """Make a figure of n panels in rows of at most `columns`, each `height` inches high."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.6 * WIDTH, height * rows + 0.4))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[n:]:
        spare.remove()
    return figure, list(axes[:n])


def with_interval(
    axes: Axes,
    at: Any,
    rows: pd.DataFrame,
    column: str,
    marker: str,
    colour: str,
    face: str,
    text: str,
    line: str = "",
) -> None:
    """Mark `column` with the interval from `low` to `high`; no bar where there is no interval."""
    middle = rows[column].to_numpy(np.float64)
    bars = np.stack([middle - rows["low"], rows["high"] - middle]).astype(np.float64)
    axes.errorbar(
        at,
        middle,
        yerr=bars.clip(min=0),
        fmt=marker,
        ls=line,
        color=colour,
        mfc=face,
        mec=colour,
        mew=0.8,
        elinewidth=0.9,
        capsize=1.8,
        label=text,
        zorder=4,
    )


def legend(figure: Figure, axes: Axes, extra: list[Line2D]) -> None:
    """Put one legend for the whole figure below it, each label once."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True)) | {
        str(line.get_label()): line for line in extra
    }
    rows = -(-len(unique) // (3 if figure.get_figwidth() < WIDTH else 5))
    columns = -(-len(unique) // rows)
    figure.legend(list(unique.values()), list(unique), loc="outside lower center", ncols=columns)
