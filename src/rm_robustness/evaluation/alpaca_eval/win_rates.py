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
from numpy.typing import NDArray

from ...errors import InputError
from ...frames import read_frame
from ...results.tables import (
    arrows,
    cell,
    correct,
    difference_columns,
    document,
    estimate_columns,
    paper_value,
    read_published,
)
from ...statistics import paired_difference, seed_mean
from .length_controlled import length_controlled_wins, lengths

Array = NDArray[np.float64]

METHODS = ("sft", "rloo-bt", "rloo-bt-bsr")
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


def wins(preferences: pd.Series) -> Array:
    """Give each instruction (N,) its part of the win rate in percent: P(policy is better).

    Preferences are in [1, 2]. The mean is the package's `win_rate`, the standard deviation over
    the root of N its `standard_error`.
    """
    return 100 * (np.asarray(preferences, np.float64) - 1)


def change_from(values: Array, base: Array) -> Array:
    """Rewrite the change of the mean from `base` (N,) to `values` (S, N), in percent, per entry.

    With m and b the means, the mean of a row is 100 (m / b - 1) to rounding; each entry adds its
    influence on that ratio, 100 (v - m / b v_base) / b, so that a bootstrap over instructions
    moves both means together.
    """
    ratio = values.mean(axis=1, keepdims=True) / base.mean()
    return np.asarray(100 * (ratio - 1 + (values - ratio * base) / base.mean()))


def output_path(runs: Path, policy: str, seed: int) -> Path:
    """Say where a policy's answers lie under a run folder."""
    return runs / "alpaca_eval" / "outputs" / policy / f"seed-{seed}.parquet"


def annotations_path(runs: Path) -> Path:
    """Say where the judge's annotations lie under a run folder."""
    return runs / "alpaca_eval" / "annotations.parquet"


def gamed_path(runs: Path) -> Path:
    """Say where the gamed baselines of the package's GLM lie under a run folder."""
    return runs / "raw" / "alpaca_eval" / "df_gamed.csv"


def files_of(runs: Path, about: Mapping[str, Any]) -> dict[str, list[Path]]:
    """List the answers of each method, a file a seed; SFT has one."""
    named = {method: f"{about['run']}-{method.removeprefix('rloo-')}" for method in METHODS[1:]}
    return {"sft": [output_path(runs, "sft", 0)]} | {
        method: [output_path(runs, policy, seed) for seed in about["seeds"]]
        for method, policy in named.items()
    }


def table3(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Measure lengths and win rates of SFT and of RLOO with each reward model (SPEC 5, D44).

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
            values[method, "length_change_from_sft"] = change_from(own, base[0])
    annotator = None
    if about["judge"]:
        columns = ["policy", "seed", "row", "example_id", "output_1", "output_2", "preference"]
        path = annotations_path(runs)
        annotations = read_frame(path, [*columns, "annotator"])
        annotator = annotations["annotator"].iloc[0]
        for method, frames in answers.items():
            judged = [
                annotations_of(annotations, file, frame, path)
                for file, frame in zip(files[method], frames, strict=True)
            ]
            values[method, "win_rate"] = np.stack([wins(each["preference"]) for each in judged])
            values[method, "lc_win_rate"] = np.stack(
                [length_controlled_wins(each, gamed_path(runs)) for each in judged]
            )
    rows = _rows(values, settings)
    for row in rows:
        frames = answers[row["method"]]
        row["n_empty"] = sum(int((frame["response"] == "").sum()) for frame in frames)
        row["n_unfinished"] = sum(int((~frame["finished"]).sum()) for frame in frames)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    frame = frame.assign(n_seeds=frame["n_seeds"].astype("Int64"), preset=settings["preset"])
    return frame.assign(run=about["run"], annotator=annotator)


def read_answers(files: Mapping[str, list[Path]]) -> dict[str, list[pd.DataFrame]]:
    """Read every method's answers, a frame a seed; all must be to the instructions of the first."""
    answers = {
        method: [read_frame(path, ["example_id", "response", "finished"]) for path in paths]
        for method, paths in files.items()
    }
    first = answers["sft"][0]["example_id"].tolist()
    for method, frames in answers.items():
        for path, frame in zip(files[method], frames, strict=True):
            if frame["example_id"].tolist() != first:
                raise InputError(
                    path,
                    "answers to other instructions, or in another order",
                    f"those of {files['sft'][0]}",
                    "let the policy answer again",
                )
    return answers


def annotations_of(
    annotations: pd.DataFrame, file: Path, answers: pd.DataFrame, path: Path
) -> pd.DataFrame:
    """Pick the annotations of the answers in `file`, in the order of the instructions.

    Raises `InputError`, naming the annotations' file `path`, when they are of other answers.
    """
    policy, seed = file.parent.name, int(file.stem.removeprefix("seed-"))
    own = annotations[(annotations["policy"] == policy) & (annotations["seed"] == seed)]
    own = own.sort_values("row")
    same = (
        own["example_id"].tolist() == answers["example_id"].tolist()
        and own["output_2"].tolist() == answers["response"].tolist()
    )
    if not same:
        found = f"{len(own)} annotations of {policy}, seed {seed}, not of these answers"
        raise InputError(
            path, found, f"one for each answer in {file}", "let the judge compare again"
        )
    return own


def _rows(
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
