"""An evaluation as text for a terminal, and as JSON for programs."""

import json
from pathlib import Path

import pandas as pd

from ..evaluation.set_metrics import RM_BENCH
from ..experiment.paths import location
from ..progress import aligned
from .evaluation_rows import SHARES, STATISTICS, brief, counted, numbers, short_names, text_of

HEADINGS = STATISTICS | {
    "accuracy_drop": "accuracy lost, %",
    "flips": "preferences flipped, %",
    "changed": "texts changed, %",
}
PUBLISHED = 8  # rows of others that are shown


def as_json(frame: pd.DataFrame) -> str:
    """Format the frame of `evaluate` as a JSON list of rows; missing values are null."""
    rows = json.loads(str(frame.to_json(orient="records", double_precision=10)))
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_text(frame: pd.DataFrame) -> str:
    """Format the frame of `evaluate` as text: a block a set, then how to read it."""
    shown = short_names(frame)
    frame = frame.assign(
        label=frame["name"].map(shown), against=frame["against"].map(lambda n: shown.get(n, n))
    )
    lines: list[str] = []
    for _, of_set in frame.groupby("set", sort=False):
        lines += [*_set_lines(of_set), ""]
    return "\n".join([*lines, *_notes(frame), *counted(frame)])


def _set_lines(of_set: pd.DataFrame) -> list[str]:
    """Lines of one set: its title, values, differences, transformations."""
    lines = [brief(str(of_set["title"].iloc[0])), ""]
    others = of_set["name"][of_set["kind"] == "published"].drop_duplicates()[PUBLISHED:]
    values = numbers(of_set, "model", "baseline", "reference", "published")
    lines += _table(values[~values["name"].isin(others)])
    gaps = numbers(of_set, "difference")
    if len(gaps):
        label = gaps["label"] + " - " + gaps["against"]
        lines += ["", "differences, paired by prompt", *_table(gaps.assign(label=label))]
    changed = of_set[of_set["transformation"] != ""]
    for name, of_model in changed.groupby("label", sort=False):
        lines += ["", f"{name}, under changes that keep the meaning"]
        lines += _table(of_model.assign(label=of_model["transformation"]))
    return lines


def _table(rows: pd.DataFrame) -> list[str]:
    """Lines of a text table: a row a label, a column a statistic.

    Of a difference the smallest true one that is found with 80% stands in brackets.
    """
    listed = sorted(set(rows["statistic"]), key=list(HEADINGS).index)
    cells = [["", *(HEADINGS[name] for name in listed)]]
    for label, of_label in rows.groupby("label", sort=False):
        texts = {row["statistic"]: _cell(row) for _, row in of_label.iterrows()}
        cells.append([str(label), *(texts.get(name, "-") for name in listed)])
    return aligned(cells, left=len(cells[0]))


def _cell(row: pd.Series) -> str:
    text = text_of(row)
    if row["kind"] != "difference" or pd.isna(row["mdd80"]):
        return text
    return f"{text} ({row['mdd80']:.{1 if row['set'] == RM_BENCH else 3}f})"


def _notes(frame: pd.DataFrame) -> list[str]:
    """How to read the tables; only what is in them."""
    kinds, preset = set(frame["kind"]), str(frame["preset"].iloc[0])
    lines = [
        "± half of a 95% interval over prompts; `length` is the number of characters as reward."
    ]
    if "reference" in kinds:
        lines.append(
            "Below it stand the preset's own models: means over their seeds, intervals over both."
        )
    if "published" in kinds:
        sources = "; ".join(dict.fromkeys(frame["source"][frame["kind"] == "published"]))
        lines.append(f"Without an interval: as published by others ({sources}).")
    gaps = frame[frame["kind"] == "difference"]
    if gaps["value"].notna().any():
        lines += [
            "Differences: in brackets the smallest true one that is found in 80% of runs. They are",
            "of these checkpoints, not of their training, and not corrected for their number.",
        ]
    alone = gaps[
        gaps["value"].isna() & gaps["against"].isin(frame[frame["kind"] == "reference"]["name"])
    ]
    for contains, reason in (
        (True, "the model is one of its seeds."),
        (
            False,
            "score files are missing; dvc pull, or "
            f"snakemake --configfile config/{preset}.yaml -- scores",
        ),
    ):
        of_reason = alone[alone["contains_model"] == contains]["against"].unique()
        if len(of_reason):
            lines.append(f"No difference from {', '.join(of_reason)}: {reason}")
    if preset and RM_BENCH not in set(frame["set"]):
        target = Path("runs") / preset / location("benchmark", benchmark=RM_BENCH)
        command = f"snakemake --configfile config/{preset}.yaml -- {target}"
        lines.append(f"RM-Bench: not measured; to make it: {command}")
    if frame["statistic"].isin(SHARES).any():
        lines.append("The changes are described in docs/TRANSFORMATIONS.md.")
    return lines
