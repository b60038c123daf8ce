"""Sensitivity, on request: how much the choices that the paper leaves open matter (D50).

Each variant of the section `sensitivity` is one recipe of training: a weight, a micro-batch, a
reduction of BSR, another objective. Table and figure have its paired differences from
Bradley-Terry in Kendall's tau, as table 5 has those of the grid, on two scenarios of one backbone.
Variants are not ranked, and the best one is not chosen: that would need other prompts.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..evaluation.estimates import difference_columns, estimate_columns
from ..evaluation.scenarios import HEADINGS, prompt_values, score_path
from ..experiment.grid import objective_parts
from ..experiment.scenarios import SCENARIOS
from ..statistics import paired_difference, seed_mean
from .forest_plot import ROW, draw_row, lay_out, share_limits
from .plot_style import STYLE, WIDTH, method_label, method_styles
from .tables import COMPARISON, add_holm, arrow, arrow_legend, interval, markdown_page, moderate

RECIPE = ["objective", "weight", "reduction", "micro_batch"]
COLUMNS = [
    *("preset", "backbone", "method", *RECIPE, "metric", "value", "ci_low", "ci_high"),
    *("seed_std", "n_seeds", "n_prompts", "n_undefined", *COMPARISON, "seed_variance"),
]


def sensitivity(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Compute tau of the reference and of every variant, and its paired difference (D50).

    `settings`: preset, backbone, seeds, scenarios (names of splits), reference, seed_variance,
    methods [{name, objective, options, micro_batch}]. The result has a row a method and scenario,
    and the columns `COLUMNS`: of the recipe the columns `RECIPE` (weight and reduction are empty
    where the objective has none), the rest as in table 5, with `p_holm` over every comparison here.
    Raises `InputError` for a missing file and for score files of different responses.
    """
    rows = list(_measured(runs, settings))
    if settings["seed_variance"] == "moderated":
        moderate(rows)
    for row in rows:
        row |= difference_columns(row["gap"]) if "gap" in row else {}
    add_holm(rows)
    same = {key: settings[key] for key in ("preset", "backbone", "seed_variance")}
    return pd.DataFrame(rows).assign(**same).reindex(columns=COLUMNS)


def _measured(runs: Path, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row a method and scenario, methods outermost."""
    seeds, recipes, values = settings["seeds"], settings["methods"], {}
    methods = [recipe["name"] for recipe in recipes]
    for split in settings["scenarios"]:
        metric = SCENARIOS[split].metric
        paths = [
            score_path(runs, settings["backbone"], m, s, split) for m in methods for s in seeds
        ]
        measured = prompt_values(metric, paths)[0].to_numpy()
        for method, of_method in zip(methods, np.split(measured, len(methods)), strict=True):
            values[method, metric] = of_method
    for method, recipe in zip(methods, recipes, strict=True):
        options = {key: recipe["options"].get(key) for key in ("weight", "reduction")}
        for split in settings["scenarios"]:
            metric = SCENARIOS[split].metric
            of_method = values[method, metric]
            row = {"method": method, **recipe, **options, "metric": metric, "n_seeds": len(seeds)}
            row |= estimate_columns(seed_mean(of_method), of_method)
            if method != settings["reference"]:
                row["gap"] = paired_difference(of_method, values[settings["reference"], metric])
            yield row


def sensitivity_markdown(frame: pd.DataFrame, note: str = "", reference: str = "bt") -> str:
    """Format the tidy table: a row a variant, its recipe, and a difference for each scenario.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    metrics = list(frame["metric"].unique())
    cells = [["variant", "objective", "weight", "reduction", "micro-batch"]]
    cells[0] += [HEADINGS[metric] for metric in metrics]
    for method, rows in frame.groupby("method", sort=False):
        first, form = rows.iloc[0], _mean if method == reference else _difference
        weight = "" if pd.isna(first["weight"]) else f"{first['weight']:g}"
        reduction = "" if pd.isna(first["reduction"]) else first["reduction"]
        recipe = [str(method), first["objective"], weight, reduction, str(first["micro_batch"])]
        cells.append([*recipe, *(form(row) for _, row in rows.iterrows())])
    first = frame.iloc[0]
    caption = (
        f"Preset `{first['preset']}`, backbone `{first['backbone']}`, {first['n_seeds']} seeds a "
        f"variant. `{reference}` is a mean; every other cell is a difference from it on the same "
        "prompts and seeds. ± is half of the 95% interval over prompts and seeds; in brackets the "
        "smallest true difference that would be found in 80% of runs."
    )
    legend = [
        arrow_legend(reference, "on the same prompts and seeds"),
        "- Reduction: the penalty is weight x B x m² (release), weight x m² (paper), or the first "
        "over the whole global batch (global); m is the mean reward of a micro-batch of B pairs "
        "(D1). `bt-squares` has the mean of the squares in place of m² (D3).",
        "- Micro-batch: as `reward_models.micro_batch` counts it.",
    ]
    return markdown_page("Sensitivity to what the paper leaves open", caption, note, cells, legend)


def _mean(row: pd.Series) -> str:
    return interval(row["value"], row["ci_low"], row["ci_high"], ".4f")


def _difference(row: pd.Series) -> str:
    low, high, found = row[["difference_low", "difference_high", "mdd80"]]
    text = interval(row["difference"], low, high, "+.4f") + arrow(row)
    return text if pd.isna(found) else f"{text} ({found:.4f})"


def draw_sensitivity(frame: pd.DataFrame, reference: str = "bt") -> Figure:
    """Plot a frame of `sensitivity`: a panel a scenario, a row a variant, on one axis.

    A mark is filled where p < 0.05 after Holm's correction; colour and shape are the objective's.
    """
    with matplotlib.style.context(STYLE, after_reset=True):
        metrics, methods = frame["metric"].unique(), list(frame["method"].unique())
        figure = Figure(figsize=(WIDTH, ROW * len(methods) + 1.1))
        panels = list(figure.subplots(1, len(metrics), squeeze=False)[0])
        styles = method_styles(list(frame["objective"].unique()))
        for panel, metric in zip(panels, metrics, strict=True):
            rows = frame[frame["metric"] == metric].assign(paper_difference=np.nan)
            for y, (_, row) in enumerate(rows.iterrows()):
                draw_row(panel, y, row, styles[row["objective"]])
            lay_out(panel, len(methods))
            panel.set_title(HEADINGS[metric])
        share_limits(panels, frame.assign(paper_difference=np.nan))
        panels[0].set_yticks(range(len(methods)), [_label(method) for method in methods])
        name = method_label(reference)
        figure.supxlabel(
            f"difference from {name} on the same prompts and seeds, 95% interval; filled: p < 0.05 "
            "after\nHolm's correction; grey: the mean",
            fontsize="medium",
        )
        return figure


def _label(method: str) -> str:
    """An objective as the other figures name it; another variant by its name."""
    from ..objectives import OBJECTIVES  # which imports torch

    return method_label(method) if objective_parts(method)[0] in OBJECTIVES else method
