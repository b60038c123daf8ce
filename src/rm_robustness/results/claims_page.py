"""Markdown page of the verdicts on the paper's claims."""

import pandas as pd

from .claims import ALL, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED, RULE_OF_ALL, SUPPORTED
from .tables import markdown_table

VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED)


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
    claims = [claim_rows for _, claim_rows in frame.groupby("claim", sort=False)]
    heading = ["claim", "statement", "paper (its own tables)", "here", _heading(preset), "artifact"]
    lines = [
        f"# The paper's claims in preset `{preset}`",
        "",
        *([note, ""] if note else []),
        scope,
        "",
        *markdown_table([heading, *(_summary(claim_rows) for claim_rows in claims)]),
        "",
        "- here: the value with its 95% interval; for several parts, the number of each verdict.",
        f"- A claim is {RULE_OF_ALL}.",
        "- With one seed, or without an interval, a part is at most inconclusive.",
        "- paper (its own tables): `-` where the paper has only a figure, or no such model.",
        "- The rules were fixed before the verdicts; docs/CLAIMS.md gives the reasons.",
    ]
    for claim_rows in claims:
        lines += ["", *_details(claim_rows)]
    notes = frame[(frame["part"] == ALL) & frame["note"].fillna("").ne("")]
    lines += ["", "## Where the paper and its own tables differ", ""]
    lines += [f"- {row['claim']}: {row['note']}" for _, row in notes.iterrows()]
    return "\n".join(lines) + "\n"


def _heading(preset: str) -> str:
    return f"verdict in preset `{preset}`"


def _in_preset(verdict: str) -> str:
    """Mark a verdict as one about this preset, not about the paper."""
    return f"{verdict} here" if verdict in (SUPPORTED, CONTRADICTED) else verdict


def _number(value: float, unit: str = "") -> str:
    return "-" if pd.isna(value) else f"{value:.3g} {unit}".strip()


def _measured(row: pd.Series, unit: str = "") -> str:
    """Format a part's value with its interval."""
    if pd.isna(row["value"]):
        return NOT_MEASURED
    if pd.isna(row["ci_low"]):
        return f"{_number(row['value'], unit)} (no interval)"
    return f"{row['value']:.3g} [{row['ci_low']:.3g}, {row['ci_high']:.3g}] {unit}".strip()


def _summary(claim_rows: pd.DataFrame) -> list[str]:
    """One row of the summary table."""
    summary, parts = claim_rows[claim_rows["part"] == ALL].iloc[0], claim_rows[claim_rows["counts"]]
    unit = parts["unit"].iloc[0]
    numbers = parts["paper"].map("{:.3g}".format, na_action="ignore").dropna().unique()
    paper = _number(summary["paper"], summary["unit"])
    if pd.isna(summary["paper"]) and len(numbers):
        paper = f"{', '.join(numbers)} {unit}"
    measured = _measured(parts.iloc[0], unit)
    if len(parts) > 1 and summary["verdict"] != NOT_MEASURED:
        kinds = parts["verdict"].value_counts()
        counts = [f"{kinds[v]} {v}" for v in VERDICTS if v in kinds]
        measured = f"of {len(parts)} parts {', '.join(counts)}"
    verdict = _in_preset(summary["verdict"])
    return [summary["claim"], summary["statement"], paper, measured, verdict, summary["artifact"]]


def _details(claim_rows: pd.DataFrame) -> list[str]:
    """Section of one claim: its decision rules, and a table of its parts."""
    summary, parts = (
        claim_rows[claim_rows["part"] == ALL].iloc[0],
        claim_rows[claim_rows["part"] != ALL],
    )
    columns = ["part", "of", "unit", "paper (its own tables)", "here", "p (Holm)", "seeds"]
    cells = [[*columns, _heading(summary["preset"]), "why not measured"]]
    for _, row in parts.iterrows():
        name = row["part"] if row["counts"] else f"beside: {row['part']}"
        seeds = "-" if pd.isna(row["n_seeds"]) else str(int(row["n_seeds"]))
        numbers = [_number(row["paper"]), _measured(row), _number(row["p_holm"]), seeds]
        reason = "" if pd.isna(row["note"]) else row["note"]
        cells.append(
            [name, row["subject"], row["unit"], *numbers, _in_preset(row["verdict"]), reason]
        )
    rules = [f"- {rule}" for rule in parts["rule"].unique()]
    title = f"## {summary['claim']}: {_in_preset(summary['verdict'])}"
    return [title, "", summary["statement"], "", *rules, "", *markdown_table(cells)]
