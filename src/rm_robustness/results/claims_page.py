"""The verdicts on the paper's claims as a page."""

import pandas as pd

from .claims import ALL, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED, RULE_OF_ALL, SUPPORTED
from .tables import grid

VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED)


def claims_markdown(frame: pd.DataFrame, note: str = "") -> str:
    """Lay the verdicts out: whose models they are about, a table of the claims, then each claim.

    `note` is the preset's sentence about what its numbers can and cannot show.
    """
    preset = frame["preset"].iloc[0]
    about = f"These verdicts are about the models of preset `{preset}`, "
    about += "not about the paper's models."
    models = frame.dropna(subset=["paper_model"]).drop_duplicates("subject")
    if len(models):
        named = (f"`{s}` for {m}" for s, m in models[["subject", "paper_model"]].to_numpy())
        about += f" In place of those stand {', '.join(named)}."
    claims = [own for _, own in frame.groupby("claim", sort=False)]
    heading = ["claim", "statement", "paper (its own tables)", "here", _heading(preset), "artifact"]
    lines = [
        f"# The paper's claims in preset `{preset}`",
        "",
        *([note, ""] if note else []),
        about,
        "",
        *grid([heading, *(_summary(own) for own in claims)]),
        "",
        "- here: the value with its 95% interval; of a claim of several parts, how many are what.",
        f"- A claim is {RULE_OF_ALL}.",
        "- With one seed, or without an interval, nothing is more than inconclusive.",
        "- paper (its own tables): `-` where the paper has a figure alone, or no such model.",
        "- The rules, fixed before the verdicts, and their reasons: docs/CLAIMS.md.",
    ]
    for own in claims:
        lines += ["", *_details(own)]
    notes = frame[(frame["part"] == ALL) & frame["note"].fillna("").ne("")]
    lines += ["", "## Where the paper and its own tables differ", ""]
    lines += [f"- {row['claim']}: {row['note']}" for _, row in notes.iterrows()]
    return "\n".join(lines) + "\n"


def _heading(preset: str) -> str:
    return f"verdict in preset `{preset}`"


def _here(verdict: str) -> str:
    """Word a verdict so that it cannot be read as one on the paper."""
    return f"{verdict} here" if verdict in (SUPPORTED, CONTRADICTED) else verdict


def _number(value: float, unit: str = "") -> str:
    return "-" if pd.isna(value) else f"{value:.3g} {unit}".strip()


def _measured(row: pd.Series, unit: str = "") -> str:
    """Write a part's value with its interval."""
    if pd.isna(row["value"]):
        return NOT_MEASURED
    if pd.isna(row["ci_low"]):
        return f"{_number(row['value'], unit)} (no interval)"
    return f"{row['value']:.3g} [{row['ci_low']:.3g}, {row['ci_high']:.3g}] {unit}".strip()


def _summary(own: pd.DataFrame) -> list[str]:
    """One line of the table of claims."""
    whole, parts = own[own["part"] == ALL].iloc[0], own[own["counts"]]
    unit = parts["unit"].iloc[0]
    numbers = parts["paper"].map("{:.3g}".format, na_action="ignore").dropna().unique()
    paper = _number(whole["paper"], whole["unit"])
    if pd.isna(whole["paper"]) and len(numbers):
        paper = f"{', '.join(numbers)} {unit}"
    here = _measured(parts.iloc[0], unit)
    if len(parts) > 1 and whole["verdict"] != NOT_MEASURED:
        kinds = parts["verdict"].value_counts()
        each = [f"{kinds[v]} {v}" for v in VERDICTS if v in kinds]
        here = f"of {len(parts)} parts {', '.join(each)}"
    verdict = _here(whole["verdict"])
    return [whole["claim"], whole["statement"], paper, here, verdict, whole["artifact"]]


def _details(own: pd.DataFrame) -> list[str]:
    """A claim's section: its rules, and a line a part."""
    whole, parts = own[own["part"] == ALL].iloc[0], own[own["part"] != ALL]
    columns = ["part", "of", "unit", "paper (its own tables)", "here", "p (Holm)", "seeds"]
    cells = [[*columns, _heading(whole["preset"]), "why not measured"]]
    for _, row in parts.iterrows():
        name = row["part"] if row["counts"] else f"beside: {row['part']}"
        seeds = "-" if pd.isna(row["n_seeds"]) else str(int(row["n_seeds"]))
        found = [_number(row["paper"]), _measured(row), _number(row["p_holm"]), seeds]
        reason = "" if pd.isna(row["note"]) else row["note"]
        cells.append([name, row["subject"], row["unit"], *found, _here(row["verdict"]), reason])
    rules = [f"- {rule}" for rule in parts["rule"].unique()]
    title = f"## {whole['claim']}: {_here(whole['verdict'])}"
    return [title, "", whole["statement"], "", *rules, "", *grid(cells)]
