"""Shared style of the figures: style sheet, a colour and a marker for each method, file output.

`objectives` is imported inside functions, because it imports torch.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

from ..experiment.grid import bsr_batch, objective_parts
from ..files import atomic_write
from ..frames import write_csv

STYLE = "rm_robustness.results.paper"  # paper.mplstyle beside this file
SPARE_STYLES = [("#CC79A7", "P"), ("#0072B2", "p"), ("#7F7F7F", "h"), ("#B8A900", "<")]
WIDTH = 7.0  # inches, the text width of the paper


def method_label(method: str) -> str:
    """Display name of a method, as in the paper: `bt-hinge` is BT-Hinge."""
    from ..objectives import OBJECTIVES

    name, variant = objective_parts(method)
    title = OBJECTIVES[name].label if name in OBJECTIVES else name.upper()
    if batch := bsr_batch(method):
        return f"{title}, B = {batch}"
    return f"{title}, λ = {variant}" if variant else title


def method_styles(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Assign a colour and a marker to every method; those of an objective never change."""
    from ..objectives import OBJECTIVES

    styles = {name: (objective.colour, objective.marker) for name, objective in OBJECTIVES.items()}
    unknown = [method for method in methods if method not in styles]
    spare_styles = {m: SPARE_STYLES[i % len(SPARE_STYLES)] for i, m in enumerate(unknown)}
    return {method: styles.get(method) or spare_styles[method] for method in methods}


def save_figure(figure: Figure, frame: pd.DataFrame, stem: Path) -> None:
    """Write `stem`.png (200 dpi), .pdf and .csv (the plotted frame) atomically.

    Dates and versions are omitted from the metadata, so that equal inputs give equal bytes.
    """
    blank = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None}}
    with matplotlib.style.context(STYLE, after_reset=True):
        for kind, metadata in blank.items():
            with atomic_write(stem.with_name(f"{stem.name}.{kind}")) as draft:
                figure.savefig(draft, format=kind, metadata=metadata)
    write_csv(frame, stem.with_name(f"{stem.name}.csv"))


def panels(n: int, height: float, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """Create a figure of n panels in rows of at most `columns`, each `height` inches high."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.6 * WIDTH, height * rows + 0.4))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[n:]:
        spare.remove()
    return figure, list(axes[:n])


def plot_interval(
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
    """Plot `column` with error bars from `low` to `high`; no bar where these are NaN."""
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


def legend(figure: Figure, axes: Axes, extra: Iterable[Artist]) -> None:
    """Add a legend below the figure: what is labelled in `axes`, and `extra`."""
    legend_of(figure, [*axes.get_legend_handles_labels()[0], *extra])


def legend_of(figure: Figure, artists: Iterable[Artist]) -> None:
    """Add a legend below the figure, read by rows; artists with equal labels share an entry."""
    handles: dict[str, list[Artist]] = {}
    for handle in artists:
        handles.setdefault(str(handle.get_label()), []).append(handle)
    entries: list[Any] = [tuple(a) if len(a) > 1 else a[0] for a in handles.values()]
    labels = list(handles)
    for columns in sorted({-(-len(labels) // rows) for rows in range(1, len(labels) + 1)})[::-1]:
        by_row = [i for column in range(columns) for i in range(column, len(labels), columns)]
        drawn_legend = figure.legend(
            [entries[i] for i in by_row],
            [labels[i] for i in by_row],
            loc="outside lower center",
            ncols=columns,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
        )
        if columns == 1 or drawn_legend.get_window_extent().width < figure.bbox.width:
            return
        drawn_legend.remove()
