"""Table 3: AlpacaEval 2.0, lengths and win rates of the SFT model and of RLOO's policies.

A win rate is a mean over instructions of what the `alpaca_eval` package says of each: the judge's
preference, or the prediction of the package's GLM with the difference in length set to nothing. So
seeds and instructions are resampled as in every other table.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .alpaca_eval import package, quiet
from .errors import InputError
from .files import read_frame
from .statistics import holm, paired_difference, seed_mean
from .tables import (
    cell,
    difference_columns,
    estimate_columns,
    grid,
    paper_value,
    read_published,
)

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
# The weights of the package's GLM, by the names that it gives them.
GLM = ["np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"]
GAMED = ["index", "model", "preference", "std_delta_len", "instruction_difficulty"]


def lengths(responses: pd.Series) -> Array:
    """Count the characters of each response (N,), as the package's leaderboard does."""
    return np.asarray(responses.str.len(), np.float64)


def wins(preferences: pd.Series) -> Array:
    """Give each instruction (N,) its part of the win rate in percent: P(policy is better).

    Preferences are in [1, 2]. The mean is the package's `win_rate`, the standard deviation over
    the root of N its `standard_error`.
    """
    return 100 * (np.asarray(preferences, np.float64) - 1)


def length_controlled_wins(annotations: pd.DataFrame, gamed: Path) -> Array:
    """Give each instruction (N,) its part of the package's length-controlled win rate, in percent.

    `annotations` are those of one policy and seed, in the order of the instructions, with
    output_1, output_2 and preference; `gamed` is the package's df_gamed.csv, read here instead of
    downloaded. The mean is the package's `length_controlled_winrate`. An entry is the GLM's
    prediction with the instruction's own influence on the GLM (see `fit_influence`): predictions
    alone hardly vary, so that their spread, which the package gives as the standard error, would
    leave out that the GLM is fitted. NaN where all differences in length are equal: the GLM has no
    use of them then. Raises `InputError` when `gamed` is that of other instructions.
    """
    known = pd.read_csv(gamed) if gamed.is_file() else pd.DataFrame()
    if missing := [column for column in GAMED if column not in known]:
        raise InputError(gamed, f"columns {list(known)}", f"also the columns {missing}")
    # The package finds an instruction's difficulty by the number of the row it first stands in.
    if known.drop_duplicates("index").index.tolist() != list(range(len(annotations))):
        found = f"{known['index'].nunique()} instructions, or not all of them first"
        fix = "make df_gamed.csv and the instructions again, from one source"
        raise InputError(gamed, found, f"the {len(annotations)} of the annotations, in order", fix)
    columns = annotations[["output_1", "output_2", "preference"]].reset_index(drop=True)
    shorter = lengths(columns["output_1"]) - lengths(columns["output_2"])
    if np.ptp(shorter) == 0:
        return np.full(len(columns), np.nan)
    columns = columns.assign(generator_1="baseline", generator_2="policy")
    with _without_download(gamed) as get_metrics, TemporaryDirectory() as folder:
        get_metrics(columns, save_weights_dir=folder, is_warn_extreme_changes=False)
        (saved,) = Path(folder).rglob("*.csv")
        weights = pd.read_csv(saved, index_col=0).loc["policy", GLM].to_numpy(np.float64)
    ones, difficulty = np.ones(len(columns)), known["instruction_difficulty"].to_numpy(np.float64)
    own = np.column_stack([np.tanh(shorter / shorter.std(ddof=1)), difficulty[: len(ones)], ones])
    regular = np.column_stack([np.tanh(known["std_delta_len"]), difficulty, 0 * difficulty])
    predicted = columns["glm_preference"].to_numpy(np.float64)
    influence = fit_influence(own, columns["preference"].to_numpy(float) - 1, regular, weights)
    return 100 * (predicted + influence)


def fit_influence(own: Array, outcomes: Array, regular: Array, weights: Array) -> Array:
    """Give each instruction's influence (N,) on the mean prediction through the GLM's weights.

    `own` (N, 3) are the features (tanh of the difference in length, difficulty, constant) of what
    was annotated with `outcomes` (N,) in [0, 1], `regular` (G, 3) those of the gamed baselines,
    which weigh 0.1 each in the fit, `weights` (3,) what was fitted. The prediction is at equal
    length. With H the information and g the gradient of the summed predictions this is g' H^-1 x_i
    (y_i - p_i), the first order of what the mean over N would move by, times N, if instruction i
    counted once more; less its mean, which the penalty leaves. Its mean is 0.
    """

    def logistic(features: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-np.einsum("nk,k->n", features, weights))))

    everything = np.concatenate([own, regular])
    counts = np.repeat([1.0, 0.1], [len(own), len(regular)])
    p = logistic(everything)
    # Not `@`: the last bits of a BLAS product depend on the number of threads.
    information = np.einsum("ni,nj,n->ij", everything, everything, counts * p * (1 - p))
    even = own * [0.0, 1.0, 1.0]
    q = logistic(even)
    direction = np.linalg.pinv(information) @ np.einsum("nk,n->k", even, q * (1 - q))
    influence = np.einsum("nk,k->n", own, direction) * (outcomes - p[: len(own)])
    return np.asarray(influence - influence.mean())


@contextmanager
def _without_download(gamed: Path) -> Iterator[Callable[..., dict[str, float]]]:
    """Yield the package's GLM, quiet, with a file in place of what it fetches from the hub."""
    metrics = package().metrics
    before = metrics.glm_winrate.hf_hub_download
    metrics.glm_winrate.hf_hub_download = lambda **_: str(gamed)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arguments that scikit-learn is about to drop
            yield metrics.get_length_controlled_winrate
    finally:
        metrics.glm_winrate.hf_hub_download = before


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


def table3_sources(runs: Path, settings: Mapping[str, Any]) -> list[Path]:
    """List every file that table 3 is computed from."""
    about = settings["alpaca_eval"]
    answers = [path for paths in files_of(runs, about).values() for path in paths]
    judged = [annotations_path(runs), gamed_path(runs)] if about["judge"] else []
    return [*answers, *judged, Path(settings["paper_values"])]


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
                    path, "answers to other instructions, or in another order",
                    f"those of {files['sft'][0]}", "let the policy answer again",
                )  # fmt: skip
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
    compared = [row for row in rows if np.isfinite(row.get("p_value", np.nan))]
    for row, p in zip(compared, holm([row["p_value"] for row in compared]), strict=True):
        row["p_holm"] = p
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
    lines = [
        "# Table 3: AlpacaEval 2.0",
        "",
        f"Preset `{frame['preset'].iloc[0]}`, run `{frame['run'].iloc[0]}`, "
        f"{int(measured['n_prompts'].max()):,} instructions, "
        f"{int(measured['n_seeds'].max())} seeds a policy and one SFT model. Each cell is a mean, "
        "± half of its 95% bootstrap interval over instructions and seeds.",
    ]
    lines += ["", note] if note else []
    return "\n".join([*lines, "", *grid(cells), "", *_legend(frame, measured)]) + "\n"


def _legend(frame: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    lines = [
        f"- ↑ ↓: above or below `{REFERENCE}` on the same instructions and seeds, "
        "p < 0.05 after Holm's correction over every comparison of the table.",
    ]
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
