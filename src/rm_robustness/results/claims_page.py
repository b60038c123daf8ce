"""Markdown page of the verdicts on the paper's claims."""

from collections.abc import Sequence

import pandas as pd

from .claim_parts import BESIDE, NEEDED, VETO
from .claims import ALL, RULE_OF_ALL
from .tables import markdown_table
from .verdicts import MARKS, NOT_MEASURED, shown

TEXTS = ("role", "scope", "could_have_found", "note")  # empty ones come back from a csv as nan


def claims_markdown(frame: pd.DataFrame, note: str = "") -> str:
    """Format the verdicts: the models that they are about, a summary table, then each claim.

    `note` is the preset's sentence about what its numbers can and cannot show.
    """
    preset = frame["preset"].iloc[0]
    scope = f"These verdicts are about the models of preset `{preset}`, "
    scope += "not about the paper's models."
    models = frame.dropna(subset=["paper_model"]).drop_duplicates("subject")
    if len(models):
        stand_ins = (f"`{s}` for {m}" for s, m in models[["subject", "paper_model"]].to_numpy())
        scope += f" Corresponding models: {', '.join(stand_ins)}."
    texts = {name: frame[name].astype(object).fillna("") for name in TEXTS}
    claims = [rows for _, rows in frame.assign(**texts).groupby("claim", sort=False)]
    heading = ["claim", "statement", "paper (its own tables)", "here", "could have found"]
    heading += [_heading(preset), "artifact"]
    lines = [
        f"# The paper's claims in preset `{preset}`",
        "",
        *([note, ""] if note else []),
        scope,
        "",
        *markdown_table([heading, *(_summary(rows) for rows in claims)]),
        "",
        "- here: the value with its 95% interval; for several parts, the number of each verdict.",
        "- could have found: of the first part that left the claim inconclusive, how far beyond "
        "the claim's boundary a true value is found in 80% of such experiments.",
        f"- A claim is {RULE_OF_ALL}.",
        "- for these checkpoints: of one seed, so that the interval is over prompts alone.",
        "- paper (its own tables): `-` where the paper has only a figure, or no such model.",
        "- docs/CLAIMS.md gives the rules, their reasons, and what was changed since.",
    ]
    for rows in claims:
        lines += ["", *_details(rows)]
    notes = frame[(frame["part"] == ALL) & frame["note"].fillna("").ne("")]
    lines += ["", "## Where the paper and its own tables differ", ""]
    lines += [f"- {row['claim']}: {row['note']}" for _, row in notes.iterrows()]
    return "\n".join(lines) + "\n"


def _heading(preset: str) -> str:
    return f"verdict in preset `{preset}`"


def _in_preset(row: pd.Series) -> str:
    return shown(str(row["verdict"]), str(row["scope"]))


def _number(value: float, unit: str = "") -> str:
    return "-" if pd.isna(value) else f"{value:.3g} {unit}".strip()


def _measured(row: pd.Series, unit: str = "") -> str:
    """Format a part's value with its interval."""
    if pd.isna(row["value"]):
        return NOT_MEASURED
    if pd.isna(row["ci_low"]):
        return f"{_number(row['value'], unit)} (no interval)"
    return f"{row['value']:.3g} [{row['ci_low']:.3g}, {row['ci_high']:.3g}] {unit}".strip()


def _summary(rows: pd.DataFrame) -> list[str]:
    """One row of the summary table."""
    summary, deciding = rows[rows["part"] == ALL].iloc[0], rows[rows["role"].isin([NEEDED, VETO])]
    parts = deciding[deciding["role"] == NEEDED]
    unit = parts["unit"].iloc[0]
    numbers = parts["paper"].map("{:.3g}".format, na_action="ignore").dropna().unique()
    paper = _number(summary["paper"], summary["unit"])
    if pd.isna(summary["paper"]) and len(numbers) and parts["unit"].nunique() == 1:
        paper = f"{', '.join(numbers)} {unit}"
    measured = _measured(parts.iloc[0], unit)
    if len(parts) > 1 and summary["verdict"] != NOT_MEASURED:
        kinds = parts["verdict"].value_counts()
        counts = [f"{kinds[v]} {v}" for v in MARKS if v in kinds]
        measured = f"of {len(parts)} parts {', '.join(counts)}"
    about = [summary["claim"], summary["statement"], paper, measured, summary["could_have_found"]]
    return [*about, _in_preset(summary), summary["artifact"]]


def _details(rows: pd.DataFrame) -> list[str]:
    """Section of one claim: its rules, the parts that decide it, and those beside it."""
    summary, parts = rows[rows["part"] == ALL].iloc[0], rows[rows["part"] != ALL]
    deciding, beside = parts[parts["role"] != BESIDE], parts[parts["role"] == BESIDE]
    lines = [f"## {summary['claim']}: {_in_preset(summary)}", "", summary["statement"], ""]
    lines += [f"- {rule}" for rule in deciding["rule"].unique()]
    lines += ["", *markdown_table(_table(deciding, _heading(summary["preset"])))]
    if len(beside):
        lines += ["", f"Beside it, without a part in the verdict ({len(beside)}):", ""]
        lines += markdown_table(_table(beside, _heading(summary["preset"])))
    return lines


def _table(parts: pd.DataFrame, verdict: str) -> list[list[str]]:
    """Heading and rows of some parts; columns that would be empty are left out."""
    columns: dict[str, Sequence[str]] = {
        "part": parts["part"].to_list(),
        "of": parts["subject"].to_list(),
        "unit": parts["unit"].to_list(),
        "paper (its own tables)": [_number(value) for value in parts["paper"]],
        "here": [_measured(row) for _, row in parts.iterrows()],
        "here / paper": [_ratio(row) for _, row in parts.iterrows()],
        "Bayes factor": [_number(value) for value in parts["bf_paper"]],
        "could have found": parts["could_have_found"].to_list(),
        "p": [_number(value) for value in parts["p_value"]],
        "seeds": [_number(value) for value in parts["n_seeds"]],
        verdict: [_in_preset(row) for _, row in parts.iterrows()],
        "why not measured": parts["note"].to_list(),
    }
    optional = ("here / paper", "Bayes factor", "could have found", "why not measured")
    kept = {n: c for n, c in columns.items() if n not in optional or set(c) - {"", "-"}}
    return [list(kept), *(list(line) for line in zip(*kept.values(), strict=True))]


def _ratio(row: pd.Series) -> str:
    if pd.isna(row["ratio"]):
        return "-"
    return f"{row['ratio']:.2g} [{row['ratio_low']:.2g}, {row['ratio_high']:.2g}]"
