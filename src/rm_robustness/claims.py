"""The paper's claims C1 to C13, each with a verdict on the models of one preset.

The rules, and why they are as they are, stand in docs/CLAIMS.md. Left out on purpose: a bare yes. A
verdict needs an interval over seeds, says whose models it is about, and has the paper's own number
beside it, recomputed from the paper's own tables.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import evidence
from .errors import InputError
from .evidence import ABOVE_0, BELOW_0, MUTUAL, RESPONSE, SEEN, Part, Run, Side
from .figures import BSR, BT
from .rm_bench import table2_sources
from .scenarios import table5_sources
from .statistics import holm
from .tables import grid, read_published

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_MEASURED = "inconclusive", "not measured"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED)
ALL = "all"
COLUMNS = [
    *("claim", "part", "counts", "subject", "statement", "paper", "unit", "value", "ci_low"),
    *("ci_high", "p_holm", "n_seeds", "verdict", "rule", "artifact", "preset", "paper_model"),
    "note",
]
RULE_OF_ALL = (
    "contradicted if a part is, supported if every part is, not measured if no part is, "
    "else inconclusive"
)


@dataclass(frozen=True)
class Claim:
    """What the paper says, the artifact that shows it, and the parts that it is judged by.

    `adjust`: the parts are many comparisons of one kind, judged by p-values after Holm's correction
    over the claim.
    """

    statement: str
    artifact: str
    parts: Callable[[Run], Iterator[Part]]
    adjust: bool = False


CLAIMS = {
    "C1": Claim(
        "Bradley-Terry training inflates the distance between the hidden states of chosen and "
        "rejected responses, in mean and in spread.",
        "figure2.csv", evidence.inflation,
    ),
    "C2": Claim(
        "The norm of the reward head stays near its value before training.",
        "figure1.csv", evidence.head_norm,
    ),
    "C3": Claim(
        "BSR lowers the dispersion of the hidden states' norm and keeps it in one range over the "
        "four scenarios.",
        "figure3.csv", evidence.dispersion,
    ),
    "C4": Claim(
        "BSR agrees best with the gold preference in all four scenarios.",
        "table5.csv", partial(evidence.against, BSR, [BT, "bt-hinge", "bt-norm", "bt-dr"], ABOVE_0),
        adjust=True,
    ),
    "C5": Claim(
        "BT-DR is below BT everywhere.",
        "table5.csv", partial(evidence.against, "bt-dr", [BT], BELOW_0), adjust=True,
    ),
    "C6": Claim(
        "BT-Norm is below BT everywhere.",
        "table5.csv", partial(evidence.against, "bt-norm", [BT], BELOW_0), adjust=True,
    ),
    "C7": Claim(
        "Unseen response models cost more than 10 % of tau.",
        "table5.csv", evidence.unseen_models,
    ),
    "C8": Claim(
        "RLOO with a BSR reward model keeps raising the gold reward; with a BT one it stagnates in "
        "the last half of training.",
        "figure5.csv", evidence.gold_under_rloo,
    ),
    "C9": Claim(
        "The effective rank of the hidden states grows from the training set to RM-Bench with BT, "
        "and less so with BSR.",
        "table1.csv", evidence.effective_ranks,
    ),
    "C10": Claim(
        "RM-Bench's hard accuracy rises with BSR's lambda.",
        "table2.csv", evidence.hard_accuracy, adjust=True,
    ),
    "C11": Claim(
        "RLOO with a BSR reward model answers much more briefly than the SFT policy.",
        "table3.csv", evidence.response_length,
    ),
    "C12": Claim(
        "RLOO with a BSR reward model has a higher length-controlled win rate than with a BT one.",
        "table3.csv", evidence.win_rate,
    ),
    "C13": Claim(
        "The gap between BSR and BT grows with size within a family.",
        "table5.csv", evidence.grows_with_size, adjust=True,
    ),
}  # fmt: skip


def claims_sources(runs: Path, settings: Mapping[str, Any]) -> list[Path]:
    """List every file that the verdicts are computed from."""
    paths = [
        runs / "reward_models" / backbone / BT / f"seed-{seed}" / "probes.parquet"
        for backbone in settings["backbones"]
        for seed in settings["seeds"]
    ]
    paths += [path for path in table5_sources(runs, settings) if path.parent != runs / "splits"]
    if settings["rm_bench"]:
        paths += table2_sources(runs, settings)
    for table, section in ((1, "ranks"), (3, "alpaca_eval")):
        if settings[section]:
            paths.append(runs / "results" / f"table{table}.csv")
    if settings["rloo"] and evidence.RLOO_RUN in settings["rloo"]["runs"]:
        paths += [runs / "looks" / f"{evidence.RLOO_RUN}-{m}.parquet" for m in (BT, BSR)]
    return list(dict.fromkeys(paths))  # the paper's numbers are in both tables' lists


def claims(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Judge every claim: a row a part, and one with part "all" for the claim itself.

    `settings`: those of `scenarios.table5`, with the sections rm_bench, ranks, rloo and alpaca_eval
    (None where the preset has none of it) and `families` (lists of backbones from small to large).
    The columns are `COLUMNS`: value with its 95% interval and `paper` are in `unit`; `counts` is
    false for a part that is only shown; `p_holm` is adjusted over the claim; `paper_model` is the
    paper's model that the subject stands for, if it does; `note` is why nothing was measured, and
    with part "all" where the paper and its tables differ. Raises `InputError` for a missing file,
    and for another reference than bt, which the paper's claims compare with.
    """
    if settings["reference"] != BT:
        raise InputError("statistics.reference", f"'{settings['reference']}'", f"'{BT}'")
    published = read_published(Path(settings["paper_values"]))
    run, own = Run(runs, settings, published), own_tables(published)
    rows = [row for name, claim in CLAIMS.items() for row in _judged(name, claim, run, own)]
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return frame.assign(preset=settings["preset"], n_seeds=frame["n_seeds"].astype("Int64"))


def _judged(
    name: str, claim: Claim, run: Run, own: dict[str, tuple[float, str, str]]
) -> list[dict[str, Any]]:
    """Give a claim its rows, the claim's own first."""
    parts = list(claim.parts(run))
    tested = [claim.adjust and part.counts for part in parts]
    p_values = [
        part.estimate.p_value if test else np.nan for part, test in zip(parts, tested, strict=True)
    ]
    shared: dict[str, Any] = {
        "claim": name,
        "statement": claim.statement,
        "artifact": claim.artifact,
    }
    rows: list[dict[str, Any]] = []
    for part, test, p_holm in zip(parts, tested, holm(p_values), strict=True):
        found = part.estimate
        judged = verdict(part, p_holm if test else None)
        rows.append(
            shared
            | {"part": part.name, "counts": part.counts, "subject": part.subject}
            | {"paper": part.paper, "unit": part.unit, "value": found.value}
            | {"ci_low": found.low, "ci_high": found.high, "p_holm": p_holm}
            | {"n_seeds": found.n_seeds or None, "verdict": judged}
            | {"rule": rule(part.side, test), "paper_model": _stands_for(part, run.settings)}
            | {"note": part.reason if judged == NOT_MEASURED else ""}
        )
    paper, unit, note = own.get(name, (np.nan, "", ""))
    whole = {"part": ALL, "counts": False, "subject": "-", "paper": paper, "unit": unit}
    judged = overall([row["verdict"] for row in rows if row["counts"]])
    return [shared | whole | {"verdict": judged, "rule": RULE_OF_ALL, "note": note}, *rows]


def verdict(part: Part, p_holm: float | None = None) -> str:
    """Judge one part: on which side of the claim its whole 95% interval lies.

    With `p_holm` the value's side counts, and p < 0.05 takes the interval's place. Without a second
    seed or an interval nothing is more than inconclusive.
    """
    found, (above, below) = part.estimate, part.side
    if np.isnan(found.value):
        return NOT_MEASURED
    low, high = found.low, found.high
    if found.n_seeds < 2 or np.isnan(low):
        return INCONCLUSIVE
    if p_holm is not None:
        if not p_holm < 0.05:
            return INCONCLUSIVE
        low = high = found.value
    if above < low and high < below:
        return SUPPORTED
    return CONTRADICTED if high < above or low > below else INCONCLUSIVE


def overall(verdicts: list[str]) -> str:
    """Judge a claim by its parts' verdicts; one that is supported in part is inconclusive."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    kinds = set(verdicts)
    return kinds.pop() if kinds in ({SUPPORTED}, {NOT_MEASURED}) else INCONCLUSIVE


def rule(side: Side, adjusted: bool) -> str:
    """Say in words how a part with this side is judged."""
    above, below = side
    here, there = f"above {above:.3g}", f"below {above:.3g}"
    if above == -np.inf:
        here, there = f"below {below:.3g}", f"above {below:.3g}"
    elif below < np.inf:
        here, there = f"between {above:.3g} and {below:.3g}", "outside"
    if adjusted:
        p = "with p < 0.05 after Holm's correction over the claim"
        return f"supported if {here}, contradicted if {there}, each {p}; else inconclusive"
    what = "the whole 95% interval is"
    return f"supported if {what} {here}, contradicted if it is {there}; else inconclusive"


def _stands_for(part: Part, settings: Mapping[str, Any]) -> str | None:
    """Look up the paper's model that a part's backbone, or RLOO run, stands for."""
    models = {name: about["paper_model"] for name, about in settings["backbones"].items()}
    for section, key in (("rm_bench", "backbone"), ("alpaca_eval", "run")):
        if about := settings[section]:
            models[about[key]] = about["paper_model"]
    return models.get(part.subject)


def own_tables(published: pd.DataFrame) -> dict[str, tuple[float, str, str]]:
    """Recompute claims from the paper's own tables: number, unit, and what does not agree with it.

    The number is the whole claim's, NaN where only its parts have numbers. What the paper's text
    says is quoted; every number that is set against it is computed.
    """
    five = published[published["artifact"] == "table5"]
    cells: Any = five.pivot(index=["model", "metric"], columns="method", values="value")
    best = cells.drop(columns=BSR).max(axis=1)
    missed = [
        f"{model}, {metric}: {cells[BSR][model, metric]:.4f} against {best[model, metric]:.4f}"
        for model, metric in cells.index[best >= cells[BSR]]
    ]
    taus: Any = five.pivot(index=["model", "method"], columns="metric", values="value")
    loss = 100 * (1 - taus[[RESPONSE, MUTUAL]].div(taus[SEEN], axis=0))
    to_response, quoted = loss.xs(BT, level="method")[RESPONSE], loss[MUTUAL]["Qwen2.5-3B", BT]
    odd = taus.loc[("Qwen2.5-3B", BSR)]
    growth, n = _growth(cells[BSR] - cells[BT]), f"of {len(cells)} cells"
    rest = published[published["artifact"] != "table5"].fillna({"lambda": 0.0})
    at = rest.set_index(["method", "lambda", "metric"])["value"].to_dict()
    rank = {m: (at[m, w, "erank_train"], at[m, w, "erank_eval"]) for m, w in ((BT, 0), (BSR, 1e-3))}
    hard = [at[BT, 0, "hard"], at[BSR, 1e-3, "hard"], at[BSR, 1e-2, "hard"]]
    means = [
        np.mean([at[BSR, 1e-2, metric] for metric in metrics])
        for metrics in (("chat", "math", "code", "safety"), ("hard", "normal", "easy"))
    ]
    policies = (("sft", 0), ("rloo-bt", 0), ("rloo-bt-bsr", 1e-3))
    length, wins = (
        [at[method, weight, metric] for method, weight in policies]
        for metric in ("avg_length_chars", "lc_win_rate")
    )
    return {
        "C4": (
            len(cells) - len(missed), n,
            f"Best in all, says the paper; not in {'; '.join(missed)}. Section 3.1 has 7B and 8B "
            f"models; table 5 has {', '.join(five['model'].unique())}. Table 5's caption and "
            "section 3.2 say figure 5 where figure 4 is meant.",
        ),
        "C5": (int((cells["bt-dr"] < cells[BT]).sum()), n, ""),
        "C6": (int((cells["bt-norm"] < cells[BT]).sum()), n, ""),
        "C7": (
            quoted, "% (Qwen2.5-3B)",
            f"'16.4 %' is {quoted:.1f} %. Over every model and objective the loss is "
            f"{loss[MUTUAL].min():.1f} to {loss[MUTUAL].max():.1f} %; to response-disjoint BT "
            f"loses {to_response.min():.1f} ({to_response.idxmin()}) to {to_response.max():.1f} %. "
            f"Qwen2.5-3B with BSR has {odd[MUTUAL]:.4f} on mutual- and {odd[RESPONSE]:.4f} on "
            "response-disjoint, whose prompts it was trained on: not explained.",
        ),
        "C9": (
            np.nan, "",
            f"'About 40 %' is {_percent(*rank[BT])} % ({rank[BT][1] - rank[BT][0]:+.2f}) for BT; "
            f"the sentence names BSR, for which it is {rank[BSR][1] - rank[BSR][0]:+.2f}.",
        ),
        "C10": (
            np.nan, "",
            f"'More than 5 % in complex tasks' is {hard[1] - hard[0]:+.1f} points "
            f"({_percent(*hard[:2])} %) at lambda 1e-3, the one of every other table, and "
            f"{hard[2] - hard[0]:+.1f} points at 1e-2. 'Surpasses the best 8B models with 7 %' is "
            f"{at[BT, 0, 'overall']:.1f} to {at[BSR, 1e-3, 'overall']:.1f} overall. At lambda 1e-2 "
            f"the mean of the domains is {means[0]:.2f}, that of the difficulties {means[1]:.2f}; "
            "they must be equal, and rounding explains 0.10.",
        ),
        "C11": (
            np.nan, "",
            f"'40 % shorter' is {_percent(length[0], length[2])} % against SFT, "
            f"{_percent(*length[1:])} % against RLOO with BT.",
        ),
        "C12": (
            np.nan, "",
            f"'7 % more wins' is {wins[2] - wins[1]:+.2f} points, {_percent(*wins[1:])} % of "
            f"{wins[1]:.2f}.",
        ),
        "C13": (int((growth > 0).sum()), f"of {growth.size} comparisons", ""),
    }  # fmt: skip


def _percent(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f}"


def _growth(gaps: Any) -> Any:
    """Differences between neighbouring sizes of a family, from gaps by (model, metric)."""
    names = pd.Series({model: model.rpartition("-") for model in gaps.index.unique("model")})
    sizes = sorted(names.index, key=lambda model: float(names[model][2].rstrip("B")))
    by_size = gaps.unstack("metric").loc[sizes]
    return by_size.groupby(lambda model: names[model][0]).diff().dropna().to_numpy()


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
        f"# The paper's claims in preset `{preset}`", "", *([note, ""] if note else []), about, "",
        *grid([heading, *(_summary(own) for own in claims)]), "",
        "- here: the value with its 95% interval; of a claim of several parts, how many are what.",
        f"- A claim is {RULE_OF_ALL}.",
        "- With one seed, or without an interval, nothing is more than inconclusive.",
        "- paper (its own tables): `-` where the paper has a figure alone, or no such model.",
        "- The rules, fixed before the verdicts, and their reasons: docs/CLAIMS.md.",
    ]  # fmt: skip
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
