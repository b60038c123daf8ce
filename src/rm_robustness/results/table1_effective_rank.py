"""Table 1: effective rank of the hidden states, on the training set and on RM-Bench (D43).

The effective rank grows with the number of rows, so both sets are compared at one number N, the
largest that both have; rows for smaller N show how much the difference depends on N.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.estimates import estimate_columns
from ..experiment.grid import bsr_weight
from ..experiment.paths import location
from ..frames import read_frame
from ..statistics import seed_mean
from .tables import (
    COMPARISON,
    PAPER,
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
)

METRICS = {"erank_train": "train set", "erank_eval": "RM-Bench", "erank_delta": "difference"}
COLUMNS = [
    *("preset", "backbone", "method", "metric", "n", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", *COMPARISON, "weight_times_batch", "train_set", *PAPER),
]


def table1(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Compute effective ranks on both sets and their difference, at every n (paper, table 1; D43).

    `settings`: preset, ranks {objectives}, rm_bench {backbone, seeds (a list for each objective),
    paper_model, published_as}, reference, bsr {weight, reduction}, micro_batch, train_set (the file
    with the models' training pairs), paper_values. The rows of the largest n are the paper's table.
    `value` is the mean over seeds, its 95% interval over seeds alone (NaN with one seed);
    erank_delta is RM-Bench minus train of the same model; `difference` is against `reference`,
    paired by seed where both have the same seeds, with the columns `DIFFERENCE` and, against the
    paper's difference, `AGAINST_PAPER` of `evaluation.estimates`; `p_holm` corrects over the
    comparisons at the largest n, the only rows with the paper's number. Raises `InputError` for a
    missing file, files with other n, and a reference that is not among the objectives.
    """
    bench, methods = settings["rm_bench"], settings["ranks"]["objectives"]
    reference = settings["reference"]
    if reference not in methods:
        raise InputError("ranks.objectives", f"{methods}", f"also the reference {reference}")
    published = read_published(Path(settings["paper_values"]))
    ranks = read_ranks(runs, bench["backbone"], {name: bench["seeds"][name] for name in methods})
    counts = sorted(ranks["n"].unique(), reverse=True)
    rows: list[dict[str, Any]] = []
    for n in counts:
        for method in methods:
            weight = bsr_weight(method, settings["bsr"]["weight"])
            paper_method = published_name(method, bench["published_as"])
            model_columns = {"backbone": bench["backbone"], "method": method, "n": n}
            model_columns["paper_model"] = bench["paper_model"]
            model_columns["n_seeds"] = len(bench["seeds"][method])
            model_columns["weight_times_batch"] = effective_weight(method, settings)
            for row in _metric_rows(ranks[ranks["n"] == n], method, settings):
                cell_key = ("table1", bench["paper_model"], paper_method, weight, row["metric"])
                row["paper"] = paper_value(published, *cell_key) if n == counts[0] else np.nan
                rows.append(row | model_columns)
    add_comparisons(rows, reference)
    add_holm([row for row in rows if row["n"] == counts[0]])
    names = {"preset": settings["preset"], "train_set": settings["train_set"]}
    return pd.DataFrame(rows).reindex(columns=COLUMNS).assign(**names)


def read_ranks(
    runs: Path, backbone: str, seeds_by_method: Mapping[str, Sequence[int]]
) -> pd.DataFrame:
    """Read all files as a frame with a row a method, seed and n, and a column a metric."""
    parts: list[pd.DataFrame] = []
    for method, seeds in seeds_by_method.items():
        for seed in seeds:
            path = runs / location("ranks", backbone=backbone, objective=method, seed=seed)
            frame = read_frame(path, ["set", "n", "effective_rank"])
            both = frame.pivot(index="n", columns="set", values="effective_rank")
            both = both.reindex(columns=["train", "rm_bench"])
            counts = both.dropna().index.tolist()
            expected = parts[0]["n"].tolist() if parts else both.index.tolist()
            if not counts or counts != expected:
                raise InputError(
                    path, f"both sets at n of {counts}", f"{expected}", "measure the ranks again"
                )
            part = pd.DataFrame({"erank_train": both["train"], "erank_eval": both["rm_bench"]})
            part["erank_delta"] = part["erank_eval"] - part["erank_train"]
            parts.append(part.reset_index().assign(method=method, seed=seed))
    return pd.concat(parts, ignore_index=True)


def _metric_rows(
    ranks: pd.DataFrame, method: str, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield each metric's estimate over seeds, and its difference from the reference."""
    by_method = {name: rows for name, rows in ranks.groupby("method")}
    seeds, base = settings["rm_bench"]["seeds"], settings["reference"]
    paired = seeds[method] == seeds[base]
    for metric in METRICS:
        values = by_method[method][[metric]].to_numpy(np.float64)
        row = estimate_columns(seed_mean(values), values) | {"metric": metric}
        if method != base:
            reference = by_method[base][[metric]].to_numpy(np.float64)
            row["gap"] = difference_from(reference, values, paired)
        yield row


def table1_markdown(frame: pd.DataFrame, note: str = "", reference: str = "bt") -> str:
    """Format the rows of the largest n as in the paper: a row a method, a column a set.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    n = int(frame["n"].max())
    largest = frame[frame["n"] == n]
    cells = [["method", *METRICS.values()]]
    for method, rows in largest.groupby("method", sort=False):
        by_metric = {row["metric"]: row for _, row in rows.iterrows()}
        cells.append([str(method), *(cell(by_metric[metric], digits=2) for metric in METRICS)])
    caption = (
        f"Preset `{frame['preset'].iloc[0]}`, backbone `{frame['backbone'].iloc[0]}`, "
        f"{seeds_a_method(largest)}, {n:,} responses of each set; the train set is "
        f"`{frame['train_set'].iloc[0]}`. Each cell is the mean over seeds, "
        "± half of its 95% interval over seeds."
    )
    legend = [
        arrow_legend(reference, "of the same seeds"),
        *single_checkpoints(largest, reference),
        "- The effective rank grows with the number of responses: the csv has it at "
        f"{', '.join(f'{int(m):,}' for m in sorted(frame['n'].unique()))}.",
    ]
    if largest["paper"].notna().any():
        legend.append("- paper: the published number of the model in `paper_model`.")
    title = "Table 1: effective rank of the hidden states"
    return markdown_page(title, caption, note, cells, legend)
