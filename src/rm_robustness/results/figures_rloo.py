"""Figures 5 and 6: what RLOO does to the reward it trains on, and to the gold reward.

Two reward models cannot be compared in their own units: Bradley-Terry fixes neither the zero nor
the scale of a reward, and every head is drawn at random. The proxy reward is therefore drawn as the
gain over the SFT policy, in standard deviations of the SFT policy's rewards, each reward model by
its own. That moves and stretches a curve and leaves its shape; the csv has the raw rewards too.
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
from numpy.typing import NDArray

from ..errors import InputError
from ..frames import read_frame
from ..statistics import seed_mean
from .figures_reward_models import BSR, BT
from .plot_style import STYLE, label, legend, marks, panels

Array = NDArray[np.float64]

KEYS = ["seed", "update", "example_id"]
MEASURED = ["reward", "gold", "kl", "n_tokens", "finished"]
RANGES = {"kl": (0, np.inf), "n_tokens": (0, np.inf), "unfinished": (0, 1)}
QUANTITIES = ["kl", "reward", "reward_gain", "gold", "gold_gain", "n_tokens", "unfinished"]
GAIN = "gain in proxy reward over SFT\n(standard deviations of SFT)"


def read_looks(runs: Path, policy: str) -> pd.DataFrame:
    """Read the looks of all seeds of a policy, a row a seed, update and prompt, in that order.

    Raises `InputError` unless every seed was looked at on the same prompts at the same updates, of
    which the first is 0, the SFT policy.
    """
    path = runs / "looks" / f"{policy}.parquet"
    frame = read_frame(path, [*KEYS, "epoch", *MEASURED])
    frame = frame.sort_values(KEYS, kind="stable", ignore_index=True)
    sizes = [frame[key].nunique() for key in KEYS]
    if frame.empty or frame.duplicated(KEYS).any() or len(frame) != np.prod(sizes):
        grid = " x ".join(
            f"{n} {k}s" for n, k in zip(sizes, ("seed", "update", "prompt"), strict=True)
        )
        found = f"{len(frame)} looks for {grid}"
        raise InputError(path, found, "one look at each", "train and look at the seeds alike")
    if (first := frame["update"].iloc[0]) != 0:
        raise InputError(
            path, f"update {first} first", "update 0, the SFT policy", "look there too"
        )
    return frame


def track(runs: Path, run: str, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Follow RLOO with the Bradley-Terry and with the BSR reward model through training.

    The frame has a row a run, reward_model (bt, bt-bsr), seed and update, with epoch and n_prompts,
    and a row with seed "mean" for the mean over seeds, where each of `QUANTITIES` has its 95%
    interval over prompts and seeds (`_low`, `_high`). Means over prompts of: kl to the SFT policy
    (nats a sequence), reward (proxy, as the model gives it), reward_gain (reward less the same
    seed's at update 0, by its standard deviation there; NaN where that is 0), gold, gold_gain
    (gold less that at update 0), n_tokens, unfinished (the share of cut responses, D13). Both gains
    are paired by prompt. `settings`: resamples, seed.
    """
    rows: list[dict[str, Any]] = []
    for method in (BT, BSR):
        looks = read_looks(runs, f"{run}-{method}")
        seeds, updates = looks["seed"].unique(), looks.drop_duplicates("update")
        quantities = _quantities(looks, (len(seeds), len(updates), -1))
        for i, (update, epoch) in enumerate(updates[["update", "epoch"]].itertuples(index=False)):
            values = {name: quantities[name][:, i] for name in QUANTITIES}
            at = {"run": run, "reward_model": method, "update": update, "epoch": epoch}
            at["n_prompts"] = values["reward"].shape[1]
            for j, seed in enumerate(seeds):
                rows.append(at | {"seed": seed} | {q: values[q][j].mean() for q in QUANTITIES})
            over_seeds: dict[str, Any] = {"seed": "mean"}
            for name in QUANTITIES:
                mean = seed_mean(values[name], settings["seed"], settings["resamples"])
                # Three seeds make wide intervals: none reaches where its quantity cannot be.
                low, high = np.clip([mean.low, mean.high], *RANGES.get(name, (-np.inf, np.inf)))
                over_seeds |= {name: mean.value, f"{name}_low": low, f"{name}_high": high}
            rows.append(at | over_seeds)
    keys = ["run", "reward_model", "seed", "update", "epoch", "n_prompts"]
    return pd.DataFrame(rows)[
        keys + [f"{q}{end}" for q in QUANTITIES for end in ("", "_low", "_high")]
    ]


def _quantities(looks: pd.DataFrame, shape: tuple[int, int, int]) -> dict[str, Array]:
    """Arrange the looks as arrays (seeds, updates, prompts), and derive the gains over update 0."""
    arrays = {name: looks[name].to_numpy(np.float64).reshape(shape) for name in MEASURED}
    start = arrays["reward"][:, :1]
    spread = start.std(axis=2, keepdims=True)
    spread[np.ptp(start, axis=2, keepdims=True) == 0] = np.nan  # equal rewards have no scale
    return arrays | {
        "reward_gain": (arrays["reward"] - start) / spread,
        "gold_gain": arrays["gold"] - arrays["gold"][:, :1],
        "unfinished": 1 - arrays["finished"],
    }


def figure5(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw proxy reward against KL (a, b) and r* through training (c, d): claim C8.

    The run is "standard", and the frame is that of `track`.
    """
    frame = track(runs, "standard", settings)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure, axes = panels(4, 2.3)
        for i, method in enumerate((BT, BSR)):
            above, below = axes[i], axes[i + 2]
            _against_kl(above, frame, method)
            _through_training(below, frame, method, "gold")
            last = frame["epoch"].max()
            below.axvspan(last / 2, last, color="0.95", lw=0, zorder=0)
            above.set_title(f"({'ab'[i]}) RLOO with {label(method)}")
            below.set_title(f"({'cd'[i]}) RLOO with {label(method)}")
        for left, right in ((axes[0], axes[1]), (axes[2], axes[3])):  # heights compare in a row
            right.sharex(left)
            right.sharey(left)
            left.autoscale()
        axes[0].set_ylabel(GAIN)
        axes[2].set_ylabel("gold reward, r*")
        half = Line2D([], [], color="0.95", lw=6, label="last half of training")
        legend(figure, axes[2], [axes[3].lines[-1], *_explained(), half])
    return figure, frame


def figure6(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the gain in proxy reward through training, with both reward models (section 3.3).

    The run is "large", and the frame is that of `track`.
    """
    frame = track(runs, "large", settings)
    with matplotlib.style.context(STYLE, after_reset=True):
        figure, [axes] = panels(1, 2.6)
        for method in (BT, BSR):
            _through_training(axes, frame, method, "reward_gain")
        axes.set_ylabel(GAIN)
        legend(figure, axes, _explained())
    return figure, frame


def _rows(frame: pd.DataFrame, method: str) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Take one reward model's rows: a frame a seed, and that of the mean."""
    parts = dict(list(frame[frame["reward_model"] == method].groupby("seed", sort=False)))
    mean = parts.pop("mean")
    return list(parts.values()), mean


def _against_kl(axes: Axes, frame: pd.DataFrame, method: str) -> None:
    colour, marker = marks([method])[method]
    seeds, mean = _rows(frame, method)
    for seed in seeds:
        axes.plot(seed["kl"], seed["reward_gain"], color=colour, lw=0.5, alpha=0.6)
    axes.plot(mean["kl"], mean["reward_gain"], color=colour, lw=1.6)
    marked = mean.iloc[_marked(mean)]
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


def _through_training(axes: Axes, frame: pd.DataFrame, method: str, column: str) -> None:
    colour, marker = marks([method])[method]
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
        markevery=_marked(mean),
        label=f"RLOO with {label(method)}, mean",
    )
    axes.set_xlabel("epoch")


def _marked(mean: pd.DataFrame) -> list[int]:
    """Choose the looks that get a mark, at most 13, so that marks stay apart."""
    return sorted({round(at) for at in np.linspace(0, len(mean) - 1, 13)})


def _explained() -> list[Line2D]:
    return [
        Line2D([], [], color="0.5", lw=0.5, label="a seed"),
        Line2D([], [], color="0.85", lw=6, label="95% interval"),
        Line2D([], [], color="0.4", ls="--", lw=0.8, label="SFT policy"),
    ]
