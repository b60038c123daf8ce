"""The paper against its own tables, on the numbers it published."""

import pytest
from support.paths import PUBLISHED

from rm_robustness.results.paper_claims import claims_in_tables
from rm_robustness.results.tables import read_published


def test_published_numbers_are_recomputed():
    own = claims_in_tables(read_published(PUBLISHED))
    assert own["C4"][:2] == (15, "of 16 cells") and "0.8130 against 0.8132" in own["C4"][2]
    assert [own[name][0] for name in ("C5", "C6", "C13")] == [16, 16, 8]
    assert own["C7"][0] == pytest.approx(16.7, abs=0.05)
    assert "10.2 to 29.6 %" in own["C7"][2] and "loses 8.8 (Llama-3.2-3B)" in own["C7"][2]
    assert "+44.6 % (+10.42)" in own["C9"][2] and "+0.14" in own["C9"][2]
    for number in ("+4.3 points (+9.0 %)", "+7.9 points", "70.1 to 70.2", "69.80", "70.03"):
        assert number in own["C10"][2]
    assert "-40.5 % against SFT, -38.7 %" in own["C11"][2]
    assert "+0.61 points, +7.3 % of 8.41" in own["C12"][2]


def test_published_numbers_follow_the_file():
    frame = read_published(PUBLISHED)
    moved = (frame["method"] == "rloo-bt-bsr") & (frame["metric"] == "lc_win_rate")
    frame.loc[moved, "value"] = 16.82
    assert "+8.41 points, +100.0 %" in claims_in_tables(frame)["C12"][2]
    best = (frame["method"] == "bt-bsr") & (frame["metric"] == "in_domain_accuracy")
    frame.loc[best, "value"] = 0.9
    assert claims_in_tables(frame)["C4"][0] == 16
