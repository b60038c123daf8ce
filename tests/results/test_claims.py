"""Verdicts: each rule on numbers in which the answer is plain, and what the page may not say."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.paths import PUBLISHED, ROOT

from rm_robustness.results import claims as module
from rm_robustness.results.claim_evidence import ABOVE_0, BELOW_0, NEAR_1, ClaimPart
from rm_robustness.results.claims import Claim, claims, describe_rule, overall, verdict
from rm_robustness.results.claims_page import claims_markdown
from rm_robustness.results.measurements import NO_ESTIMATE
from rm_robustness.statistics import Estimate

SETTINGS = {
    "preset": "toy",
    "backbones": {"tiny": {"paper_model": None}},
    "objectives": ["bt"],
    "seeds": [0, 1],
    "families": [],
    "reference": "bt",
    "bsr": {"weight": 1e-3, "reduction": "release"},
    "micro_batch": 16,
    "paper_values": PUBLISHED,
    "rm_bench": None,
    "ranks": None,
    "rloo": None,
    "alpaca_eval": None,
}


def part(low, value, high, side=ABOVE_0, p=0.5, seeds=4, **changes) -> ClaimPart:
    return ClaimPart("a", "tiny", "tau", side, Estimate(value, low, high, p, seeds, 9), **changes)


@pytest.mark.parametrize(
    ("side", "low", "value", "high", "expected"),
    [
        (ABOVE_0, 0.1, 0.2, 0.3, "supported"),
        (ABOVE_0, -0.1, 0.2, 0.3, "inconclusive"),
        (ABOVE_0, -0.3, -0.2, -0.1, "contradicted"),
        (ABOVE_0, 0.0, 0.0, 0.0, "inconclusive"),
        (BELOW_0, -0.3, -0.2, -0.1, "supported"),
        (BELOW_0, 0.1, 0.2, 0.3, "contradicted"),
        (NEAR_1, 0.95, 1.0, 1.05, "supported"),
        (NEAR_1, 0.85, 0.95, 1.05, "inconclusive"),
        (NEAR_1, 0.8, 1.0, 1.2, "inconclusive"),
        (NEAR_1, 1.2, 1.3, 1.4, "contradicted"),
        (NEAR_1, 0.6, 0.7, 0.8, "contradicted"),
        ((10, np.inf), 11, 16, 20, "supported"),
        ((10, np.inf), 2, 5, 9, "contradicted"),
    ],
)
def test_the_whole_interval_decides(side, low, value, high, expected):
    assert verdict(part(low, value, high, side)) == expected


def test_one_seed_or_no_interval_is_inconclusive_and_no_value_is_not_measured():
    assert verdict(part(0.1, 0.2, 0.3, seeds=1)) == "inconclusive"
    assert verdict(part(-0.3, -0.2, -0.1, seeds=1)) == "inconclusive"
    assert verdict(part(np.nan, 0.2, np.nan, seeds=2)) == "inconclusive"
    assert verdict(part(0.1, 0.2, 0.3, seeds=1), p_holm=0.001) == "inconclusive"
    assert verdict(ClaimPart("a", "tiny", "tau", ABOVE_0, NO_ESTIMATE)) == "not measured"


def test_in_a_family_the_adjusted_p_value_decides_and_the_sign_says_where():
    clear = part(0.1, 0.2, 0.3)
    assert verdict(clear, p_holm=0.049) == "supported"
    assert verdict(clear, p_holm=0.05) == "inconclusive"
    assert verdict(clear, p_holm=np.nan) == "inconclusive"
    assert verdict(part(-0.3, -0.2, -0.1), p_holm=0.01) == "contradicted"
    assert verdict(part(-0.3, -0.2, -0.1, BELOW_0), p_holm=0.01) == "supported"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "contradicted", "not measured"], "contradicted"),
        (["supported", "not measured"], "inconclusive"),
        (["supported", "inconclusive"], "inconclusive"),
        (["inconclusive", "not measured"], "inconclusive"),
        (["not measured", "not measured"], "not measured"),
    ],
)
def test_a_claim_needs_all_of_its_parts(parts, expected):
    assert overall(parts) == expected
    assert overall(parts[::-1]) == expected


def test_rules_are_written_in_words():
    assert describe_rule(ABOVE_0, False).startswith(
        "supported if the whole 95% interval is above 0, contra"
    )
    assert "is below -20.2, contradicted if it is above -20.2" in describe_rule(
        (-np.inf, -20.249), False
    )
    assert "is between 0.9 and 1.1, contradicted if it is outside" in describe_rule(NEAR_1, False)
    assert "if below 0, contradicted if above 0, each with p < 0.05 after Holm" in describe_rule(
        BELOW_0, True
    )


def judge(monkeypatch, settings=SETTINGS, **made: Claim) -> pd.DataFrame:
    monkeypatch.setattr(module, "CLAIMS", made)
    return claims(Path("nowhere"), settings)


def claim(*parts: ClaimPart, adjust: bool = False) -> Claim:
    return Claim("Something holds.", "table5.csv", lambda run: iter(parts), adjust)


def test_holm_runs_over_the_parts_that_count_and_beside_ones_keep_their_interval(monkeypatch):
    parts = [
        part(0.1, 0.2, 0.3, p=0.02),
        part(0.1, 0.2, 0.3, p=0.01),
        part(0.1, 0.2, 0.3, p=0.0001, counts=False),
        ClaimPart("b", "tiny", "tau", ABOVE_0, NO_ESTIMATE, reason="no such model"),
    ]
    frame = judge(monkeypatch, C4=claim(*parts, adjust=True))
    assert frame["p_holm"].to_list() == pytest.approx(
        [np.nan, 0.02, 0.02, np.nan, np.nan], nan_ok=True
    )
    assert frame["verdict"].to_list() == [
        "inconclusive",
        "supported",
        "supported",
        "supported",
        "not measured",
    ]
    assert frame["note"].to_list()[1:] == ["", "", "", "no such model"]
    clear = judge(monkeypatch, C4=claim(part(0.1, 0.2, 0.3, p=0.03), part(-1, 0.5, 2, p=0.03)))
    assert clear["verdict"].to_list() == ["inconclusive", "supported", "inconclusive"]
    assert clear["p_holm"].isna().all()


def test_a_part_beside_the_claim_does_not_change_its_verdict(monkeypatch):
    beside = part(-0.3, -0.2, -0.1, counts=False)
    frame = judge(monkeypatch, C7=claim(part(0.1, 0.2, 0.3), beside))
    assert frame["verdict"].to_list() == ["supported", "supported", "contradicted"]
    assert "| beside: a " in claims_markdown(frame)


def test_frame_has_a_row_a_part_and_the_claims_own(monkeypatch):
    frame = judge(monkeypatch, C1=claim(part(0.1, 0.2, 0.3)), C2=claim(part(1, 1, 1, NEAR_1)))
    assert list(frame) == module.COLUMNS
    assert frame["part"].to_list() == ["all", "a", "all", "a"]
    assert set(frame["preset"]) == {"toy"} and frame["paper_model"].isna().all()
    own = frame.iloc[1]
    assert (own["value"], own["ci_low"], own["ci_high"], own["n_seeds"]) == (0.2, 0.1, 0.3, 4)
    assert frame[frame["part"] == "all"]["value"].isna().all()


CASES = {
    "C1": claim(part(0.1, 0.2, 0.3)),
    "C2": claim(part(1.2, 1.3, 1.4, NEAR_1)),
    "C3": claim(part(-0.1, 0.0, 0.1, BELOW_0), part(-0.2, -0.1, -0.05, BELOW_0)),
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
    shown = {row[1].strip(): (row[3].strip(), row[4].strip(), row[6].strip()) for row in rows}
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
    adjusted = [name for name, own in module.CLAIMS.items() if own.adjust]
    assert f"{', '.join(adjusted[:-1])} and {adjusted[-1]} are families" in text
