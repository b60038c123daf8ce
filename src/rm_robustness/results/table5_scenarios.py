"""Table 5: all objectives and backbones in four scenarios, with intervals and paired differences.

The paper's table has one number a cell and no spread. Here each cell has a 95% interval, and an
arrow where its difference from Bradley-Terry is significant after Holm's correction over the whole
table. Methods are not ranked, on purpose.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.estimates import difference_columns, estimate_columns
from ..evaluation.scenarios import (
    HEADINGS,
    METRICS,
    arrange,
    per_prompt,
    read_rewards,
    score_path,
    tied_rewards,
)
from ..experiment.grid import bsr_weight
from ..experiment.paths import location
from ..frames import read_frame
from ..pivot import Array
from ..statistics import paired_difference, seed_mean
from .tables import (
    add_holm,
    arrow_legend,
    cell,
    effective_weight,
    markdown_page,
    paper_value,
    read_published,
    strength_legend,
)

COLUMNS = [
    *("preset", "backbone", "method", "metric", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", "n_prompts", "n_undefined", "n_ties"),
    *("difference", "difference_low", "difference_high", "p_value", "p_holm"),
    *("weight_times_batch", "paper", "paper_model"),
]


def table5(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Compute every backbone x objective x metric, then the length baseline (table 5, figure 4).

    `settings`: preset, backbones {name: {paper_model}}, objectives, seeds, reference, bsr {weight,
    reduction}, micro_batch, paper_values. The result has a row a cell and the
    columns `COLUMNS`: accuracies and taus are means over prompts and seeds with 95% intervals,
    `seed_std` is the spread of the seeds' means, `n_undefined` (prompts without a value) and
    `n_ties` (pairs of responses of one prompt with equal reward) are summed over seeds,
    `difference` is against `reference` on the same prompts and seeds, and `p_holm` corrects over
    every comparison of the table. What was not measured is NaN. Raises `InputError` for a missing
    file and for two score files that do not list the same responses.
    """
    if settings["reference"] not in settings["objectives"]:
        raise InputError(
            "objectives", str(settings["objectives"]), f"also the reference {settings['reference']}"
        )
    published = read_published(Path(settings["paper_values"]))
    rows: list[dict[str, Any]] = []
    for backbone, backbone_settings in settings["backbones"].items():
        for row in _backbone_rows(runs, backbone, settings):
            weight = bsr_weight(row["method"], settings["bsr"]["weight"])
            model = backbone_settings["paper_model"]
            row["paper_model"] = model
            row["paper"] = paper_value(
                published, "table5", model, row["method"], weight, row["metric"]
            )
            row["weight_times_batch"] = effective_weight(row["method"], settings)
            rows.append(row)
    add_holm(rows)
    rows += _length_rows(runs, settings)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return frame.assign(preset=settings["preset"], n_seeds=frame["n_seeds"].astype("Int64"))


def _backbone_rows(
    runs: Path, backbone: str, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield one row a method and metric, methods outermost, as the paper's table reads."""
    methods, seeds = list(settings["objectives"]), list(settings["seeds"])
    values: dict[tuple[str, str], Array] = {}
    ties: dict[tuple[str, str], int] = {}
    for metric, split in METRICS.items():
        paths = [score_path(runs, backbone, m, s, split) for m in methods for s in seeds]
        rewards, gold = read_rewards(paths)
        per_file = [
            per_prompt(metric, r, g, p) for r, g, p in zip(rewards, gold, paths, strict=True)
        ]
        for i, method in enumerate(methods):
            of_method = slice(i * len(seeds), (i + 1) * len(seeds))
            values[method, metric] = np.stack(per_file[of_method])
            ties[method, metric] = tied_rewards(rewards[of_method])
    for method in methods:
        for metric in METRICS:
            method_values = values[method, metric]
            row = estimate_columns(seed_mean(method_values), method_values)
            row |= {"backbone": backbone, "method": method, "metric": metric}
            row |= {"n_seeds": len(seeds), "n_ties": ties[method, metric]}
            if method != settings["reference"]:
                reference = values[settings["reference"], metric]
                gap = paired_difference(method_values, reference)
                row |= difference_columns(gap)
            yield row


def _length_rows(runs: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Length baseline: the reward of a response is its number of characters."""
    rows = []
    for metric, split in METRICS.items():
        path = runs / location("split", split=split)
        frame = read_frame(path, ["prompt_id", "response", "gold"])
        frame = frame.assign(length=frame["response"].str.len().astype(np.float64))
        lengths, gold = arrange(frame, ["length", "gold"], path)
        values = per_prompt(metric, lengths, gold, path)[None]
        estimate = seed_mean(values)
        row = estimate_columns(estimate, values) | {"seed_std": np.nan}
        rows.append(
            row
            | {
                "backbone": "-",
                "method": "length",
                "metric": metric,
                "n_ties": tied_rewards(lengths),
            }
        )
    return rows


def table5_markdown(frame: pd.DataFrame, note: str = "", reference: str = "bt") -> str:
    """Format the tidy table as in the paper: a row a backbone and method, a column a metric.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    cells = [["backbone", "method", *HEADINGS.values()]]
    models = frame[frame["method"] != "length"]
    for part in [models, frame[frame["method"] == "length"]]:
        for (backbone, method), rows in part.groupby(["backbone", "method"], sort=False):
            by_metric = {row["metric"]: row for _, row in rows.iterrows()}
            cells.append([str(backbone), str(method), *(cell(by_metric[m]) for m in METRICS)])
    caption = (
        f"Preset `{frame['preset'].iloc[0]}`, {int(models['n_seeds'].max())} seeds a reward model. "
        "Each cell is the mean over prompts and seeds ± half of its 95% bootstrap interval."
    )
    title = "Table 5: reward models in four scenarios"
    return markdown_page(title, caption, note, cells, _legend(frame, reference))


def _legend(frame: pd.DataFrame, reference: str) -> list[str]:
    models, length = frame[frame["method"] != "length"], frame[frame["method"] == "length"]
    lines = [
        arrow_legend(reference, "on the same prompts and seeds"),
        "- `length`: the reward is the number of characters; its interval is over prompts alone.",
        f"- Without a value, summed over seeds: {models['n_undefined'].sum():,} prompts "
        f"(`length`: {length['n_undefined'].sum():,}). Pairs of responses with equal reward: "
        f"{models['n_ties'].sum():,} (`length`: {length['n_ties'].sum():,}).",
    ]
    if models["paper"].notna().any():
        lines.append("- paper: the published number of the model in `paper_model`, without spread.")
    return [*lines, *strength_legend(models)]
