"""Table 2: RM-Bench accuracies of every method with intervals, and the ablation of lambda."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.estimates import estimate_columns
from ..evaluation.rm_bench import (
    CELLS,
    FILES,
    METRICS,
    domain_masks,
    margin_matrices,
    metric_percent,
    per_prompt,
    read_scores,
)
from ..evaluation.scenarios import score_path
from ..experiment.grid import bsr_weight
from ..experiment.paths import location
from ..experiment.scenarios import RM_BENCH_DOMAINS
from ..frames import read_frame
from ..pivot import Array
from ..ratios import stratified_mean
from ..statistics import seed_mean
from .table5_scenarios import COLUMNS
from .tables import (
    add_comparisons,
    add_holm,
    arrow_legend,
    cell,
    difference_from,
    effective_weight,
    markdown_page,
    paper_value,
    published_name,
    read_published,
    seeds_a_method,
    single_checkpoints,
    strength_legend,
)


def table2(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Compute every method's eight accuracies in percent, then the length baseline (table 2).

    `settings`: preset, rm_bench {backbone, objectives, seeds (a list for each objective),
    paper_model, published_as}, reference, bsr {weight, reduction}, micro_batch, paper_values. The
    result has a row a cell and the columns of table 5 but `seed_variance`: `value` is the mean over
    seeds of `accuracies`, its 95% interval over prompts and seeds; `difference` is against
    `reference` in points, on the same prompts, and paired by seed where both have the same seeds;
    `p_holm` corrects over every comparison of the table, overlapping ones included, which Holm's
    method allows; `n_ties` counts the metric's comparisons of equal rewards, summed over seeds;
    `paper` is the published number at the same lambda, of the method that `published_as` maps to
    (D42). A metric of a missing domain is NaN, with n_prompts 0. Raises `InputError` for a missing
    file, a reference that is not among the objectives, and scores of other responses than the
    benchmark's.
    """
    bench_settings = settings["rm_bench"]
    methods, reference = bench_settings["objectives"], settings["reference"]
    if reference not in methods:
        raise InputError("rm_bench.objectives", f"{methods}", f"also the reference {reference}")
    columns = ["prompt_id", "response_id", "response", "domain", "style", "kind"]
    bench = read_frame(runs / location("benchmark", benchmark="rm_bench"), columns)
    published = read_published(Path(settings["paper_values"]))
    measured = {
        method: [
            read_scores(
                score_path(runs, bench_settings["backbone"], method, seed, "rm_bench"), bench
            )
            for seed in bench_settings["seeds"][method]
        ]
        for method in methods
    }
    rows: list[dict[str, Any]] = []
    for method in methods:
        weight = bsr_weight(method, settings["bsr"]["weight"])
        model_columns = {
            "backbone": bench_settings["backbone"],
            "method": method,
            "n_seeds": len(bench_settings["seeds"][method]),
        }
        model_columns["paper_model"] = bench_settings["paper_model"]
        model_columns["weight_times_batch"] = effective_weight(method, settings)
        paper_method = published_name(method, bench_settings["published_as"])
        reference_rewards = None if method == reference else measured[reference]
        paired = bench_settings["seeds"][method] == bench_settings["seeds"][reference]
        for row in _metric_rows(bench, measured[method], reference_rewards, paired):
            cell_key = (
                "table2",
                bench_settings["paper_model"],
                paper_method,
                weight,
                row["metric"],
            )
            rows.append(row | model_columns | {"paper": paper_value(published, *cell_key)})
    add_comparisons(rows, reference)
    add_holm(rows)
    length = np.array([len(text) for text in bench["response"]], np.float64)
    for row in _metric_rows(bench, [length], None, paired=True):
        rows.append(row | {"backbone": "-", "method": "length"})
    columns = [name for name in COLUMNS if name != "seed_variance"]
    frame = pd.DataFrame(rows).reindex(columns=columns)
    return frame.assign(preset=settings["preset"], n_seeds=frame["n_seeds"].astype("Int64"))


def _metric_rows(
    bench: pd.DataFrame, rewards: Sequence[Array], reference: Sequence[Array] | None, paired: bool
) -> Iterator[dict[str, Any]]:
    """Yield each metric's estimate over S seeds' rewards, and its difference from the reference.

    `paired`: the reference has the same seeds.
    """
    shares = [per_prompt(bench, seed_rewards) for seed_rewards in rewards]
    reference_shares = [per_prompt(bench, seed_rewards) for seed_rewards in reference or []]
    tied = sum(
        (margin_matrices(bench, seed_rewards)[1] == 0).astype(int) for seed_rewards in rewards
    )
    for metric in METRICS:
        masks = domain_masks(metric, shares[0]["domain"])
        values = stratified_mean(
            np.stack([metric_percent(frame, metric) for frame in shares]), masks
        )
        row = estimate_columns(seed_mean(values), values)
        cells = CELLS.get(metric, np.ones((3, 3), bool))
        row |= {"metric": metric, "n_ties": sum(int(tied[mask][:, cells].sum()) for mask in masks)}
        if reference_shares:
            reference_values = stratified_mean(
                np.stack([metric_percent(frame, metric) for frame in reference_shares]), masks
            )
            row["gap"] = difference_from(reference_values, values, paired)
        yield row


def table2_markdown(frame: pd.DataFrame, note: str = "", reference: str = "bt") -> str:
    """Format the tidy table as in the paper: a row a method, a column an accuracy.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    cells = [["method", *METRICS]]
    for method, rows in frame.groupby("method", sort=False):
        by_metric = {row["metric"]: row for _, row in rows.iterrows()}
        cells.append([str(method), *(cell(by_metric[metric], digits=1) for metric in METRICS)])
    models = frame[frame["method"] != "length"]
    caption = (
        f"Preset `{frame['preset'].iloc[0]}`, backbone `{models['backbone'].iloc[0]}`, "
        f"{seeds_a_method(models)}. Each cell is the accuracy in percent, "
        "± half of its 95% interval over prompts and seeds."
    )
    legend = _legend(frame, models, reference)
    return markdown_page("Table 2: RM-Bench", caption, note, cells, legend)


def _legend(frame: pd.DataFrame, models: pd.DataFrame, reference: str) -> list[str]:
    prompts = frame[frame["method"] == "length"].set_index("metric")["n_prompts"]
    missing = [name for name in FILES if not prompts[name]]
    ties = frame[frame["metric"].isin(FILES)].groupby(frame["method"] == "length")["n_ties"].sum()
    lines = [
        arrow_legend(reference, "on the same prompts and seeds"),
        *single_checkpoints(models, reference),
        "- hard: the rejected response has the richer style; normal: both have one style; "
        "easy: the chosen one has the richer. These and overall are means over the four domains.",
        f"- Prompts: {', '.join(f'{int(prompts[name]):,} {name}' for name in FILES)}.",
        f"- A tie counts as wrong: {ties[False]:,} comparisons (`length`: {ties[True]:,}).",
        "- `length`: the reward is the number of characters; its interval is over prompts alone.",
    ]
    if missing:
        lines.append(
            f"- Files are missing for {', '.join(missing)}: without all of "
            f"{', '.join(RM_BENCH_DOMAINS)} no mean over the four domains is given."
        )
    if models["paper"].notna().any():
        lines.append("- paper: the published number of the model in `paper_model`, without spread.")
    return [*lines, *strength_legend(models)]
