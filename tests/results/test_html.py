"""Pages: what a reader sees of a table, that nothing foreign gets in, and sums over benchmarks."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm_robustness.errors import InputError
from rm_robustness.results.html import page
from rm_robustness.results.run_times import run_times
from rm_robustness.results.tables import cell, difference_cell, interval, markdown_table

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def body(html: str) -> ElementTree.Element:
    """Parse the page's body, which must be well-formed."""
    return ElementTree.fromstring(html[html.index("<body>") : html.index("</html>")])


def rendered(cells: list[list[str]]) -> list[list[ElementTree.Element]]:
    """Render a table and take its rows of cells back from the page."""
    return [list(row) for row in body(page("\n".join(markdown_table(cells)), "a table")).iter("tr")]


def text(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def test_headings_paragraphs_lists_and_code_are_rendered():
    html = page("# One\n\n## Two\n\nA `span` and\nmore.\n\n- a\n- b\n", "Title <&>")
    assert "<title>Title &lt;&amp;&gt;</title>" in html
    top = body(html)
    assert [e.tag for e in top] == ["h1", "h2", "p", "ul"]
    assert text(top.find("p")) == "A span and\nmore." and text(top.find("p/code")) == "span"
    assert [text(e) for e in top.iter("li")] == ["a", "b"]


def test_columns_of_numbers_stand_to_the_right_and_others_do_not():
    rows = rendered(
        [
            ["method", "tau", "lambda", "verdict", "hidden", "of model 7"],
            ["bt", "0.3256 ± 0.0351", "1e-3", "0.31 [0.20, 0.42]", "-", "7 of 9 fell"],
            ["bt-dr", "not measured", "", "-1.5 %", "-", "8"],
        ]
    )
    for row in rows:
        assert [e.get("class") for e in row] == [None, "number", "number", "number", None, None]
    assert [text(e) for e in rows[2]] == ["bt-dr", "not measured", "", "-1.5 %", "-", "8"]


def test_an_arrow_and_the_papers_number_are_set_apart_from_the_value():
    row = {"value": 0.61, "ci_low": 0.6, "ci_high": 0.62, "p_holm": 0.01, "paper": 0.5}
    cells = [cell(pd.Series(row | {"difference": d})) for d in (-0.1, 0.1)]
    rows = rendered([["tau"], *([c] for c in cells)])
    down, risen = rows[1][0], rows[2][0]
    assert down.text == "0.6100 ± 0.0100" and down.find("small").text == "paper 0.5000"
    assert (down.find("span").get("class"), down.find("span").text) == ("down", "↓")
    assert (risen.find("span").get("class"), risen.find("span").text) == ("up", "↑")


def test_a_difference_is_signed_and_an_uneven_interval_shows_both_ends():
    row = {"difference": -0.01, "difference_low": -0.03, "difference_high": 0.01, "p_holm": 0.5}
    text_of_row = difference_cell(pd.Series(row | {"paper_difference": 0.0236}))
    assert text_of_row == "-0.0100 ± 0.0200 (paper +0.0236)"
    assert interval(70.0, 40.0, 89.0, ".1f") == "70.0 [40.0, 89.0]"
    assert interval(0.5, 0.3, 0.699, "+.2f") == "+0.50 ± 0.20"  # arms within 2%
    assert interval(0.5, float("nan"), float("nan"), ".2f") == "0.50"
    cells = [[text_of_row], [interval(0.5, 0.4, 0.9, "+.2f") + " ↑ (paper +0.50)"]]
    rows = rendered([["tau"], *cells])
    assert [row[0].get("class") for row in rows] == ["number"] * 3
    assert rows[2][0].text == "+0.50 [+0.40, +0.90]"


def test_every_table_of_a_page_is_judged_by_itself():
    one, other = [["n"], ["12"]], [["n", "who"], ["many", "3"]]
    html = page("\n".join([*markdown_table(one), "", "words", "", *markdown_table(other)]), "two")
    assert [e.get("class") for e in body(html).iter("th")] == ["number", None, "number"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40))
def test_text_gets_into_a_page_as_text(words):
    html = page(f"{words}\n\n| a |\n| - |\n| {words} |\n", words)
    tags = {e.tag for e in body(html).iter()}
    assert not tags & {"script", "img", "style", "iframe", "object", "link"}


def test_a_page_loads_and_runs_nothing():
    attack = "<script>alert(1)</script> ![x](http://example.org/x.png) [y](javascript:alert(1))"
    html = page(f"# A\n\n{attack}\n", "a")
    assert not re.search("<script|<img", html) and "&lt;script&gt;" in html
    assert "javascript:" not in re.sub(r">[^<]*<", "><", html)
    assert "default-src 'none'" in html
    assert not re.search(r"<link|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html and "position: sticky" in html


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    jobs = {
        "reward_models/llama/bt/seed-0": "3590.6\t0:59:50\t717.2\t1\t1\t1\t1\t1\t90\t3000",
        "reward_models/llama/bt-dr/seed-0": "4000.0\t1:06:40\t650.0\t1\t1\t1\t1\t1\t90\t9000",
        "scores/llama/bt/seed-0": "15.7\t0:00:15\t-\t-\t-\t-\t-\t-\t-\t14.8",
        "gold": "1.2\t0:00:01\tNA\tNA\tNA\tNA\tNA\tNA\tNA\t0.9",
    }
    for job, line in jobs.items():
        path = tmp_path / "benchmarks" / f"{job}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + line + "\n")
    return tmp_path / "benchmarks"


def test_run_times_sums_every_phase(benchmarks):
    lines = [line for line in run_times(benchmarks).splitlines() if line.startswith("|")]
    cells = [[text.strip() for text in line.split("|")[1:-1]] for line in lines]
    longest = "`reward_models/llama/bt-dr/seed-0`"
    assert cells[2:] == [
        ["reward_models", "2", "2:06:31", "1:06:40", longest, "3:20:00", "717 MiB"],
        ["scores", "1", "0:00:16", "0:00:16", "`scores/llama/bt/seed-0`", "0:00:15", ""],
        ["gold", "1", "0:00:01", "0:00:01", "`gold`", "0:00:01", ""],
        ["total", "4", "2:06:47", "1:06:40", longest, "3:20:16", "717 MiB"],
    ]


def test_run_times_as_a_page_has_its_numbers_to_the_right(benchmarks):
    heads = body(page(run_times(benchmarks), "Run times")).iter("th")
    right = [text(e) for e in heads if e.get("class") == "number"]
    assert right == ["jobs", "wall time", "longest", "CPU time", "largest memory"]


def test_foreign_benchmarks_are_named(benchmarks):
    path = benchmarks / "scores/llama/bt/seed-0.tsv"
    path.write_text("s\tmax_rss\n1\t2\n")
    with pytest.raises(InputError, match="cpu_time") as error:
        run_times(benchmarks)
    assert str(path) in str(error.value)


def test_a_run_that_was_fetched_has_no_run_times_and_says_so(tmp_path):
    text = page(run_times(tmp_path / "nowhere"), "Run times")
    assert "Not measured here: this run was fetched" in text and "<table" not in text


def test_verdicts_have_marks_and_results_and_claims_have_links():
    text = """## C1: contradicted here

| claim | verdict in preset `toy` | artifact | note |
| --- | --- | --- | --- |
| C1 | supported here | figure2.csv | |
| C12 | not measured | ../x.csv | |
"""
    top = body(page(text, "claims"))
    heading = top.find("h2")
    assert heading.get("id") == "C1" and heading.find("span").text == "✗"
    rows = [list(row) for row in top.iter("tr")]
    assert [len(row) for row in rows] == [3, 3, 3]  # nobody has a note
    assert [row[1].find("span").get("class") for row in rows[1:]] == [
        "mark supported",
        "mark not-measured",
    ]
    assert [row[1].find("span").text for row in rows[1:]] == ["✓", "–"]  # noqa: RUF001
    links = [[cell.find("a") for cell in row] for row in rows[1:]]
    assert [link.get("href") for link in (links[0][0], links[0][2])] == ["#C1", "figure2.csv"]
    assert links[1][2] is None  # not a result
