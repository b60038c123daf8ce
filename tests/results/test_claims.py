"""Verdicts: each rule on numbers in which the answer is plain, and what the page may not say."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from support.paths import PUBLISHED, ROOT

from rm_robustness.pivot import Spread
from rm_robustness.results import claims as module
from rm_robustness.results.claim_evidence import NEAR_1
from rm_robustness.results.claim_parts import (
    ABOVE_0,
    BELOW_0,
    BESIDE,
    VETO,
    ClaimPart,
    counts_of,
    decide,
)
from rm_robustness.results.claims import Claim, claims
from rm_robustness.results.claims_page import claims_markdown
from rm_robustness.statistics import NO_ESTIMATE, Estimate, respread

SETTINGS = {
    "preset": "toy",
    "backbones": {"tiny": {"paper_model": None}},
    "objectives": ["bt"],
    "seeds": [0, 1],
    "families": [],
    "reference": "bt",
    "seed_variance": "own",
    "bsr": {"weight": 1e-3, "reduction": "release"},
    "micro_batch": 16,
    "pairs_per_prompt": 1,
    "paper_values": PUBLISHED,
    "rm_bench": None,
    "ranks": None,
    "rloo": None,
    "alpaca_eval": None,
}


def estimate(value: float, half: float, seeds: int = 4) -> Estimate:
    """An estimate whose 95% interval is value ± half."""
    spread = Spread(0, (half / norm.isf(0.025)) ** 2, 0, 0, 10**6)
    return respread(Estimate(value, value, value, 1.0, seeds, 9), spread)


def part(value: float, half: float, side=ABOVE_0, seeds: int = 4, unit="tau", **more) -> ClaimPart:
    return ClaimPart("a", "tiny", unit, side, estimate(value, half, seeds), **more)


def verdict(own: ClaimPart) -> str:
    return decide([own])[1][0]


@pytest.mark.parametrize(
    ("side", "value", "half", "expected"),
    [
        (ABOVE_0, 0.2, 0.1, "supported"),
        (ABOVE_0, 0.2, 0.3, "inconclusive"),
        (ABOVE_0, -0.2, 0.1, "contradicted"),
        (ABOVE_0, 0.0, 0.0, "inconclusive"),
        (BELOW_0, -0.2, 0.1, "supported"),
        (BELOW_0, 0.2, 0.1, "contradicted"),
        (NEAR_1, 1.0, 0.05, "supported"),
        (NEAR_1, 0.95, 0.1, "inconclusive"),
        (NEAR_1, 1.0, 0.2, "inconclusive"),
        (NEAR_1, 1.3, 0.1, "contradicted"),
        (NEAR_1, 0.7, 0.1, "contradicted"),
        ((10, np.inf), 16, 5, "supported"),
        ((10, np.inf), 5, 4, "contradicted"),
    ],
)
def test_the_whole_interval_decides(side, value, half, expected):
    assert verdict(part(value, half, side)) == expected


def test_no_interval_is_inconclusive_and_no_value_is_not_measured():
    single = Estimate(0.2, np.nan, np.nan, np.nan, 1, 1)
    assert verdict(ClaimPart("a", "tiny", "tau", ABOVE_0, single)) == "inconclusive"
    assert verdict(ClaimPart("a", "tiny", "tau", ABOVE_0, NO_ESTIMATE)) == "not measured"


def test_one_checkpoint_contradicts_only_beyond_a_margin(monkeypatch):
    assert verdict(part(0.004, 0.001, seeds=1)) == "supported"
    assert verdict(part(-0.004, 0.001)) == "contradicted"
    assert verdict(part(-0.004, 0.001, seeds=1)) == "inconclusive"
    assert verdict(part(-0.007, 0.001, seeds=1)) == "contradicted"
    assert verdict(part(-0.4, 0.1, seeds=1, unit="points")) == "inconclusive"
    frame = judge(monkeypatch, C10=claim(part(0.2, 0.1, seeds=1)))
    assert frame["scope"].to_list() == ["these checkpoints"] * 2
    assert "## C10: supported for these checkpoints" in claims_markdown(frame)


def test_holm_corrects_contradictions_and_not_support():
    # Two-sided p of 0.03: contradicted alone, not one of two; supported in either case.
    half = norm.isf(0.025) / norm.isf(0.015)
    against, for_it = part(-1, half), part(1, half)
    assert decide([against])[0] == "contradicted"
    whole, verdicts, corrected = decide([against, for_it])
    assert (whole, verdicts) == ("inconclusive", ["inconclusive", "supported"])
    assert corrected[0] == pytest.approx(0.06, rel=1e-3)
    assert decide([for_it, for_it])[0] == "supported"
    beside = replace(for_it, role=BESIDE)
    assert decide([against, beside])[0] == "contradicted"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1], "supported"),
        ([1, -1, None], "contradicted"),
        ([1, None], "inconclusive"),
        ([1, 0], "inconclusive"),
        ([0, None], "inconclusive"),
        ([None, None], "not measured"),
    ],
)
def test_a_claim_needs_all_of_its_parts(values, expected):
    missing = ClaimPart("a", "tiny", "tau", ABOVE_0, NO_ESTIMATE)
    parts = [missing if value is None else part(value, 0.3) for value in values]
    assert decide(parts)[0] == expected
    assert decide(parts[::-1])[0] == expected


def test_a_veto_can_only_contradict():
    veto = part(0.0, 0.3, role=VETO)
    assert decide([part(1, 0.3), veto])[0] == "supported"
    assert decide([part(1, 0.3), part(-1, 0.3, role=VETO)])[0] == "contradicted"
    assert decide([part(0, 0.3), part(1, 0.3, role=VETO)])[0] == "inconclusive"


def cells(values: list[float], half: float = 0.01, side=ABOVE_0) -> list[ClaimPart]:
    return [part(value, half, side) for value in values]


def test_cells_are_counted_by_holm():
    in_most, exceptions, *beside = counts_of(cells([0.1, 0.1, 0.1, 0.001, -0.1]))
    assert (in_most.estimate.value, in_most.estimate.low, in_most.estimate.high) == (4, 3, 4)
    assert in_most.side == (2.5, np.inf) and verdict(in_most) == "supported"
    assert (exceptions.estimate.value, exceptions.estimate.low) == (1, 1)
    assert verdict(exceptions) == "contradicted" and exceptions.role == VETO
    assert [own.role for own in beside] == [BESIDE] * 5


def test_cells_count_in_the_direction_of_the_claim():
    values = [-0.1, -0.1, -0.1, 0.1]
    assert verdict(counts_of(cells(values, side=BELOW_0))[0]) == "supported"
    in_most, exceptions, *_ = counts_of(cells([-0.1, -0.1, -0.1, -0.1], side=ABOVE_0))
    assert verdict(in_most) == "contradicted" and in_most.estimate.high == 0
    assert verdict(exceptions) == "contradicted"


def test_a_cell_within_the_margin_is_no_exception():
    _, exceptions, *_ = counts_of(cells([0.1, 0.1, -0.004], half=0.001))
    assert exceptions.estimate.value == 0 and verdict(exceptions) == "inconclusive"
    _, exceptions, *_ = counts_of(cells([0.1, 0.1, -0.003], half=0.001))
    assert verdict(exceptions) == "supported"
    _, exceptions, *_ = counts_of(cells([0.1, 0.1, -0.05], half=0.06))
    assert exceptions.estimate.value == 1 and verdict(exceptions) == "inconclusive"


def test_half_of_the_cells_is_not_most_of_them():
    assert verdict(counts_of(cells([0.1, 0.1, 0.0, 0.0]))[0]) == "inconclusive"
    assert verdict(counts_of(cells([0.1, 0.1, 0.1, 0.0]))[0]) == "supported"
    assert verdict(counts_of(cells([0.1, 0.1, -0.1, -0.1]))[0]) == "contradicted"


def test_cells_that_were_not_measured_say_why():
    missing = ClaimPart("a", "tiny", "tau", ABOVE_0, NO_ESTIMATE, reason="no such model")
    in_most, exceptions, _ = counts_of([missing])
    assert verdict(in_most) == verdict(exceptions) == "not measured"
    assert in_most.reason == "no such model"


def test_rules_are_written_in_words():
    assert part(1, 1).rule(False) == (
        "supported if the whole 95% interval is above 0, contradicted if it is below 0; "
        "else inconclusive"
    )
    below = part(1, 1, (-np.inf, -20.249)).rule(True)
    assert "is below -20.2, contradicted if it is above -20.2 (p < 0.05 after Holm's" in below
    assert "between 0.9 and 1.1 (an equivalence test), contradicted if it is outside" in part(
        1, 1, NEAR_1
    ).rule(False)
    assert part(1, 1, role=VETO).rule(True).endswith("; it does not support the claim")
    assert "below 0 by more than 0.005" in part(1, 1, seeds=1).rule(False)


def judge(monkeypatch, settings=SETTINGS, **made: Claim) -> pd.DataFrame:
    monkeypatch.setattr(module, "CLAIMS", made)
    return claims(Path("nowhere"), settings)


def claim(*parts: ClaimPart) -> Claim:
    return Claim("Something holds.", "table5.csv", lambda run: iter(parts))


def test_a_part_beside_the_claim_does_not_change_its_verdict(monkeypatch):
    beside = part(-0.2, 0.1, role=BESIDE)
    frame = judge(monkeypatch, C7=claim(part(0.2, 0.1), beside))
    assert frame["verdict"].to_list() == ["supported", "supported", "contradicted"]
    assert "Beside it, without a part in the verdict (1):" in claims_markdown(frame)


def test_every_part_says_what_could_have_been_found(monkeypatch):
    counted = counts_of(cells([0.1, 0.1, 0.0, 0.0, 0.0]))[0]
    parts = part(0.01, 0.05), part(12, 5, (10, np.inf), unit="%"), part(1, 0.2, NEAR_1), counted
    found = judge(monkeypatch, C4=claim(*parts))["could_have_found"].to_list()[1:]
    assert found[0] == "0.071 tau would have been found (80%)"  # 2.8 / 1.96 of the half width
    assert found[1] == "7.1 % beyond 10 would have been found (80%)"
    assert found[2] == "its interval is ±0.2; at most ±0.1 is needed to find them equal"
    assert found[3] == "it is shown in 2; 3 are needed"


def test_the_papers_number_is_held_against_the_interval(monkeypatch):
    frame = judge(monkeypatch, C4=claim(part(0.02, 0.01, paper=0.04), part(0.02, 0.01)))
    own = frame.iloc[1]
    assert not own["contains_paper"] and own["ratio"] == pytest.approx(0.5)
    assert (own["ratio_low"], own["ratio_high"]) == pytest.approx((0.25, 0.75), rel=1e-5)
    assert own["bf_paper"] > 100
    assert frame.iloc[2][["contains_paper", "ratio", "bf_paper"]].isna().all()
    assert "| 0.5 [0.25, 0.75] |" in claims_markdown(frame)
    alone = claims_markdown(judge(monkeypatch, C4=claim(part(0.02, 0.01))))
    assert "Bayes factor" not in alone and "here / paper" not in alone


def test_frame_has_a_row_a_part_and_the_claims_own(monkeypatch):
    frame = judge(monkeypatch, C1=claim(part(0.2, 0.1)), C2=claim(part(1, 0, NEAR_1)))
    assert list(frame) == module.COLUMNS
    assert frame["part"].to_list() == ["all", "a", "all", "a"]
    assert set(frame["preset"]) == {"toy"} and frame["paper_model"].isna().all()
    own = frame.iloc[1]
    assert (own["value"], own["ci_low"], own["ci_high"]) == pytest.approx((0.2, 0.1, 0.3), abs=1e-6)
    assert (own["n_seeds"], own["n_prompts"]) == (4, 9)
    assert frame[frame["part"] == "all"]["value"].isna().all()


CASES = {
    "C1": claim(part(0.2, 0.1)),
    "C2": claim(part(1.3, 0.1, NEAR_1)),
    "C3": claim(part(0.01, 0.1, BELOW_0), part(-0.1, 0.05, BELOW_0)),
    "C11": claim(
        ClaimPart("a", "-", "%", BELOW_0, NO_ESTIMATE, paper=-40.5, reason="no AlpacaEval")
    ),
}


def test_page_says_whose_verdicts_these_are(monkeypatch):
    text = claims_markdown(judge(monkeypatch, **CASES), "A toy world.")
    lines = text.splitlines()
    assert lines[2] == "A toy world."
    about = "These verdicts are about the models of preset `toy`, not about the paper's models."
    assert lines[4] == about
    for heading in (line for line in lines if line.startswith(("| claim", "| part"))):
        cells = [cell.strip() for cell in heading.split("|")]
        assert "verdict in preset `toy`" in cells and "paper (its own tables)" in cells
    assert not re.search(r"refut|disprov|(paper|claim) is (right|wrong|false|true)", text.lower())


def test_no_verdict_on_the_page_stands_without_here(monkeypatch):
    text = claims_markdown(judge(monkeypatch, **CASES))
    tables = [line for line in text.splitlines() if line.startswith("|")]
    cells = {cell.strip() for line in tables for cell in line.split("|")}
    assert {"supported here", "contradicted here", "inconclusive", "not measured"} <= cells
    assert not cells & {"supported", "contradicted"}
    headings = [line for line in text.splitlines() if line.startswith("## C")]
    assert headings == [
        "## C1: supported here",
        "## C2: contradicted here",
        "## C3: inconclusive",
        "## C11: not measured",
    ]


def test_page_names_the_papers_models_that_stand_in(monkeypatch):
    settings = SETTINGS | {"backbones": {"tiny": {"paper_model": "Qwen2.5-3B"}}}
    text = claims_markdown(judge(monkeypatch, settings, C1=CASES["C1"]))
    assert "not about the paper's models. Corresponding models: `tiny` for Qwen2.5-3B." in text


def test_table_of_claims_shows_the_value_or_counts_the_parts(monkeypatch):
    text = claims_markdown(judge(monkeypatch, **CASES))
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| C\d", line)]
    shown = {row[1].strip(): (row[3].strip(), row[4].strip(), row[7].strip()) for row in rows}
    assert [row[5].strip() for row in rows] == [
        "",
        "",
        "a (tiny): 0.14 tau would have been found (80%)",
        "",
    ]
    assert shown == {
        "C1": ("-", "0.2 [0.1, 0.3] tau", "table5.csv"),
        "C2": ("-", "1.3 [1.2, 1.4] tau", "table5.csv"),
        "C3": ("-", "of 2 parts 1 supported, 1 inconclusive", "table5.csv"),
        "C11": ("-40.5 %", "not measured", "table5.csv"),
    }
    assert "no AlpacaEval" in text and "- C11: '40 % shorter' is -40.5 % against SFT" in text


def test_page_is_the_same_from_the_csv(monkeypatch, tmp_path):
    frame = judge(monkeypatch, **CASES)
    frame.to_csv(tmp_path / "claims.csv", index=False)
    assert claims_markdown(pd.read_csv(tmp_path / "claims.csv")) == claims_markdown(frame)


def test_every_claim_has_its_rule_in_the_documents():
    text = (ROOT / "docs" / "CLAIMS.md").read_text(encoding="utf-8")
    assert list(module.CLAIMS) == [f"C{number}" for number in range(1, 14)]
    for name, own in module.CLAIMS.items():
        section = re.search(rf"\*\*(C\d+, )?{name}[.,].*?(?=\n\n)", text, re.DOTALL)
        assert section, name
        kind, number = re.fullmatch(r"(table|figure)(\d)\.csv", own.artifact).groups()
        assert f"{kind} {number}" in section[0].lower(), name
