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

from ..errors import InputError
from ..experiment.grid import BSR, BT
from ..statistics import holm
from . import claim_evidence as evidence
from .claim_evidence import ABOVE_0, BELOW_0, Part, Side
from .measurements import Run
from .paper_claims import own_tables
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
        partial(evidence.against, BSR, [BT, "bt-hinge", "bt-norm", "bt-dr"], ABOVE_0),
        adjust=True,
    ),
    "C5": Claim(
        "BT-DR is below BT everywhere.",
        "table5.csv",
        partial(evidence.against, "bt-dr", [BT], BELOW_0),
        adjust=True,
    ),
    "C6": Claim(
        "BT-Norm is below BT everywhere.",
        "table5.csv",
        partial(evidence.against, "bt-norm", [BT], BELOW_0),
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
    """Judge every claim: a row a part, and one with part "all" for the claim itself.

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
