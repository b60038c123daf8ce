"""Figures 5 and 6: proxy reward and gold reward during RLOO.

Both are plotted as the gain over the SFT policy (see `evaluation.policy_curves`); the csv has the
rewards themselves too. No method is told apart by colour alone: markers and bands differ.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.policy_curves import training_curves
from ..experiment.grid import BSR, BT, gold_name
from ..pivot import Array
from .plot_style import STYLE, legend_of, method_label, method_styles, panels

GAIN = "gain in proxy reward\n(SD of SFT)"
GOLD_GAIN = "gain in gold reward\nr* (its own unit)"
BANDS: dict[str, dict[str, Any]] = {  # as the halves of figure 3: a grey area, a hatched one
    BT: {"facecolor": "0.88", "edgecolor": "0.45", "ls": ":"},
    BSR: {"facecolor": "none", "edgecolor": "#F3B48B", "ls": "--", "hatch": "//"},
}


def figure5(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot proxy reward over KL (a, b) and gold reward r* over epochs (c, d): claim C8.

    The run is "standard", and the frame is that of `training_curves`. `settings` may have `gold`,
    the section `rloo.gold`, whose model is then named as the judge.
    """
    frame = training_curves(runs, "standard")
    with matplotlib.style.context(STYLE, after_reset=True):
        figure, axes = panels(4, 2.5)
        for i, method in enumerate((BT, BSR)):
            above, below = axes[i], axes[i + 2]
            _plot_method(above, frame, method, "kl", "reward_gain")
            _plot_method(below, frame, method, "epoch", "gold_gain")
            label = "middle of training" if i == 0 else None
            below.axvline(frame["epoch"].max() / 2, color="0.4", ls=":", lw=1, label=label)
            _plot_sft_policy(above)
            _plot_sft_policy(below, "SFT policy" if i == 0 else None)
            above.set_xlabel("KL to the SFT policy, nats a response")
            below.set_xlabel("epoch")
            above.set_title(f"({'ab'[i]}) RLOO with {method_label(method)}")
            below.set_title(f"({'cd'[i]}) RLOO with {method_label(method)}")
        for left, right in ((axes[0], axes[1]), (axes[2], axes[3])):  # same scales in a row
            right.sharex(left)
            right.sharey(left)
            left.autoscale()
        axes[0].set_ylabel(GAIN)
        gold = settings.get("gold")
        judge = f"gain in gold reward\nby {gold_name(gold)}" if gold else GOLD_GAIN
        axes[2].set_ylabel(judge)
        _legend(figure, axes[2:])
    return figure, frame


def figure6(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot the gain in proxy reward over epochs, with both reward models (section 3.3).

    The run is "large", and the frame is that of `training_curves`.
    """
    frame = training_curves(runs, "large")
    with matplotlib.style.context(STYLE, after_reset=True):
        figure, [axes] = panels(1, 3.0)
        for method in (BT, BSR):
            _plot_method(axes, frame, method, "epoch", "reward_gain")
        _plot_sft_policy(axes, "SFT policy")
        axes.set_xlabel("epoch")
        axes.set_ylabel(GAIN)
        _legend(figure, [axes])
    return figure, frame


def _plot_method(axes: Axes, frame: pd.DataFrame, method: str, x: str, y: str) -> None:
    """Plot a reward model's mean with its band of intervals in y, and its seeds."""
    colour, marker = method_styles([method])[method]
    by_seed = dict(list(frame[frame["reward_model"] == method].groupby("seed", sort=False)))
    mean = by_seed.pop("mean")
    axes.plot(
        mean[x],
        mean[y],
        marker=marker,
        ms=6,
        color=colour,
        mec="white",
        mew=0.5,
        lw=1.8,
        markevery=_marked(mean[x].to_numpy(np.float64)),
        label=f"RLOO with {method_label(method)}, mean",
        zorder=3,
    )
    for i, seed in enumerate(by_seed.values()):
        label = "a seed" if i == 0 else None
        axes.plot(seed[x], seed[y], color=colour, lw=0.8, alpha=0.8, label=label)
    low, high = mean[f"{y}_low"], mean[f"{y}_high"]
    axes.fill_between(mean[x], low, high, lw=0.8, zorder=1, label="95% interval", **BANDS[method])


def _plot_sft_policy(axes: Axes, label: str | None = None) -> None:
    axes.axhline(0, color="0.4", linestyle="--", linewidth=0.8, zorder=1.5, label=label)


def _legend(figure: Figure, panels: list[Axes]) -> None:
    artists = [artist for panel in panels for artist in panel.get_legend_handles_labels()[0]]
    means_first = sorted(artists, key=lambda artist: not str(artist.get_label()).endswith("mean"))
    legend_of(figure, means_first)


def _marked(x: Array) -> list[int]:
    """Indices of the evaluations that get a marker: the last, and back from it 1/12 of x apart."""
    marked: list[int] = []
    for i in reversed(range(len(x))):
        if all(abs(x[i] - x[j]) > np.ptp(x) / 12.5 for j in marked):
            marked.append(i)
    return marked[::-1]
