"""Table 3: AlpacaEval 2.0, lengths and win rates of the SFT model and of RLOO's policies.

A win rate is a mean over instructions: of the judge's preferences, or of the predictions of the
`alpaca_eval` package's GLM with the difference in length set to zero. Its interval is therefore
that of every other table, over seeds and instructions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..evaluation.alpaca_eval.length_controlled import length_controlled_wins, lengths
from ..evaluation.alpaca_eval.win_rates import (
    METHODS,
    annotations_for,
    answer_files,
    read_answers,
    wins,
)
from ..evaluation.estimates import estimate_columns
from ..experiment.paths import location
from ..frames import read_frame
from ..pivot import Array
from ..ratios import relative_change
from ..statistics import paired_difference, seed_mean
from .tables import (
    COMPARISON,
    PAPER,
    add_comparisons,
    add_holm,
    arrow_legend,
    cell,
    markdown_page,
    paper_value,
    read_published,
)

REFERENCE = "rloo-bt"
HEADINGS = {
    "avg_length_chars": "length, characters",
    "length_change_from_sft": "change from SFT, %",
    "lc_win_rate": "LC win rate, %",
    "win_rate": "win rate, %",
}
DIGITS = {"avg_length_chars": 1, "length_change_from_sft": 1, "lc_win_rate": 2, "win_rate": 2}
COLUMNS = [
    *("preset", "run", "method", "metric", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", "n_prompts", "n_undefined", "n_empty", "n_unfinished"),
    *(*COMPARISON, "annotator", *PAPER),
]


def table3(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Compute lengths and win rates of SFT and of RLOO with each reward model (table 3, D44).

    `settings`: preset, alpaca_eval {run, seeds, judge, paper_model}, bsr {weight},
    paper_values. A row a method and metric: `avg_length_chars` in characters,
    `length_change_from_sft`, `lc_win_rate` and `win_rate` in percent, with 95% intervals over seeds
    and instructions; `difference` is against rloo-bt, paired by both, the one run of SFT with
    every seed, with the columns `DIFFERENCE` and, against the paper's difference, `AGAINST_PAPER`
    of `evaluation.estimates`; `p_holm` corrects over every comparison of the table. Win rates are
    NaN without a judge. `n_empty` and `n_unfinished` count answers over all seeds. Raises
    `InputError` for a missing file, for answers to other instructions and for annotations of other
    answers.
    """
    measured = measured_values(runs, settings)
    rows = _metric_rows(measured.values, settings)
    for row in rows:
        frames = measured.answers[row["method"]]
        row["n_empty"] = sum(int((frame["response"] == "").sum()) for frame in frames)
        row["n_unfinished"] = sum(int((~frame["finished"]).sum()) for frame in frames)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    frame = frame.assign(n_seeds=frame["n_seeds"].astype("Int64"), preset=settings["preset"])
    return frame.assign(run=settings["alpaca_eval"]["run"], annotator=measured.annotator)


class Measured(NamedTuple):
    """Values (seeds, instructions) by method and metric, who judged, and each method's answers."""

    values: dict[tuple[str, str], Array]
    annotator: str | None
    answers: dict[str, list[pd.DataFrame]]


def measured_values(runs: Path, settings: Mapping[str, Any]) -> Measured:
    """Measure lengths and win rates of every answer; arguments and errors as in `table3`."""
    judged_run = settings["alpaca_eval"]
    files = answer_files(runs, judged_run)
    answers = read_answers(files)
    values: dict[tuple[str, str], Array] = {}
    for method, frames in answers.items():
        values[method, "avg_length_chars"] = np.stack([lengths(f["response"]) for f in frames])
        if method != "sft":
            policy_lengths, sft_lengths = (
                values[name, "avg_length_chars"] for name in (method, "sft")
            )
            values[method, "length_change_from_sft"] = relative_change(
                policy_lengths, sft_lengths[0]
            )
    annotator = None
    if judged_run["judge"]:
        columns = ["policy", "seed", "row", "example_id", "output_1", "output_2", "preference"]
        path, gamed = runs / location("annotations"), runs / location("gamed_baselines")
        annotations = read_frame(path, [*columns, "annotator"])
        annotator = annotations["annotator"].iloc[0]
        for method, frames in answers.items():
            annotations_by_seed = [
                annotations_for(annotations, file, frame, path)
                for file, frame in zip(files[method], frames, strict=True)
            ]
            values[method, "win_rate"] = np.stack(
                [wins(seed_annotations["preference"]) for seed_annotations in annotations_by_seed]
            )
            values[method, "lc_win_rate"] = np.stack(
                [
                    length_controlled_wins(seed_annotations, gamed)
                    for seed_annotations in annotations_by_seed
                ]
            )
    return Measured(values, annotator, answers)


def _metric_rows(
    values: Mapping[tuple[str, str], Array], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Compute a row a method and metric; one that was not measured has only the paper's number."""
    model = settings["alpaca_eval"]["paper_model"]
    published = read_published(Path(settings["paper_values"]))
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        weight = settings["bsr"]["weight"] if method == "rloo-bt-bsr" else None
        for metric in HEADINGS:
            if (method, metric) == ("sft", "length_change_from_sft"):
                continue
            row = {"method": method, "metric": metric, "paper_model": model}
            row["paper"] = paper_value(published, "table3", model, method, weight, metric)
            measured = values.get((method, metric))
            if measured is not None:
                row |= estimate_columns(seed_mean(measured), measured) | {"n_seeds": len(measured)}
                if method != REFERENCE:
                    reference = values[REFERENCE, metric]
                    repeated = np.broadcast_to(measured, reference.shape)
                    row["gap"] = paired_difference(repeated, reference)
            rows.append(row)
    # The paper publishes lengths; the relative change follows by division.
    printed = {row["method"]: row["paper"] for row in rows if row["metric"] == "avg_length_chars"}
    for row in rows:
        if row["metric"] == "length_change_from_sft":
            row["paper"] = 100 * (printed[row["method"]] / printed["sft"] - 1)
    add_comparisons(rows, REFERENCE)
    add_holm(rows)
    return rows


def table3_markdown(frame: pd.DataFrame, note: str = "") -> str:
    """Format the tidy table as in the paper: a row a method, columns for length and win rates.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    cells = [["method", *HEADINGS.values()]]
    for method, rows in frame.groupby("method", sort=False):
        by_metric = {row["metric"]: row for _, row in rows.iterrows()}
        cells.append(
            [str(method)]
            + [cell(by_metric[m], DIGITS[m]) if m in by_metric else "" for m in HEADINGS]
        )
    measured = frame[frame["metric"] == "avg_length_chars"].set_index("method")
    caption = (
        f"Preset `{frame['preset'].iloc[0]}`, run `{frame['run'].iloc[0]}`, "
        f"{int(measured['n_prompts'].max()):,} instructions, "
        f"{int(measured['n_seeds'].max())} seeds a policy and one SFT model. Each cell is a mean, "
        "± half of its 95% interval over instructions and seeds."
    )
    return markdown_page("Table 3: AlpacaEval 2.0", caption, note, cells, _legend(frame, measured))


def _legend(frame: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    lines = [arrow_legend(REFERENCE, "on the same instructions and seeds")]
    annotator = frame["annotator"].iloc[0]
    if pd.isna(annotator):
        line = "- Without a judge (`alpaca_eval.judge` is null) win rates are not measured."
        lines.append(line)
    else:
        lines.append(
            f"- Judge: `{annotator}`. A win rate is the mean probability that an answer beats the "
            "baseline's; LC: at equal length, by the GLM of the package alpaca_eval."
        )
    for column, kind in (
        ("n_empty", "empty, which are judged like the others"),
        ("n_unfinished", "truncated at the token limit"),
    ):
        counts = ", ".join(f"`{method}` {count:,}" for method, count in measured[column].items())
        lines.append(f"- Answers that are {kind}, over all seeds: {counts}.")
    if frame["paper"].notna().any():
        lines.append(
            "- paper: the published number of the policy `paper_model`, without spread; its win "
            "rates are of a judge that is shut down (D44): compare differences, not levels."
        )
    return lines
