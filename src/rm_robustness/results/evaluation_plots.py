"""Figures of the evaluation card, as SVG that takes the page's colours, light or dark.

Each is as wide as a phone, so that its text is readable there; a wider page puts several in a row.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .evaluation_rows import cut, drawn
from .plot_style import STYLE, legend_of

WIDTH = 4.6  # inches
ROW = 0.24  # inches
# Colours that `_svg` replaces by the page's own. Black would not do: matplotlib leaves it out.
INK, SOFT, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MARKERS = "osD^vPXp"
BLUE = COLOURS[0]
PAGE_COLOURS = {
    **{INK: "currentColor", SOFT: "var(--soft)", LINE: "var(--line)", PAPER: "var(--page)"},
    **{BLUE.lower(): "var(--blue)"},
}
LOOK: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    **{"grid.color": LINE, "text.parse_math": False, "axes.unicode_minus": True},
    **{"svg.fonttype": "none", "svg.hashsalt": "card"},
}
STYLES: dict[str, dict[str, Any]] = {  # of a row of a forest plot, by its kind
    "model": {"marker": "o", "color": BLUE, "mfc": BLUE},
    "baseline": {"marker": "s", "color": SOFT, "mfc": PAPER},
    "reference": {"marker": "D", "color": INK, "mfc": PAPER},
    "found": {"marker": "o", "color": BLUE, "mfc": BLUE},
    "not found": {"marker": "o", "color": BLUE, "mfc": PAPER},
}


class Row(NamedTuple):
    """A row of a forest plot: a number, the ends of its interval (NaN: none), and their text."""

    label: str
    value: float
    low: float
    high: float
    text: str
    kind: str  # of `STYLES`
    band: float = np.nan  # half the width of a grey band about zero


def forest(
    rows: Sequence[Row],
    line: float,
    ends: tuple[float, float],
    others: Sequence[float] = (),
    said: str = "",
) -> str:
    """A forest plot: a row a number, a dashed line at chance or at no difference.

    `ends` are numbers that the axis reaches at least, for figures that are compared. `others` are
    numbers without intervals, drawn as ticks in one row more that is named `said`.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            if np.isfinite(row.band):
                axes.plot([-row.band, row.band], [y, y], color=LINE, lw=9, zorder=1)
            _interval(axes, row.value, row.low, row.high, y, **STYLES[row.kind])
            beside = axes.get_yaxis_transform()
            axes.text(1.02, y, row.text, transform=beside, va="center", color=SOFT)
        labels = [cut(row.label) for row in rows]
        if len(others):
            axes.plot(others, [len(rows)] * len(others), "|", color=SOFT, ms=9, mew=0.9)
            labels.append(said)
        axes.axvline(line, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.update_datalim([(end, 0) for end in ends])
        axes.margins(x=0.06)
        _name_rows(axes, labels)

    return _svg(draw, ROW * (len(rows) + bool(len(others))) + 0.4)


def slopes(series: Sequence[tuple[str, str, pd.DataFrame]], others: Sequence[pd.Series]) -> str:
    """Accuracies by difficulty, a line a model; those published elsewhere are thin lines.

    `series` is (label, kind, frame with value, ci_low, ci_high by difficulty), `others` the values
    by difficulty.
    """
    places = ["hard", "normal", "easy"]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for values in others:
            axes.plot(range(3), values[places], color=SOFT, lw=0.5, alpha=0.45, zorder=1)
        handles: list[Any] = []
        if others:
            handles.append(Line2D([], [], color=SOFT, lw=0.5, label="published by others"))
        for n, (label, kind, frame) in enumerate(series):
            by_place = frame.loc[places]
            style = _style(n) if kind == "model" else {**STYLES[kind], "ls": ":"}
            at = np.arange(3) + 0.04 * (n - (len(series) - 1) / 2)
            axes.plot(at, by_place["value"], label=cut(label), lw=1.4, ms=5, zorder=4, **style)
            axes.vlines(at, by_place["ci_low"], by_place["ci_high"], color=style["color"], lw=1)
            handles.insert(n, axes.get_lines()[-1])
        axes.axhline(50, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.set_xticks(range(3), places)
        axes.set_xlim(-0.25, 2.25)
        axes.set_ylabel("accuracy, %")
        legend_of(figure, handles)

    return _svg(draw, 3.0 + 0.16 * len(series))


def dots(groups: Sequence[str], series: Sequence[tuple[str, pd.DataFrame]], axis: str) -> str:
    """Percentages with intervals: a row a group, a mark a series (value, ci_low, ci_high)."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        height = 0.62 / max(len(series), 2)
        for n, (label, frame) in enumerate(series):
            style = _style(n)
            axes.plot([], [], label=cut(label), ls="", ms=5, **style)
            for group, row in frame.iterrows():
                at = groups.index(str(group)) + height * (n - (len(series) - 1) / 2)
                _interval(axes, *drawn(row), at, **style)
        axes.axvline(0, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.set_xlabel(axis)
        axes.margins(x=0.06)
        _name_rows(axes, [cut(group.replace("_", " ")) for group in groups])
        if len(series) > 1:
            legend_of(figure, axes.get_legend_handles_labels()[0])

    rows = len(groups) * max(1.0, 0.5 * len(series))
    return _svg(draw, ROW * rows + 0.7 + 0.17 * (len(series) > 1) * len(series))


def lengths(rows: Sequence[tuple[str, dict[str, pd.Series]]], ends: tuple[float, float]) -> str:
    """Tau, tau at equal length (filled), tau with length itself (cross): a row a model."""
    marks: dict[str, dict[str, Any]] = {
        "tau": {"marker": "o", "color": BLUE, "mfc": PAPER},
        "length_controlled_tau": {"marker": "o", "color": BLUE, "mfc": BLUE},
        "length_tau": {"marker": "X", "color": COLOURS[1]},
    }

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        given = [name for name in marks if any(name in of_model for _, of_model in rows)]
        for n, name in enumerate(given):
            for y, (_, of_model) in enumerate(rows):
                if name in of_model:
                    at = y + 0.25 * (n - (len(given) - 1) / 2)
                    row = of_model[name]
                    _interval(axes, *drawn(row), at, **marks[name])
        axes.axvline(0, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.update_datalim([(end, 0) for end in ends])
        axes.margins(x=0.06)
        _name_rows(axes, [cut(label) for label, _ in rows])

    return _svg(draw, 1.7 * ROW * len(rows) + 0.45)


def embedded(svg: str, key: str, text: str) -> str:
    """A figure for a page: with a text for those who do not see it, its ids made own by `key`."""
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1)


def _style(n: int) -> dict[str, Any]:
    return {"color": COLOURS[n % len(COLOURS)], "marker": MARKERS[n % len(MARKERS)]}


def _interval(axes: Axes, value: float, low: float, high: float, y: float, **style: Any) -> None:
    """A mark with its interval, if it has one."""
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [y, y], color=style["color"], lw=1.5, zorder=3)
    axes.plot([value], [y], ls="", ms=5.5, mew=1.1, zorder=4, **style)


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """A row a label, the first on top, with a grid for their numbers alone."""
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")


def _svg(draw: Callable[[Figure], None], height: float) -> str:
    """Draw a figure of `WIDTH` and a height in inches, and return it as an element of a page."""
    # A character that the font lacks is measured as a box; a browser shows it in another font.
    with warnings.catch_warnings(), matplotlib.style.context([STYLE, LOOK], after_reset=True):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(WIDTH, height))
        draw(figure)
        file = StringIO()
        blank = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=blank)
    svg = file.getvalue()
    svg = svg[svg.index("<svg ") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1)
    for colour, own in PAGE_COLOURS.items():
        svg = svg.replace(colour, own)
    return svg
