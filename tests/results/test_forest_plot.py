"""Figure 4: what is drawn is what the csv says, and it is readable for any grid."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from support.drawn_texts import drawn_texts, faults

from rm_robustness.evaluation.scenarios import METRICS
from rm_robustness.results.forest_plot import COLUMNS, draw_figure4
from rm_robustness.results.plot_style import save_figure

PAPERS = ["Llama-3.2-1B", "Llama-3.2-3B", "Qwen2.5-1.5B", "Qwen2.5-3B"]
OTHERS = ["bt-hinge", "bt-norm", "bt-dr", "bt-bsr"]
MANY = [*OTHERS, "bt-bsr@1e-4", "bt-bsr@1e-2", "bt-bsr@b4", "bt-hinge-bsr"]


def table(backbones: list[str], methods: list[str]) -> pd.DataFrame:
    places = [(b, m, k) for b in backbones for m in ["bt", *methods] for k in METRICS]
    places += [(b, m, "average") for b in [*backbones, "all"] for m in methods]
    places += [("-", "length", k) for k in METRICS]
    frame = pd.DataFrame(places, columns=["backbone", "method", "metric"])
    compared = ~frame["method"].isin(["bt", "length"])
    rng = np.random.default_rng(0)
    gap = np.where(compared, rng.normal(0, 0.02, len(frame)), np.nan)
    limits = {"difference_low": gap - 0.02, "difference_high": gap + 0.02}
    value = np.where(frame["metric"] == "average", np.nan, np.linspace(0.3, 0.9, len(frame)))
    p = np.where(compared, np.linspace(0, 0.1, len(frame)), np.nan)
    columns = {"difference": gap, **limits, "p_holm": p, "paper_difference": gap + 0.011}
    return frame.assign(preset="test", value=value, **columns)


def marks(panel: Axes) -> dict[int, list[tuple[float, bool, str]]]:
    """By row: where each mark is, whether it is filled, and its shape."""
    found: dict[int, list[tuple[float, bool, str]]] = {}
    for line in panel.lines:
        [x, *more], [y, *_] = (np.atleast_1d(part) for part in line.get_data())
        if not more and np.isfinite(x):
            face = line.get_markerfacecolor() not in ("white", "none")
            found.setdefault(int(y), []).append((float(x), face, str(line.get_marker())))
    return found


def panels(figure) -> list[Axes]:
    return [panel for panel in figure.axes if panel.axison]


def test_marks_and_intervals_lie_where_the_csv_says():
    figure, frame = draw_figure4(table(["a", "b"], ["bt-dr", "bt-bsr"]))
    assert list(frame) == COLUMNS and "length" not in set(frame["method"])
    rows = [(b, m) for b in ("a", "b") for m in ("bt", "bt-dr", "bt-bsr")]
    cells = frame.set_index(["backbone", "method", "metric"])
    drawn = panels(figure)
    for panel, metric in zip(drawn[:5], [*METRICS, "average"], strict=True):
        at = marks(panel)
        assert sorted(at) == [1, 2, 4, 5]  # nothing in the reference's rows
        for y, place in enumerate(rows):
            if y in at:
                row = cells.loc[(*place, metric)]
                (own, filled, _), (paper, hollow, shape) = at[y]
                assert (own, paper) == (row["difference"], row["paper_difference"])
                assert filled == (row["p_holm"] < 0.05) and not hollow and shape == "D"
                ends = row[["difference_low", "difference_high"]].to_list()
                assert any(list(line.get_xdata()) == ends for line in panel.lines)
    overall = marks(drawn[5])
    assert overall[1][0][0] == cells["difference"]["all", "bt-dr", "average"]
    assert len({panel.get_xlim() for panel in drawn}) == 1


def test_means_stand_beside_their_rows():
    figure, frame = draw_figure4(table(["a"], ["bt-bsr"]))
    first = frame[frame["metric"] == next(iter(METRICS))].set_index("method")["value"]
    texts = {round(t.get_position()[1]): t.get_text() for t in panels(figure)[0].texts}
    assert texts == {0: f"{first['bt']:.3f}", 1: f"{first['bt-bsr']:.3f}"}
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert labels == ["a", "BT-BSR"] and len(panels(figure)) == 5  # its average is that of all


@pytest.mark.parametrize(
    ("backbones", "methods"),
    [(["llama", "qwen2"], OTHERS), (PAPERS, OTHERS), (PAPERS[:1], OTHERS), (PAPERS[:2], MANY)],
)
@pytest.mark.parametrize("paper", [True, False])
def test_texts_are_apart_and_large_enough_for_the_readme(backbones, methods, paper):
    frame = table(backbones, methods)
    figure, _ = draw_figure4(frame if paper else frame.assign(paper_difference=np.nan))
    assert faults(figure) == []
    shown = [text.get_text() for text in drawn_texts(figure)]
    assert {*backbones} <= {*shown} and ("the paper's difference" in shown) == paper


def test_missing_methods_and_intervals_leave_their_places_empty(tmp_path):
    frame = table(["a", "b"], ["bt-dr", "bt-bsr"])
    frame = frame[(frame["backbone"] != "b") | (frame["method"] != "bt-dr")]
    gone = ["difference_low", "difference_high", "p_holm"]
    figure, _ = draw_figure4(frame.assign(**dict.fromkeys(gone, np.nan)))
    at = marks(panels(figure)[0])
    assert sorted(at) == [1, 2, 5] and not any(
        filled for row in at.values() for _, filled, _ in row
    )
    assert faults(figure) == []
    for name in ("first", "second"):
        save_figure(*draw_figure4(frame), tmp_path / name)
    for kind in ("png", "pdf", "csv"):
        first, second = (tmp_path / f"{name}.{kind}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
