"""Figures 1 to 3: norm of the reward head, and norms of hidden states.

Each `figureN` returns the figure and the frame that was plotted; only `plot_style.save_figure`
writes files. Nothing is encoded by colour alone: markers differ in shape, lines in dash, areas in
hatch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter1d
from scipy.stats import skew

from ..evaluation.probes import read_probes
from ..evaluation.scenarios import score_path
from ..experiment.grid import BSR, BT
from ..experiment.scenarios import SCENARIOS
from ..frames import read_frame
from ..pivot import Array
from ..statistics import seed_mean
from .plot_style import STYLE, WIDTH, legend, method_label, panels, plot_interval

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.50, "q75": 0.75, "q95": 0.95}
SEED_LINE: dict[str, Any] = {"color": "#B5457F", "lw": 0.8}  # figure 2, beside the blue mean


def figure1(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot ||W_p|| before and after Bradley-Terry training, by backbone (claim C2).

    `settings` are those of table 5. The frame has a row a point: backbone, seed, step, weight_norm,
    and ratio, the norm divided by the same seed's before training; the row with seed "mean" has the
    means over seeds and their 95% intervals (low, high, ratio_low, ratio_high).
    """
    rows: list[dict[str, Any]] = []
    for backbone in settings["backbones"]:
        probes = read_probes(runs, backbone, settings["seeds"])
        steps = (probes["step"].min(), probes["step"].max())
        by_step = [probes[probes["step"] == step].drop_duplicates("seed") for step in steps]
        before = by_step[0]["weight_norm"].to_numpy(np.float64)
        for step, at_step in zip(steps, by_step, strict=True):
            norms = at_step["weight_norm"].to_numpy(np.float64)
            at = {"backbone": backbone, "step": step}
            for seed, norm, ratio in zip(at_step["seed"], norms, norms / before, strict=True):
                rows.append(at | {"seed": seed, "weight_norm": norm, "ratio": ratio})
            mean = at | {"seed": "mean"}
            for name, values in (("weight_norm", norms), ("ratio", norms / before)):
                prefix = "ratio_" if name == "ratio" else ""
                value, low, high = _over_seeds(values[:, None], settings)
                mean |= {name: value, f"{prefix}low": low, f"{prefix}high": high}
            rows.append(mean)
    columns = ["backbone", "seed", "step", "weight_norm", "low", "high"]
    frame = pd.DataFrame(rows, columns=[*columns, "ratio", "ratio_low", "ratio_high"])
    with matplotlib.style.context(STYLE, after_reset=True):
        return _draw_figure1(frame), frame


def _draw_figure1(frame: pd.DataFrame) -> Figure:
    backbones = list(frame["backbone"].unique())
    figure, [axes] = panels(1, 2.4)
    figure.set_size_inches(min(WIDTH, max(4.6, 1.4 + 1.4 * len(backbones))), 3.6)
    names: list[str] = []
    for i, backbone in enumerate(backbones):
        backbone_rows = frame[frame["backbone"] == backbone]
        mean = backbone_rows[backbone_rows["seed"] == "mean"].sort_values("step")
        seed_norms = backbone_rows[backbone_rows["seed"] != "mean"].pivot(
            index="step", columns="seed", values="weight_norm"
        )
        at = [i - 0.12, i + 0.12]
        lines = axes.plot(at, seed_norms.to_numpy(), "-o", ms=3, lw=0.5, color="0.5", mfc="white")
        if i == 0:
            lines[0].set_label("a seed")
        for row, side, face, text in ((0, -0.26, "white", "before"), (1, 0.26, "black", "after")):
            points_at_step = mean.iloc[[row]]
            text = f"mean {text} training" if i == 0 else ""
            plot_interval(axes, [i + side], points_at_step, "weight_norm", "D", "black", face, text)
        ratio, low, high = mean[["ratio", "ratio_low", "ratio_high"]].iloc[-1]
        interval = "" if np.isnan(low) else f"\n[{low:.3f}, {high:.3f}]"
        names.append(f"{backbone}\n{ratio:.3f}{interval}")
    axes.axhline(1.0, color="0.4", ls="--", lw=0.8, label="expected at initialisation")
    low, high = axes.get_ylim()  # at least ±10%, so that tiny changes do not look large
    axes.set_ylim(min(low, 0.9), max(high, 1.1))
    axes.set_xlim(-0.5, len(backbones) - 0.5)
    axes.set_xticks(range(len(backbones)), names)
    axes.grid(False, axis="x")
    axes.set_xlabel("norm after / before training: mean over seeds [95% interval]")
    axes.set_ylabel(r"norm of the reward head, $\Vert W_p \Vert$")
    legend(figure, axes, [])
    return figure


def figure2(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot the distribution of ||h_w - h_l|| during Bradley-Terry training (claim C1).

    The frame has a row a backbone, step and seed, and one with seed "pooled" for all seeds
    together: mean (for "pooled" with its interval low, high over seeds and pairs), std, skewness,
    the quantiles q05 to q95 and n_pairs.
    """
    rows: list[dict[str, Any]] = []
    for backbone in settings["backbones"]:
        probes = read_probes(runs, backbone, settings["seeds"])
        for step, at_step in probes.groupby("step"):
            at = {"backbone": backbone, "step": step, "epoch": at_step["epoch"].iloc[0]}
            norms = at_step["difference_norm"].to_numpy(np.float64)
            by_seed = norms.reshape(len(settings["seeds"]), -1)
            _, low, high = _over_seeds(by_seed, settings)
            rows.append(at | {"seed": "pooled"} | _describe(norms) | {"low": low, "high": high})
            for seed, seed_norms in zip(settings["seeds"], by_seed, strict=True):
                rows.append(at | {"seed": seed} | _describe(seed_norms))
    columns = ["backbone", "step", "epoch", "seed", "mean", "low", "high", "std", "skewness"]
    frame = pd.DataFrame(rows, columns=[*columns, *QUANTILES, "n_pairs"])
    with matplotlib.style.context(STYLE, after_reset=True):
        return _draw_figure2(frame), frame


def _describe(norms: Array) -> dict[str, float]:
    """Summarise norms (N,); the skewness of equal numbers is NaN."""
    quantiles = {name: float(np.quantile(norms, q)) for name, q in QUANTILES.items()}
    skewness = float(skew(norms)) if np.ptp(norms) > 0 else np.nan
    moments = {"mean": float(norms.mean()), "std": float(norms.std()), "skewness": skewness}
    return {**moments, **quantiles, "n_pairs": len(norms)}


def _draw_figure2(frame: pd.DataFrame) -> Figure:
    backbones = list(frame["backbone"].unique())
    figure, axes = panels(len(backbones), 2.5)
    for panel, backbone in zip(axes, backbones, strict=True):
        backbone_rows = frame[frame["backbone"] == backbone]
        pooled = backbone_rows[backbone_rows["seed"] == "pooled"]
        epoch = pooled["epoch"].to_numpy()
        for low, high, grey in (("q05", "q95", "0.88"), ("q25", "q75", "0.72")):
            text = f"{low[1:].lstrip('0')} to {high[1:]}% of pairs"
            panel.fill_between(epoch, pooled[low], pooled[high], color=grey, lw=0, label=text)
        for seed in backbone_rows["seed"].unique():
            if seed != "pooled":
                mean = backbone_rows[backbone_rows["seed"] == seed]
                panel.plot(mean["epoch"], mean["mean"], **SEED_LINE)
        panel.plot(epoch, pooled["q50"], "--", color="black", label="median")
        plot_interval(panel, epoch, pooled, "mean", "o", "#0072B2", "white", "mean", line="-")
        panel.set_title(backbone)
        panel.set_xlabel("epoch")
        panel.set_ylim(bottom=0)
    for panel in axes[::2]:  # the left column
        panel.set_ylabel(r"$\Vert h(x, y_w) - h(x, y_l) \Vert$")
    legend(figure, axes[0], [Line2D([], [], label="mean of a seed", **SEED_LINE)])
    return figure


def figure3(runs: Path, settings: Mapping[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Plot the distribution of ||h|| in each scenario, BT and BT-BSR side by side (claim C3).

    The frame is tidy: backbone, method, split, quantity, at, value, low, high, n_seeds,
    n_responses (of all seeds). `quantity` is mean, std or cv = std / mean (the mean over seeds,
    with its 95% interval over seeds), or describes the norms of all seeds, each seed's scaled so
    that its mean over the four scenarios is that of all seeds: q05 to q95, or density, which has
    its norm in `at`: a histogram of 64 bins smoothed over 1.5 bins, which stays finite when all
    norms are equal.
    """
    rows: list[dict[str, Any]] = []
    for backbone in settings["backbones"]:
        for method in (BT, BSR):
            norms: dict[str, list[Array]] = {}
            for split in SCENARIOS:
                paths = [score_path(runs, backbone, method, s, split) for s in settings["seeds"]]
                columns_read = [read_frame(path, ["hidden_norm"])["hidden_norm"] for path in paths]
                norms[split] = [column.to_numpy(np.float64) for column in columns_read]
            seed_means = np.array(
                [np.concatenate(of_seed).mean() for of_seed in zip(*norms.values(), strict=True)]
            )
            scales = seed_means.mean() / seed_means
            for split, by_seed in norms.items():
                at = {"backbone": backbone, "method": method, "split": split}
                size = {"n_seeds": len(by_seed), "n_responses": sum(map(len, by_seed))}
                rows += [at | row | size for row in _norm_rows(by_seed, scales, settings)]
    columns = ["backbone", "method", "split", "quantity", "at", "value", "low", "high"]
    frame = pd.DataFrame(rows, columns=[*columns, "n_seeds", "n_responses"])
    with matplotlib.style.context(STYLE, after_reset=True):
        return _draw_figure3(frame), frame


def _norm_rows(
    by_seed: list[Array], scales: Array, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    moments = np.array(
        [(norms.mean(), norms.std(), norms.std() / norms.mean()) for norms in by_seed]
    )
    rows: list[dict[str, Any]] = []
    for name, values in zip(("mean", "std", "cv"), moments.T, strict=True):
        value, low, high = _over_seeds(values[:, None], settings)
        rows.append({"quantity": name, "value": value, "low": low, "high": high})
    scaled = np.concatenate([s * norms for s, norms in zip(scales, by_seed, strict=True)])
    rows += [{"quantity": q, "value": np.quantile(scaled, at)} for q, at in QUANTILES.items()]
    counts, edges = np.histogram(scaled, bins=64, density=True)
    density = gaussian_filter1d(counts, 1.5)  # reflects at both ends, so that the area stays 1
    middles = (edges[:-1] + edges[1:]) / 2
    drawn = zip(middles, density, strict=True)
    return rows + [{"quantity": "density", "at": at, "value": value} for at, value in drawn]


def _draw_figure3(frame: pd.DataFrame) -> Figure:
    backbones = list(frame["backbone"].unique())
    figure, axes = panels(len(backbones), 2.4, columns=1)
    figure.set_figwidth(WIDTH)
    sides = {BT: (-1, "0.75", ""), BSR: (1, "#F3B48B", "//////")}
    for panel, backbone in zip(axes, backbones, strict=True):
        backbone_rows = frame[frame["backbone"] == backbone]
        densest = backbone_rows.loc[backbone_rows["quantity"] == "density", "value"].max()
        names = [scenario.title for scenario in SCENARIOS.values()]
        for method, (side, colour, hatch) in sides.items():
            for i, split in enumerate(SCENARIOS):
                rows = backbone_rows[
                    (backbone_rows["method"] == method) & (backbone_rows["split"] == split)
                ]
                density = rows[rows["quantity"] == "density"]
                panel.fill_betweenx(
                    density["at"],
                    i,
                    i + side * 0.42 * density["value"] / densest,  # one scale: areas are equal
                    facecolor=colour,
                    hatch=hatch,
                    edgecolor="black",
                    linewidth=0.5,
                    label=method_label(method) if i == 0 else None,
                )
                by_quantity = rows.set_index("quantity")
                at, values = i + side * 0.03, by_quantity["value"]
                panel.plot([at] * 2, values[["q25", "q75"]], color="black", lw=2.5)
                panel.plot(at, values["q50"], "o", ms=3.5, mfc="white", mec="black", mew=0.6)
                cv = by_quantity.loc["cv"]
                names[i] += f"\n{100 * cv['value']:.1f}"
                if not np.isnan(cv["low"]):
                    names[i] += f" ± {50 * (cv['high'] - cv['low']):.1f}"
        panel.set_xlim(-0.5, len(SCENARIOS) - 0.5)
        panel.set_xticks(range(len(SCENARIOS)), names)
        panel.annotate(
            "".join(f"\n{method_label(method)}, CV %" for method in sides),
            (0, 0),
            (-6, -7),  # beside the tick labels
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="top",
        )
        panel.set_title(backbone)
        panel.set_ylabel(r"norm, $\Vert h \Vert$")
    middle = [
        Line2D([], [], color="black", lw=2.5, label="middle half"),
        Line2D(
            [], [], marker="o", ls="", ms=3.5, mfc="white", mec="black", mew=0.6, label="median"
        ),
    ]
    legend(figure, axes[0], middle)
    return figure


def _over_seeds(values: Array, settings: Mapping[str, Any]) -> tuple[float, float, float]:
    """Mean over seeds with its 95% interval; values are (S, P), or (S, 1) for one number a seed."""
    estimate = seed_mean(values)
    return estimate.value, estimate.low, estimate.high
