"""Verdicts on the paper's claims C1 to C13 for the models of one preset.

The decision rules and their reasons are in docs/CLAIMS.md. There is no verdict without an interval,
and each is reported with the preset that it is about, with what could have been found, and with the
paper's number, recomputed from the paper's tables.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.estimates import AGAINST_PAPER, against_paper
from ..experiment.grid import BSR, BT
from . import claim_evidence as evidence
from .claim_parts import ABOVE_0, BELOW_0, NEEDED, VETO, ClaimPart, decide
from .measurements import RunResults
from .paper_claims import claims_in_tables
from .tables import read_published
from .verdicts import INCONCLUSIVE, NOT_MEASURED

ALL = "all"
COLUMNS = [
    *("claim", "part", "role", "subject", "statement", "paper", "unit", "value", "ci_low"),
    *("ci_high", "p_value", "p_contradicted", "n_seeds", "n_prompts", "verdict", "scope"),
    *("mdd80", "seed_sd", "prompt_sd", "noise_sd", "could_have_found", *AGAINST_PAPER),
    *("rule", "artifact", "preset", "paper_model", "note"),
]
RULE_OF_ALL = (
    "contradicted if a part is, supported if every needed part is, not measured if no needed part "
    "is, else inconclusive"
)
CHECKPOINTS = "these checkpoints"  # the scope of one seed


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, the artifact that shows it, and the parts that it consists of."""

    statement: str
    artifact: str
    parts: Callable[[RunResults], Iterator[ClaimPart]]


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
    ),
    "C5": Claim(
        "BT-DR is below BT everywhere.",
        "table5.csv",
        partial(evidence.objective_gaps, "bt-dr", [BT], BELOW_0),
    ),
    "C6": Claim(
        "BT-Norm is below BT everywhere.",
        "table5.csv",
        partial(evidence.objective_gaps, "bt-norm", [BT], BELOW_0),
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
        "RM-Bench's hard accuracy rises with BSR's lambda.", "table2.csv", evidence.hard_accuracy
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
    ),
}


def claims(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Decide every claim: a row a part, and one with part "all" for the claim itself.

    `settings`: those of table 5, with the sections rm_bench, ranks, rloo and alpaca_eval
    (None where the preset has none of it) and `families` (lists of backbones from small to large).
    The columns are `COLUMNS`: value with its 95% interval and `paper` are in `unit`; `role` is that
    of `ClaimPart`; `p_value` belongs to the boundary of the claim, `p_contradicted` is corrected
    over the claim; `scope` is "these checkpoints" for one seed; `mdd80` is how far beyond the
    boundary a true value is found with 80%, which `could_have_found` says in words, with part "all"
    of the first part that left the claim inconclusive; the components
    are those of `estimates.difference_columns`, and `AGAINST_PAPER` of `estimates.against_paper`;
    `paper_model` is the paper's model that the subject stands for, if it does; `note` is why
    nothing was measured, and with part "all" where the paper and its tables differ. Raises
    `InputError` for a missing file, and for another reference than bt, which the paper's claims
    compare with.
    """
    if settings["reference"] != BT:
        raise InputError("statistics.reference", f"'{settings['reference']}'", f"'{BT}'")
    published = read_published(Path(settings["paper_values"]))
    run, paper_numbers = RunResults(runs, settings, published), claims_in_tables(published)
    rows = [
        row for name, claim in CLAIMS.items() for row in _judged(name, claim, run, paper_numbers)
    ]
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    whole = dict.fromkeys(["n_seeds", "n_prompts"], "Int64")
    return frame.assign(preset=settings["preset"]).astype(whole)


def _judged(
    name: str, claim: Claim, run: RunResults, paper_numbers: dict[str, tuple[float, str, str]]
) -> list[dict[str, Any]]:
    """Compute the rows of one claim: its verdict, then those of its parts."""
    parts = list(claim.parts(run))
    whole, verdicts, corrected = decide(parts)
    several = sum(part.role in (NEEDED, VETO) for part in parts) > 1
    shared: dict[str, Any] = {
        "claim": name,
        "statement": claim.statement,
        "artifact": claim.artifact,
    }
    rows: list[dict[str, Any]] = []
    for part, verdict, p_contradicted in zip(parts, verdicts, corrected, strict=True):
        estimate, tests = part.estimate, part.tests()
        row = shared | {"part": part.name, "role": part.role, "subject": part.subject}
        row |= {"paper": part.paper, "unit": part.unit, "value": estimate.value}
        row |= {"ci_low": estimate.low, "ci_high": estimate.high}
        row |= {"p_value": min(tests), "p_contradicted": p_contradicted, "verdict": verdict}
        row |= {"n_seeds": estimate.n_seeds or None, "n_prompts": estimate.n_prompts or None}
        row |= {"scope": CHECKPOINTS if part.one_checkpoint else "", "rule": part.rule(several)}
        row |= {"paper_model": _paper_model(part, run.settings)}
        row |= {"note": part.reason if verdict == NOT_MEASURED else ""}
        if part.counted and part.role == NEEDED:
            shown, of_most = f"it is shown in {estimate.low:.0f}", int(part.side[0] + 1)
            row["could_have_found"] = f"{shown}; {of_most} are needed"
        elif not part.counted and not np.isnan(estimate.low):
            row |= {"mdd80": estimate.smallest_found(), **estimate.components()}
            row |= against_paper(estimate, part.paper)
            row["could_have_found"] = _could_have_found(part, row["mdd80"])
        rows.append(row)
    paper, unit, note = paper_numbers.get(name, (np.nan, "", ""))
    needed = [row for row in rows if row["role"] == NEEDED]
    summary = {"part": ALL, "subject": "-", "paper": paper, "unit": unit, "verdict": whole}
    summary |= {"scope": CHECKPOINTS if any(row["scope"] for row in needed) else ""}
    unsettled = [row for row in needed if row["verdict"] == INCONCLUSIVE]
    if whole == INCONCLUSIVE and unsettled and "could_have_found" in unsettled[0]:
        first = f"{unsettled[0]['part']} ({unsettled[0]['subject']})"
        summary["could_have_found"] = f"{first}: {unsettled[0]['could_have_found']}"
    return [shared | summary | {"rule": RULE_OF_ALL, "note": note}, *rows]


def _could_have_found(part: ClaimPart, smallest: float) -> str:
    """What the design finds with 80%, in words: how far beyond the boundary, or how close to it."""
    (low, high), unit = part.side, part.unit
    if np.isnan(smallest):
        return ""
    if np.isfinite(low) and np.isfinite(high):
        needed = f"at most ±{(high - low) / 2:.2g} is needed to find them equal"
        return f"its interval is ±{(part.estimate.high - part.estimate.low) / 2:.2g}; {needed}"
    boundary = low if np.isfinite(low) else high
    beyond = f" beyond {boundary:.3g}" if boundary else ""
    return f"{smallest:.2g} {unit}{beyond} would have been found (80%)"


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
