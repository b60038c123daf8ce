"""Figure 4: every objective's paired differences from Bradley-Terry, as a forest plot.

One axis for all panels: the four metrics, and their average. What compares two methods is the
interval of their difference, so that is drawn; the means themselves stand beside it in grey.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..evaluation.scenarios import HEADINGS, METRICS
from ..experiment.paths import location
from ..experiment.scenarios import ALL, AVERAGE
from ..frames import read_csv
from .plot_style import STYLE, WIDTH, method_label, method_styles

COLUMNS = [
    *("preset", "backbone", "method", "metric", "value", "difference", "difference_low"),
    *("difference_high", "p_holm", "paper_difference"),
]
ROW = 0.19  # inches
LINE: dict[str, Any] = {"ls": "", "marker": "D", "ms": 6.5, "mfc": "none", "mec": "0.3"}


def figure4(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot the differences of table 5 of a run: a panel a metric and one for their average.

    `settings` are those of table 5. A mark is filled where p < 0.05 after Holm's correction; hollow
    diamonds are the paper's differences. The frame has the rows of the table that were plotted.
    """
    return draw_figure4(read_csv(runs / location("result", name="table5")), settings["reference"])


def draw_figure4(table: pd.DataFrame, reference: str = "bt") -> tuple[Figure, pd.DataFrame]:
    """Plot a frame of `table5`; see `figure4`."""
    frame = table.loc[table["method"] != "length", COLUMNS].reset_index(drop=True)
    backbones = [name for name in frame["backbone"].unique() if name != ALL]
    with matplotlib.style.context(STYLE, after_reset=True):
        return _draw(frame, backbones, reference), frame


def _draw(frame: pd.DataFrame, backbones: list[str], reference: str) -> Figure:
    methods = list(frame["method"].unique())
    compared = [method for method in methods if method != reference]
    rows = [(b, m) for b in backbones for m in (reference, *compared)]
    overall = [(ALL, m) for m in (reference, *compared)] if len(backbones) > 1 else []
    heights = [ROW * len(rows), max(ROW * len(overall), 3.5 * ROW)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9))
    grid = figure.add_gridspec(2, len(METRICS) + 1, height_ratios=heights)
    panels = [figure.add_subplot(grid[0, i]) for i in range(len(METRICS) + 1)]
    places = [*zip(panels, [*METRICS, AVERAGE], [rows] * len(panels), strict=True)]
    if overall:
        below = figure.add_subplot(grid[1, -1], sharex=panels[-1])
        panels[-1].tick_params(labelbottom=False)
        places.append((below, AVERAGE, overall))
    styles = method_styles(methods)
    cells = {(r["backbone"], r["method"], r["metric"]): r for _, r in frame.iterrows()}
    for panel, metric, listed in places:
        for y, (backbone, method) in enumerate(listed):
            place = (backbone, method, metric)
            if place in cells:
                draw_row(panel, y, cells[place], styles[method])
        lay_out(panel, len(listed))
    share_limits([panel for panel, _, _ in places], frame)
    for panel, metric in zip(panels, METRICS, strict=False):
        panel.set_title(HEADINGS[metric].replace(", ", "\n"))
    panels[-1].set_title("average")
    _name_rows(panels[0], rows, reference, {})
    _explain(figure, grid[1, : -1 if overall else None], frame, reference)
    if overall:
        _name_rows(below, overall, reference, {ALL: "all backbones"})
    return figure


def lay_out(panel: Axes, rows: int) -> None:
    """Give a panel its rows, from the top, a line at no difference, and few ticks."""
    panel.axvline(0, color="black", lw=0.8, zorder=1)
    panel.set_ylim(rows - 0.5, -0.6)
    panel.set_yticks(range(rows), [""] * rows)
    panel.tick_params(axis="y", length=0)
    panel.grid(False, axis="y")
    panel.grid(True, axis="x")
    panel.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    panel.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("0.", "."))
    panel.spines["left"].set_visible(False)


def draw_row(panel: Axes, y: int, row: pd.Series, style: tuple[str, str]) -> None:
    """Draw one difference with its interval, the paper's, and the mean itself in the margin."""
    colour, marker = style
    if pd.notna(row["value"]):
        text = f"{row['value']:.3f}"
        beside = panel.get_yaxis_transform()
        panel.text(1.04, y, text, transform=beside, va="center", color="0.4")
    if pd.isna(row["difference"]):
        return
    if pd.notna(row["difference_low"]):
        panel.plot(row[["difference_low", "difference_high"]], [y, y], color=colour, lw=1.6)
    found = pd.notna(row["p_holm"]) and row["p_holm"] < 0.05
    face = colour if found else "white"
    panel.plot(row["difference"], y, marker, ms=6, color=colour, mfc=face, mew=1.1, zorder=4)
    panel.plot(row["paper_difference"], y, **LINE, zorder=5)


def share_limits(panels: list[Axes], frame: pd.DataFrame) -> None:
    """Give all panels one axis, which reaches around every interval and number of the paper."""
    drawn = frame[["difference", "difference_low", "difference_high", "paper_difference"]]
    low, high = min(0.0, drawn.min().min()), max(0.0, drawn.max().max())
    margin = 0.08 * (high - low) or 0.01
    for panel in panels:
        panel.set_xlim(low - margin, high + margin)


def _name_rows(
    panel: Axes, rows: list[tuple[str, str]], reference: str, names: Mapping[str, str]
) -> None:
    """Name each row by its method; the reference's row is headed by the backbone."""
    texts = [
        names.get(backbone, backbone) if method == reference else method_label(method)
        for backbone, method in rows
    ]
    panel.set_yticks(range(len(rows)), texts)
    for label, (_, method) in zip(panel.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if method == reference else "normal")
        label.set_in_layout(rows[0][0] != ALL)  # those stand over the empty corner


def _explain(figure: Figure, place: Any, frame: pd.DataFrame, reference: str) -> None:
    """Say in a corner of the figure what is drawn."""
    corner = figure.add_subplot(place)
    corner.set_axis_off()
    name = method_label(reference)
    text = (
        f"difference from {name} on the same prompts and seeds,\n95% interval; "
        f"filled: p < 0.05 after Holm's correction\ngrey: the mean; bold rows: that of {name}"
    )
    handles = []
    if frame["paper_difference"].notna().any():
        handles = [Line2D([], [], label="the paper's difference", **LINE)]
    options: dict[str, Any] = {"loc": "upper left", "alignment": "left", "borderpad": 0}
    corner.legend(handles=handles, title=text, handletextpad=0.2, **options)
