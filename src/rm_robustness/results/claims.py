"""Verdicts on the paper's claims C1 to C13 for the models of one preset.

The decision rules and their reasons are in docs/CLAIMS.md. There is no verdict without an interval
over seeds, and each is reported with the preset that it is about and with the paper's number,
recomputed from the paper's tables.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..experiment.grid import BSR, BT
from ..statistics import holm
from . import claim_evidence as evidence
from .claim_evidence import ABOVE_0, BELOW_0, ClaimPart, Side
from .measurements import RunResults
from .paper_claims import claims_in_tables
from .tables import read_published

SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_MEASURED = "inconclusive", "not measured"
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
    """A statement of the paper, the artifact that shows it, and the parts that it consists of.

    `adjust`: the parts are many comparisons of one kind, decided by p-values after Holm's
    correction over the claim.
    """

    statement: str
    artifact: str
    parts: Callable[[RunResults], Iterator[ClaimPart]]
    adjust: bool = False


CLAIMS = {
    "C1": Claim(
        "Bradley-Terry training inflates the distance between the hidden states of chosen and "
        "rejected responses, in mean and in spread.",
        "figure2.csv",
        evidence.inflation,
    ),
    "C2": Claim(
        "The norm of the reward head stays near its value before training.",
        "figure1.csv",
        evidence.head_norm,
    ),
    "C3": Claim(
        "BSR lowers the dispersion of the hidden states' norm and keeps it in one range over the "
        "four scenarios.",
        "figure3.csv",
        evidence.dispersion,
    ),
    "C4": Claim(
        "BSR agrees best with the gold preference in all four scenarios.",
        "table5.csv",
        partial(evidence.objective_gaps, BSR, [BT, "bt-hinge", "bt-norm", "bt-dr"], ABOVE_0),
        adjust=True,
    ),
    "C5": Claim(
        "BT-DR is below BT everywhere.",
        "table5.csv",
        partial(evidence.objective_gaps, "bt-dr", [BT], BELOW_0),
        adjust=True,
    ),
    "C6": Claim(
        "BT-Norm is below BT everywhere.",
        "table5.csv",
        partial(evidence.objective_gaps, "bt-norm", [BT], BELOW_0),
        adjust=True,
    ),
    "C7": Claim(
        "Unseen response models cost more than 10 % of tau.", "table5.csv", evidence.unseen_models
    ),
    "C8": Claim(
        "RLOO with a BSR reward model keeps raising the gold reward; with a BT one it stagnates in "
        "the last half of training.",
        "figure5.csv",
        evidence.gold_under_rloo,
    ),
    "C9": Claim(
        "The effective rank of the hidden states grows from the training set to RM-Bench with BT, "
        "and less so with BSR.",
        "table1.csv",
        evidence.effective_ranks,
    ),
    "C10": Claim(
        "RM-Bench's hard accuracy rises with BSR's lambda.",
        "table2.csv",
        evidence.hard_accuracy,
        adjust=True,
    ),
    "C11": Claim(
        "RLOO with a BSR reward model answers much more briefly than the SFT policy.",
        "table3.csv",
        evidence.response_length,
    ),
    "C12": Claim(
        "RLOO with a BSR reward model has a higher length-controlled win rate than with a BT one.",
        "table3.csv",
        evidence.win_rate,
    ),
    "C13": Claim(
        "The gap between BSR and BT grows with size within a family.",
        "table5.csv",
        evidence.grows_with_size,
        adjust=True,
    ),
}


def claims(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Decide every claim: a row a part, and one with part "all" for the claim itself.

    `settings`: those of table 5, with the sections rm_bench, ranks, rloo and alpaca_eval
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
    run, paper_numbers = RunResults(runs, settings, published), claims_in_tables(published)
    rows = [
        row for name, claim in CLAIMS.items() for row in _judged(name, claim, run, paper_numbers)
    ]
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return frame.assign(preset=settings["preset"], n_seeds=frame["n_seeds"].astype("Int64"))


def _judged(
    name: str, claim: Claim, run: RunResults, paper_numbers: dict[str, tuple[float, str, str]]
) -> list[dict[str, Any]]:
    """Compute the rows of one claim: its verdict, then those of its parts."""
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
        estimate = part.estimate
        verdict_of_part = verdict(part, p_holm if test else None)
        rows.append(
            shared
            | {"part": part.name, "counts": part.counts, "subject": part.subject}
            | {"paper": part.paper, "unit": part.unit, "value": estimate.value}
            | {"ci_low": estimate.low, "ci_high": estimate.high, "p_holm": p_holm}
            | {"n_seeds": estimate.n_seeds or None, "verdict": verdict_of_part}
            | {
                "rule": describe_rule(part.side, test),
                "paper_model": _paper_model(part, run.settings),
            }
            | {"note": part.reason if verdict_of_part == NOT_MEASURED else ""}
        )
    paper, unit, note = paper_numbers.get(name, (np.nan, "", ""))
    summary = {"part": ALL, "counts": False, "subject": "-", "paper": paper, "unit": unit}
    claim_verdict = overall([row["verdict"] for row in rows if row["counts"]])
    return [shared | summary | {"verdict": claim_verdict, "rule": RULE_OF_ALL, "note": note}, *rows]


def verdict(part: ClaimPart, p_holm: float | None = None) -> str:
    """Decide one part: on which side of the claim its whole 95% interval lies.

    With `p_holm`, p < 0.05 and the side of the value decide instead of the interval. With one seed,
    or without an interval, a part is at most inconclusive.
    """
    estimate, (above, below) = part.estimate, part.side
    if np.isnan(estimate.value):
        return NOT_MEASURED
    low, high = estimate.low, estimate.high
    if estimate.n_seeds < 2 or np.isnan(low):
        return INCONCLUSIVE
    if p_holm is not None:
        if not p_holm < 0.05:
            return INCONCLUSIVE
        low = high = estimate.value
    if above < low and high < below:
        return SUPPORTED
    return CONTRADICTED if high < above or low > below else INCONCLUSIVE


def overall(verdicts: list[str]) -> str:
    """Combine the verdicts of a claim's parts (`RULE_OF_ALL`)."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    kinds = set(verdicts)
    return kinds.pop() if kinds in ({SUPPORTED}, {NOT_MEASURED}) else INCONCLUSIVE


def describe_rule(side: Side, adjusted: bool) -> str:
    """Describe the decision rule of a part with this side."""
    above, below = side
    holds, fails = f"above {above:.3g}", f"below {above:.3g}"
    if above == -np.inf:
        holds, fails = f"below {below:.3g}", f"above {below:.3g}"
    elif below < np.inf:
        holds, fails = f"between {above:.3g} and {below:.3g}", "outside"
    if adjusted:
        p = "with p < 0.05 after Holm's correction over the claim"
        return f"supported if {holds}, contradicted if {fails}, each {p}; else inconclusive"
    interval = "the whole 95% interval is"
    return f"supported if {interval} {holds}, contradicted if it is {fails}; else inconclusive"


def _paper_model(part: ClaimPart, settings: Mapping[str, Any]) -> str | None:
    """Look up the paper's model that corresponds to a part's backbone or RLOO run."""
    models = {
        name: section_settings["paper_model"]
        for name, section_settings in settings["backbones"].items()
    }
    for section, key in (("rm_bench", "backbone"), ("alpaca_eval", "run")):
        if section_settings := settings[section]:
            models[section_settings[key]] = section_settings["paper_model"]
    return models.get(part.subject)
