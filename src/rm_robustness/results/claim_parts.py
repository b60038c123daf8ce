"""Parts of a claim: an estimate, the values for which the claim holds, and the verdict on it.

docs/CLAIMS.md has the rules and their reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..pivot import Array
from ..statistics import NO_ESTIMATE, Estimate, conjunction, holm
from .verdicts import CONTRADICTED, INCONCLUSIVE, NOT_MEASURED, SUPPORTED

NEEDED, VETO, BESIDE = "needed", "can only contradict", "beside"
ALPHA = 0.05  # two-sided, so that each direction has half of it

Side = tuple[float, float]
ABOVE_0: Side = (0.0, np.inf)
BELOW_0: Side = (-np.inf, 0.0)

# What a cell may be on the wrong side of 0 by, in the unit of the part: the paper's own table has
# -0.0002 in one cell. Also what one checkpoint's difference must exceed to contradict.
MARGINS = {"accuracy": 0.005, "tau": 0.005, "points": 0.5}


IN_MOST = "cells in which it is there, of more than half"
EXCEPTIONS = f"cells in which the opposite is there by more than {MARGINS['tau']:g}"


class Tests(NamedTuple):
    """Two-sided p-values of a part: small `holds` supports the claim, small `fails` contradicts."""

    holds: float
    fails: float


@dataclass(frozen=True)
class ClaimPart:
    """One quantity of a claim, which holds if it lies strictly between the ends of `side`.

    `subject` is the backbone, or the RLOO run. `paper` is the same quantity computed from the
    paper's tables, NaN where they lack it. `reason` explains a missing estimate. The claim needs
    every part of role `NEEDED`; one of role `VETO` can only contradict it; one `BESIDE` is reported
    and does not enter. `counted` has the tests of a part that counts cells, whose estimate has no
    distribution of its own.
    """

    name: str
    subject: str
    unit: str
    side: Side
    estimate: Estimate
    paper: float = np.nan
    reason: str = ""
    role: str = NEEDED
    counted: Tests | None = None

    @property
    def one_checkpoint(self) -> bool:
        """Whether the interval is over prompts of one seed alone, and says nothing of others."""
        return self.estimate.n_seeds == 1

    def tests(self) -> Tests:
        """P-values of the part; nan without an interval."""
        if self.counted:
            return self.counted
        estimate, (low, high) = self.estimate, self.side
        if np.isnan(estimate.low):
            return Tests(np.nan, np.nan)
        if low < estimate.value < high:
            return Tests(max(estimate.p_of(end) for end in self.side if np.isfinite(end)), 1.0)
        margin = MARGINS.get(self.unit, 0.0) if self.one_checkpoint else 0.0
        below = estimate.value <= low
        bound = low - margin if below else high + margin
        beyond = estimate.value < bound if below else estimate.value > bound
        return Tests(1.0, estimate.p_of(bound) if beyond else 1.0)

    def verdict(self, p_fails: float) -> str:
        """Decide the part, given its p-value `fails` corrected over the claim.

        Supported if the 95% interval lies within `side`, which is `holds` < 0.05.
        """
        if np.isnan(self.estimate.value):
            return NOT_MEASURED
        if p_fails < ALPHA:
            return CONTRADICTED
        return SUPPORTED if self.tests().holds < ALPHA else INCONCLUSIVE

    def rule(self, corrected: bool) -> str:
        """The part's decision rule in words; `corrected`: Holm's method is used over the claim."""
        low, high = self.side
        holds, fails = f"above {low:.3g}", f"below {low:.3g}"
        if low == -np.inf:
            holds, fails = f"below {high:.3g}", f"above {high:.3g}"
        elif high < np.inf:
            holds, fails = f"between {low:.3g} and {high:.3g} (an equivalence test)", "outside"
        if self.one_checkpoint and self.unit in MARGINS:
            fails += f" by more than {MARGINS[self.unit]:g}"
        contradicted = f"contradicted if it is {fails}"
        if corrected:
            contradicted += " (p < 0.05 after Holm's correction over the claim)"
        if self.role == VETO:
            return f"{contradicted}; it does not support the claim"
        return f"supported if the whole 95% interval is {holds}, {contradicted}; else inconclusive"


def decide(parts: Sequence[ClaimPart]) -> tuple[str, list[str], list[float]]:
    """Decide a claim: its verdict, that of each part, and the parts' corrected `fails`.

    Holm's method runs over the parts that can contradict the claim: "contradicted if any is" would
    otherwise err more often than any of them. "Supported if all are" needs no correction. A part
    beside the claim is corrected for nothing.
    """
    fails = np.array([part.tests().fails for part in parts], dtype=np.float64)
    enters = np.array([part.role != BESIDE for part in parts], dtype=bool)
    corrected = fails.copy()
    corrected[enters] = holm(fails[enters])
    verdicts = [part.verdict(p) for part, p in zip(parts, corrected, strict=True)]
    needed = {v for v, part in zip(verdicts, parts, strict=True) if part.role == NEEDED}
    vetoed = any(v == CONTRADICTED for v, use in zip(verdicts, enters, strict=True) if use)
    whole = INCONCLUSIVE
    if vetoed:
        whole = CONTRADICTED
    elif needed in ({SUPPORTED}, {NOT_MEASURED}):
        whole = needed.pop()
    return whole, verdicts, [float(p) for p in corrected]


def counts_of(cells: Sequence[ClaimPart]) -> list[ClaimPart]:
    """Two parts about many cells of one kind, and the cells themselves, beside the claim.

    In how many cells the effect is there, at least (`conjunction`), which should be more than half;
    and whether in any cell the opposite is there by more than the margin of its unit.
    """
    measured = [cell for cell in cells if not np.isnan(cell.estimate.low)]
    beside = [replace(cell, role=BESIDE) for cell in cells]
    if not measured:
        reason = next((cell.reason for cell in cells if cell.reason), "no cell has an interval")
        missing = [
            ClaimPart(name, "all", "cells", (0.0, np.inf), NO_ESTIMATE, reason=reason, role=role)
            for name, role in ((IN_MOST, NEEDED), (EXCEPTIONS, VETO))
        ]
        return [*missing, *beside]
    n, n_seeds = len(measured), min(cell.estimate.n_seeds for cell in measured)
    there, against = (np.array([_one_sided(c, 0.0, sign) for c in measured]) for sign in (1, -1))
    beyond, within = (
        np.array([_one_sided(c, MARGINS[c.unit], sign) for c in measured]) for sign in (-1, 1)
    )
    claimed = [_sign(cell) * cell.estimate.value for cell in measured]

    def counted(value: int, found: Array, excluded: Array) -> Estimate:
        low, high = (int(np.sum(holm(p) < ALPHA / 2)) for p in (found, excluded))
        return Estimate(value, low, n - high, np.nan, n_seeds, 0)

    half = n // 2
    in_most = ClaimPart(
        IN_MOST,
        "all",
        "cells",
        (half + 0.5, np.inf),
        counted(sum(value > 0 for value in claimed), there, against),
        _count([cell.paper for cell in measured], measured),
        counted=Tests(_both(conjunction(there, half + 1)), _both(conjunction(against, n - half))),
    )
    margins = [MARGINS[cell.unit] for cell in measured]
    exceptions = ClaimPart(
        EXCEPTIONS,
        "all",
        "cells",
        (-np.inf, 0.5),
        counted(sum(v < -m for v, m in zip(claimed, margins, strict=True)), beyond, within),
        role=VETO,
        counted=Tests(_both(float(np.max(within))), _both(conjunction(beyond, 1))),
    )
    return [in_most, exceptions, *beside]


def _sign(cell: ClaimPart) -> int:
    """1 if the claim wants the cell above 0, -1 if below."""
    return 1 if cell.side == ABOVE_0 else -1


def _one_sided(cell: ClaimPart, margin: float, direction: int) -> float:
    """One-sided p-value; small if the effect is above -margin (direction 1), or below it (-1)."""
    sign = _sign(cell)
    distance = sign * cell.estimate.value + margin
    p = cell.estimate.p_of(-sign * margin) / 2
    return p if direction * distance > 0 else 1 - p


def _both(one_sided: float) -> float:
    return min(1.0, 2 * one_sided)


def _count(numbers: Sequence[float], cells: Sequence[ClaimPart]) -> float:
    """In how many cells the paper's own number has the claimed sign; NaN unless all have one."""
    signed = [_sign(cell) * number for cell, number in zip(cells, numbers, strict=True)]
    return float(sum(value > 0 for value in signed)) if not np.isnan(signed).any() else np.nan
