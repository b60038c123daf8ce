"""Table 3: AlpacaEval 2.0, lengths and win rates of the SFT model and of RLOO's policies.

A win rate is a mean over instructions of what the `alpaca_eval` package says of each: the judge's
preference, or the prediction of the package's GLM with the difference in length set to nothing. So
seeds and instructions are resampled as in every other table.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.alpaca_eval.length_controlled import length_controlled_wins, lengths
from ..evaluation.alpaca_eval.win_rates import METHODS, annotations_of, files_of, read_answers, wins
from ..evaluation.estimates import difference_columns, estimate_columns
from ..experiment.paths import location
from ..frames import read_frame
from ..statistics import Array, paired_difference, relative_change, seed_mean
from .tables import arrows, cell, correct, document, paper_value, read_published

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
    *("difference", "difference_low", "difference_high", "p_value", "p_holm"),
    *("annotator", "paper", "paper_model"),
]


def table3(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Measure lengths and win rates of SFT and of RLOO with each reward model (table 3, D44).

    `settings`: preset, alpaca_eval {run, seeds, judge, paper_model}, bsr {weight}, resamples, seed,
    paper_values. A row a method and metric: `avg_length_chars` in characters,
    `length_change_from_sft`, `lc_win_rate` and `win_rate` in percent, with 95% intervals over seeds
    and instructions; `difference` is against rloo-bt on the same ones, where SFT's one run stands
    against every seed; `p_holm` corrects over every comparison of the table. Win rates are NaN
    without a judge. `n_empty` and `n_unfinished` count answers over all seeds. Raises `InputError`
    for a missing file, for answers to other instructions and for annotations of other answers.
    """
    about = settings["alpaca_eval"]
    files = files_of(runs, about)
    answers = read_answers(files)
    values: dict[tuple[str, str], Array] = {}
    for method, frames in answers.items():
        values[method, "avg_length_chars"] = np.stack([lengths(f["response"]) for f in frames])
        if method != "sft":
            own, base = (values[name, "avg_length_chars"] for name in (method, "sft"))
            values[method, "length_change_from_sft"] = relative_change(own, base[0])
    annotator = None
    if about["judge"]:
        columns = ["policy", "seed", "row", "example_id", "output_1", "output_2", "preference"]
        path, gamed = runs / location("annotations"), runs / location("gamed_baselines")
        annotations = read_frame(path, [*columns, "annotator"])
        annotator = annotations["annotator"].iloc[0]
        for method, frames in answers.items():
            judged = [
                annotations_of(annotations, file, frame, path)
                for file, frame in zip(files[method], frames, strict=True)
            ]
            values[method, "win_rate"] = np.stack([wins(each["preference"]) for each in judged])
            values[method, "lc_win_rate"] = np.stack(
                [length_controlled_wins(each, gamed) for each in judged]
            )
    rows = _metric_rows(values, settings)
    for row in rows:
        frames = answers[row["method"]]
        row["n_empty"] = sum(int((frame["response"] == "").sum()) for frame in frames)
        row["n_unfinished"] = sum(int((~frame["finished"]).sum()) for frame in frames)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    frame = frame.assign(n_seeds=frame["n_seeds"].astype("Int64"), preset=settings["preset"])
    return frame.assign(run=about["run"], annotator=annotator)


def _metric_rows(
    values: Mapping[tuple[str, str], Array], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Make a row per method and metric; one that was not measured has only the paper's number."""
    sampling = {"seed": settings["seed"], "resamples": settings["resamples"]}
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
            own = values.get((method, metric))
            if own is not None:
                row |= estimate_columns(seed_mean(own, **sampling), own) | {"n_seeds": len(own)}
                if method != REFERENCE:
                    against = values[REFERENCE, metric]
                    repeated = np.broadcast_to(own, against.shape)
                    row |= difference_columns(paired_difference(repeated, against, **sampling))
            rows.append(row)
    # The paper prints lengths; the change is theirs by division.
    printed = {row["method"]: row["paper"] for row in rows if row["metric"] == "avg_length_chars"}
    for row in rows:
        if row["metric"] == "length_change_from_sft":
            row["paper"] = 100 * (printed[row["method"]] / printed["sft"] - 1)
    correct(rows)
    return rows


def table3_markdown(frame: pd.DataFrame, note: str = "") -> str:
    """Lay the tidy table out as the paper does: a row a method, length and win rates across.

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
    about = (
        f"Preset `{frame['preset'].iloc[0]}`, run `{frame['run'].iloc[0]}`, "
        f"{int(measured['n_prompts'].max()):,} instructions, "
        f"{int(measured['n_seeds'].max())} seeds a policy and one SFT model. Each cell is a mean, "
        "± half of its 95% bootstrap interval over instructions and seeds."
    )
    return document("Table 3: AlpacaEval 2.0", about, note, cells, _legend(frame, measured))


def _legend(frame: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    lines = [arrows(REFERENCE, "on the same instructions and seeds")]
    annotator = frame["annotator"].iloc[0]
    if pd.isna(annotator):
        found = "- No judge was asked (`alpaca_eval.judge` is null): win rates are not measured."
        lines.append(found)
    else:
        lines.append(
            f"- Judge: `{annotator}`. A win rate is the mean probability that an answer beats the "
            "baseline's; LC: at equal length, by the GLM of the package alpaca_eval."
        )
    for column, what in (
        ("n_empty", "empty, which are judged as they are"),
        ("n_unfinished", "cut at the limit of tokens"),
    ):
        counts = ", ".join(f"`{method}` {count:,}" for method, count in measured[column].items())
        lines.append(f"- Answers that are {what}, over all seeds: {counts}.")
    if frame["paper"].notna().any():
        lines.append("- paper: the published number of the policy `paper_model`, without spread.")
    return lines
