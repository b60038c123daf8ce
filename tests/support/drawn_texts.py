"""Texts of a figure, where they are drawn: which overlap, leave the figure, or are small."""

from itertools import combinations

import matplotlib.style
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from rm_robustness.results.plot_style import STYLE

README_WIDTH, DIGIT = 700, 0.73  # pixels; height of DejaVu Sans' digits, as a share of its size


def drawn_texts(figure: Figure) -> list[Text]:
    """Lay the figure out as `save_figure` does; list its texts, without ticks out of sight."""
    with matplotlib.style.context(STYLE, after_reset=True):
        figure.draw_without_rendering()
    hidden: set[Text] = set()
    for axes in figure.axes:
        axis: Axis
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if not low <= t.get_loc() <= high]
            hidden |= {tick.label1 for tick in ticks}
    texts = figure.findobj(Text)
    return [t for t in texts if t.get_visible() and t.get_text().strip() and t not in hidden]


def faults(figure: Figure) -> list[str]:
    """Say which texts overlap, leave the figure, or are below 9 pixels in the README."""
    texts = drawn_texts(figure)
    boxes = {text: text.get_window_extent() for text in texts}
    found = [
        f"{a.get_text()!r} overlaps {b.get_text()!r}"
        for a, b in combinations(texts, 2)
        if boxes[a].padded(-0.5).overlaps(boxes[b].padded(-0.5))
    ]
    page = figure.bbox.padded(0.5)
    for text, box in boxes.items():
        if box.x0 < page.x0 or box.y0 < page.y0 or box.x1 > page.x1 or box.y1 > page.y1:
            found.append(f"{text.get_text()!r} leaves the figure")
        pixels = DIGIT * text.get_fontsize() / 72 / figure.get_figwidth() * README_WIDTH
        if pixels < 9:
            found.append(f"{text.get_text()!r} has digits of {pixels:.1f} pixels")
    return found
