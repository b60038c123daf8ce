"""Table 5: Bradley-Terry in four scenarios, and every other objective as a difference from it.

The paper's table has one number a cell and no spread. Here each cell has a 95% interval. What
decides between methods is their paired difference from Bradley-Terry: it is what the page shows,
with an arrow where it is significant after Holm's correction over the whole table, and with its
average over scenarios and backbones. Methods are not ranked, on purpose.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.estimates import estimate_columns
from ..evaluation.scenarios import (
    HEADINGS,
    METRICS,
    arrange,
    average,
    float32_effect,
    per_prompt,
    prompt_values,
    score_path,
    tied_rewards,
)
from ..experiment.grid import bsr_weight
from ..experiment.paths import location
from ..experiment.scenarios import ALL, AVERAGE
from ..frames import read_frame
from ..statistics import seed_mean
from .tables import (
    COMPARISON,
    PAPER,
    add_comparisons,
    add_holm,
    arrow,
    arrow_legend,
    cell,
    comparison_columns,
    difference_cell,
    effective_weight,
    interval,
    markdown_page,
    moderate,
    paper_value,
    read_published,
    strength_legend,
)

COLUMNS = [
    *("preset", "backbone", "method", "metric", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", "n_prompts", "n_undefined", "n_ties"),
    *(*COMPARISON, "seed_variance", "weight_times_batch", *PAPER),
    *("float32_difference", "float32_reordered", "float32_prompts"),
]
Gaps = dict[str, list[pd.DataFrame]]  # differences from the reference by method, one a scenario


def table5(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Compute every backbone x objective x metric, averages, and the length baseline (table 5).

    `settings`: preset, backbones {name: {paper_model}}, objectives, seeds, reference,
    seed_variance, bsr {weight, reduction}, micro_batch, paper_values. The result has a row a cell
    and the columns `COLUMNS`: accuracies and taus are means over prompts and seeds with 95%
    intervals, `seed_std` is the spread of the seeds' means, `n_undefined` (prompts without a value)
    and `n_ties` (pairs of responses of one prompt with equal reward) are summed over seeds,
    `difference` is against `reference` on the same prompts and seeds, with the columns `DIFFERENCE`
    and, against the paper's difference, `AGAINST_PAPER` of `evaluation.estimates`, and `p_holm`
    corrects over every comparison of the table. Where `seed_variance` is "moderated", intervals and
    p-values of differences rest on seeds' variances shrunk over these comparisons.

    Where models scored in another format than float32 (D48), `float32_difference` is the metric in
    that format minus the metric in float32 on the first `float32_prompts` prompts,
    `float32_reordered` the share of pairs of their responses whose order the format changes, both
    means over seeds.

    Rows with the metric "average" have only differences: the mean over the four metrics, of each
    backbone and of "all", with p-values corrected over the rows of "all", and over the others. What
    was not measured is NaN. Raises `InputError` for a
    missing file and for two score files that do not list the same responses.
    """
    reference = settings["reference"]
    if reference not in settings["objectives"]:
        raise InputError(
            "objectives", str(settings["objectives"]), f"also the reference {reference}"
        )
    published = read_published(Path(settings["paper_values"]))
    rows: list[dict[str, Any]] = []
    gaps: dict[str, Gaps] = {}
    for backbone, backbone_settings in settings["backbones"].items():
        values, ties = _measure(runs, backbone, settings)
        gaps[backbone] = {
            method: [values[method, metric] - values[reference, metric] for metric in METRICS]
            for method in settings["objectives"]
            if method != reference
        }
        for row in _cells(values, ties, gaps[backbone]):
            weight = bsr_weight(row["method"], settings["bsr"]["weight"])
            model = backbone_settings["paper_model"]
            row |= {"backbone": backbone, "paper_model": model}
            row["paper"] = paper_value(
                published, "table5", model, row["method"], weight, row["metric"]
            )
            row["weight_times_batch"] = effective_weight(row["method"], settings)
            row |= _format_columns(runs, backbone, row["method"], row["metric"], settings["seeds"])
            rows.append(row)
    if settings["seed_variance"] == "moderated":
        moderate(rows)
    add_comparisons(rows, reference)
    add_holm(rows)
    rows += _averages(gaps, rows)
    for row in rows:
        row |= {"n_seeds": len(settings["seeds"]), "seed_variance": settings["seed_variance"]}
    rows += _length_rows(runs, settings)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    counts = frame[["n_seeds", "float32_prompts"]].astype("Int64")
    return frame.assign(preset=settings["preset"], **counts)


def _measure(
    runs: Path, backbone: str, settings: Mapping[str, Any]
) -> tuple[dict[tuple[str, str], pd.DataFrame], dict[tuple[str, str], int]]:
    """Measure each method and metric: values (seeds, named prompts), and pairs of equal reward."""
    methods, seeds = list(settings["objectives"]), list(settings["seeds"])
    values: dict[tuple[str, str], pd.DataFrame] = {}
    ties: dict[tuple[str, str], int] = {}
    for metric, split in METRICS.items():
        paths = [score_path(runs, backbone, m, s, split) for m in methods for s in seeds]
        per_file, rewards = prompt_values(metric, paths)
        for i, method in enumerate(methods):
            of_method = slice(i * len(seeds), (i + 1) * len(seeds))
            values[method, metric] = per_file[of_method].set_axis(seeds)
            ties[method, metric] = tied_rewards(rewards[of_method])
    return values, ties


def _cells(
    values: Mapping[tuple[str, str], pd.DataFrame], ties: Mapping[tuple[str, str], int], gaps: Gaps
) -> Iterator[dict[str, Any]]:
    """Yield one row a method and metric, methods outermost, as the paper's table reads."""
    for method in dict.fromkeys(method for method, _ in values):
        for i, metric in enumerate(METRICS):
            measured = values[method, metric].to_numpy()
            row = estimate_columns(seed_mean(measured), measured)
            row |= {"method": method, "metric": metric, "n_ties": ties[method, metric]}
            if method in gaps:
                row["gap"] = seed_mean(gaps[method][i].to_numpy())
            yield row


def _format_columns(
    runs: Path, backbone: str, method: str, metric: str, seeds: Sequence[int]
) -> dict[str, Any]:
    """Columns of what the scores' format changes; none where a seed has no sample in float32."""
    paths = [score_path(runs, backbone, method, seed, METRICS[metric]) for seed in seeds]
    effects = [effect for path in paths if (effect := float32_effect(metric, path))]
    if len(effects) < len(paths):
        return {}
    return {
        "float32_difference": np.mean([effect.difference for effect in effects]),
        "float32_reordered": np.mean([effect.reordered for effect in effects]),
        "float32_prompts": effects[0].prompts,
    }


def _averages(gaps: Mapping[str, Gaps], cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the differences of each method over the scenarios, of each backbone and of all."""
    rows: list[dict[str, Any]] = []
    for name, backbones in [*((backbone, [backbone]) for backbone in gaps), (ALL, list(gaps))]:
        for method in gaps[backbones[0]]:
            paper = [
                row["paper_difference"]
                for row in cells
                if row["method"] == method and row["backbone"] in backbones
            ]
            gap = average({backbone: gaps[backbone][method] for backbone in backbones})
            row = {"backbone": name, "method": method, "metric": AVERAGE}
            row |= {"n_prompts": gap.n_prompts} | comparison_columns(gap, float(np.mean(paper)))
            rows.append(row)
    add_holm([row for row in rows if row["backbone"] != ALL])
    add_holm([row for row in rows if row["backbone"] == ALL])
    return rows


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
    """Format the tidy table: a row a backbone and method, a column a metric, differences signed.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    cells = [["backbone", "method", *HEADINGS.values()]]
    measured = frame[frame["metric"] != AVERAGE]
    for (backbone, method), rows in measured.groupby(["backbone", "method"], sort=False):
        by_metric = {row["metric"]: row for _, row in rows.iterrows()}
        compared = method not in (reference, "length")
        name = f"{method} - {reference}" if compared else method
        form = difference_cell if compared else cell
        cells.append([str(backbone), str(name), *(form(by_metric[m]) for m in METRICS)])
    caption = (
        f"Preset `{frame['preset'].iloc[0]}`, {int(frame['n_seeds'].max())} seeds a reward model. "
        f"`{reference}` and `length` are means; a row with `- {reference}` is the method's "
        f"difference from `{reference}` on the same prompts and seeds. ± is half of the 95% "
        "interval over prompts and seeds."
    )
    title = "Table 5: reward models in four scenarios"
    return markdown_page(title, caption, note, cells, _legend(frame, reference))


def _legend(frame: pd.DataFrame, reference: str) -> list[str]:
    models, length = frame[frame["method"] != "length"], frame[frame["method"] == "length"]
    lines = [
        f"- {averages_line(frame, reference)}",
        f"{arrow_legend(reference, 'on the same prompts and seeds')} The averages are corrected "
        "among themselves.",
        "- `length`: the reward is the number of characters; its interval is over prompts alone.",
        f"- Without a value, summed over seeds: {models['n_undefined'].sum():,.0f} prompts "
        f"(`length`: {length['n_undefined'].sum():,.0f}). Pairs of responses with equal reward: "
        f"{models['n_ties'].sum():,.0f} (`length`: {length['n_ties'].sum():,.0f}).",
    ]
    if "moderated" in set(models["seed_variance"]):
        lines.append(
            "- Seeds' variance of the differences: shrunk over the table (limma); that of the "
            "averages is their own."
        )
    if models["float32_difference"].notna().any():
        lines.append(_format_line(models))
    if models["paper"].notna().any():
        lines.append("- paper: the published number of the model in `paper_model`, without spread.")
    return [*lines, *strength_legend(models)]


def _format_line(models: pd.DataFrame) -> str:
    """Legend line of the largest change by the format of the scores."""
    row = models.iloc[int(np.nanargmax(models["float32_difference"].abs()))]
    return (
        f"- Models scored in another format than float32 (D48). It changes a cell by at most "
        f"{abs(row['float32_difference']):.4f} (`{row['backbone']}`, `{row['method']}`, "
        f"{HEADINGS[row['metric']]}), on {int(row['float32_prompts']):,} prompts, and the order of "
        f"at most {models['float32_reordered'].max():.2%} of a cell's pairs of responses."
    )


def averages_line(frame: pd.DataFrame, reference: str = "bt") -> str:
    """One sentence: every method's difference averaged over the table, and what would be found."""
    models = frame[(frame["method"] != "length") & (frame["backbone"] != ALL)]
    averages = frame[(frame["backbone"] == ALL) & frame["difference"].notna()]
    if averages.empty:
        return "No average over the scenarios: not all of them were measured."
    texts = []
    for _, row in averages.iterrows():
        value, low, high = row[["difference", "difference_low", "difference_high"]]
        text = f"{row['method']} - {reference} = {interval(value, low, high, '+.3f')}{arrow(row)}"
        texts.append(text if pd.isna(row["mdd80"]) else f"{text} ({row['mdd80']:.3f})")
    count = models["backbone"].nunique()
    line = (
        f"Averaged over {len(METRICS)} scenarios x {count} backbone{'s' * (count > 1)}: "
        f"{', '.join(texts)}"
    )
    if averages["mdd80"].notna().any():
        line += "; in brackets the smallest true difference that would be found in 80% of runs"
    return f"{line}."
