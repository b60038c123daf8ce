"""Figures 5 and 6: proxy reward and gold reward during RLOO.

The proxy reward is plotted as the gain over the SFT policy (see `evaluation.policy_curves`); the
csv has the raw rewards too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..evaluation.policy_curves import training_curves
from ..experiment.grid import BSR, BT
from .plot_style import STYLE, legend, method_label, method_styles, panels

GAIN = "gain in proxy reward over SFT\n(standard deviations of SFT)"


def figure5(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot proxy reward over KL (a, b) and gold reward r* over epochs (c, d): claim C8.

    The run is "standard", and the frame is that of `training_curves`.
    """
    frame = training_curves(runs, "standard")
    with matplotlib.style.context(STYLE, after_reset=True):
        figure, axes = panels(4, 2.3)
        for i, method in enumerate((BT, BSR)):
            above, below = axes[i], axes[i + 2]
            _plot_against_kl(above, frame, method)
            _plot_over_training(below, frame, method, "gold")
            last = frame["epoch"].max()
            below.axvspan(last / 2, last, color="0.95", lw=0, zorder=0)
            above.set_title(f"({'ab'[i]}) RLOO with {method_label(method)}")
            below.set_title(f"({'cd'[i]}) RLOO with {method_label(method)}")
        for left, right in ((axes[0], axes[1]), (axes[2], axes[3])):  # same scales in a row
            right.sharex(left)
            right.sharey(left)
            left.autoscale()
        axes[0].set_ylabel(GAIN)
        axes[2].set_ylabel("gold reward, r*")
        half = Line2D([], [], color="0.95", lw=6, label="last half of training")
        legend(figure, axes[2], [axes[3].lines[-1], *_line_legend(), half])
    return figure, frame


def figure6(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot the gain in proxy reward over epochs, with both reward models (section 3.3).

    The run is "large", and the frame is that of `training_curves`.
    """
    frame = training_curves(runs, "large")
    with matplotlib.style.context(STYLE, after_reset=True):
        figure, [axes] = panels(1, 2.6)
        for method in (BT, BSR):
            _plot_over_training(axes, frame, method, "reward_gain")
        axes.set_ylabel(GAIN)
        legend(figure, axes, _line_legend())
    return figure, frame


def _rows(frame: pd.DataFrame, method: str) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Split one reward model's rows: a frame a seed, and that of the mean."""
    parts = dict(list(frame[frame["reward_model"] == method].groupby("seed", sort=False)))
    mean = parts.pop("mean")
    return list(parts.values()), mean


def _plot_against_kl(axes: Axes, frame: pd.DataFrame, method: str) -> None:
    colour, marker = method_styles([method])[method]
    seeds, mean = _rows(frame, method)
    for seed in seeds:
        axes.plot(seed["kl"], seed["reward_gain"], color=colour, lw=0.5, alpha=0.6)
    axes.plot(mean["kl"], mean["reward_gain"], color=colour, lw=1.6)
    marked = mean.iloc[_marker_indices(mean)]
    bars = {
        name: np.abs(marked[[f"{q}_low", f"{q}_high"]].to_numpy() - marked[[q]].to_numpy()).T
        for name, q in (("xerr", "kl"), ("yerr", "reward_gain"))
    }
    axes.errorbar(
        marked["kl"],
        marked["reward_gain"],
        **bars,
        fmt=marker,
        ms=6,
        color=colour,
        mec="white",
        mew=0.5,
        elinewidth=0.9,
        zorder=4,
    )
    axes.axhline(0, color="0.4", linestyle="--", linewidth=0.8, zorder=1)
    axes.set_xlabel("KL to the SFT policy, nats a response")


def _plot_over_training(axes: Axes, frame: pd.DataFrame, method: str, column: str) -> None:
    colour, marker = method_styles([method])[method]
    seeds, mean = _rows(frame, method)
    for seed in seeds:
        axes.plot(seed["epoch"], seed[column], color=colour, lw=0.5, alpha=0.6)
    low, high = mean[f"{column}_low"], mean[f"{column}_high"]
    axes.fill_between(mean["epoch"], low, high, color=colour, alpha=0.15, lw=0)
    axes.axhline(mean[column].iloc[0], color="0.4", linestyle="--", linewidth=0.8, zorder=1)
    axes.plot(
        mean["epoch"],
        mean[column],
        marker=marker,
        ms=6,
        color=colour,
        mec="white",
        mew=0.5,
        lw=1.6,
        markevery=_marker_indices(mean),
        label=f"RLOO with {method_label(method)}, mean",
    )
    axes.set_xlabel("epoch")


def _marker_indices(mean: pd.DataFrame) -> list[int]:
    """Indices of the evaluations that get a marker: at most 13, evenly spaced."""
    return sorted({round(at) for at in np.linspace(0, len(mean) - 1, 13)})


def _line_legend() -> list[Line2D]:
    return [
        Line2D([], [], color="0.5", lw=0.5, label="a seed"),
        Line2D([], [], color="0.85", lw=6, label="95% interval"),
        Line2D([], [], color="0.4", ls="--", lw=0.8, label="SFT policy"),
    ]
