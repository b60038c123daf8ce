"""The evaluation card: what it shows of a frame, what it leaves out, and how a browser shows it."""

import os
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from support.evaluation_frames import evaluation
from support.paths import ROOT

from rm_robustness.results.evaluation_card import card
from rm_robustness.results.evaluation_rows import cut, headline, short_name

OWN = {"mine": ("mine.jsonl: 12 prompts with chosen and rejected", 12)}
MANY = ["org/Reward-8B", "other/A-long-name-Reward-V2-Llama-3.1-8B", "a/bt/last", "a/bsr/last"]
CUT_TEXTS = """[...document.querySelectorAll('figure svg')].filter(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].some(text => {
    const own = text.getBoundingClientRect();
    return own.left < box.left - 1 || own.right > box.right + 1 || own.bottom > box.bottom + 1; });
}).map(svg => svg.getAttribute('aria-label'))"""


def body(html: str) -> ElementTree.Element:
    """The page's body, which must be well-formed."""
    return ElementTree.fromstring(html[html.index("<body>") : html.index("</html>")])


def text(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def sections(html: str) -> dict[str, ElementTree.Element]:
    return {text(section.find("h2")): section for section in body(html).iter("section")}


def test_a_page_of_two_models_has_every_section_and_its_figures():
    found = sections(card(evaluation()))
    figures = {name: len(list(section.iter("svg"))) for name, section in found.items()}
    assert figures == {
        "Results": 0,
        "Each set": 5,
        "RM-Bench: content or style?": 2,
        "Length": 4,
        "Differences, prompt by prompt": 7,
        "Changes that keep the meaning": 2,
        "What it was measured on": 0,
        "How to read the numbers": 0,
        "How this was made": 0,
    }
    rows = [[text(cell) for cell in row] for row in found["Results"].iter("tr")]
    assert rows[1] == ["", "accuracy", *["Kendall's tau"] * 3, "overall", "hard", "style gap"]
    assert [row[0] for row in rows[2:]] == ["bt", "Reward-8B", "length"]
    assert rows[2][1] == "0.696 ± 0.060" and rows[2][5] == "73.6 ± 4.0"
    made = text(found["How this was made"])
    assert "rm-robustness evaluate runs/demo/llama/bt org/Reward-8B --transformations" in made
    data = text(found["What it was measured on"])
    assert "CC-BY-NC-4.0, no commercial use" in data and "ODC-By-1.0" in data


def test_what_was_not_measured_is_left_out():
    frame = evaluation(["m"], sets=OWN, bench=False, transformations=False)
    found = sections(card(frame))
    assert list(found) == [
        *("Results", "Each set", "Length", "What it was measured on", "How to read the numbers"),
        "How this was made",
    ]
    assert "licence" not in text(found["What it was measured on"])  # nothing known, nothing said
    alone = text(body(card(frame[frame["kind"] == "model"])))
    assert "length is no model" not in alone and "squares" not in alone
    assert "preset" not in alone and "diamonds" not in alone


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.assign(value=np.nan),
        lambda f: f.assign(ci_low=np.nan, ci_high=np.nan, p_value=np.nan, mdd80=np.nan),
        lambda f: f.assign(n_prompts=pd.NA, n_ties=pd.NA, n_undefined=pd.NA, n_left_out=pd.NA),
        lambda f: f[(f["set"] != "rm_bench") | (f["statistic"] == "chat")],
        lambda f: f[f["statistic"] != "tau"],
    ],
)
def test_missing_numbers_break_nothing(change):
    html = card(change(evaluation()))
    body(html)
    assert not re.search(
        r"\bnan\b|<NA>|\bNone\b", re.sub("<style>.*?</style>", "", html, flags=re.S)
    )


def test_a_part_of_rm_bench_has_its_domains_and_says_what_is_missing():
    frame = evaluation()
    part = (frame["set"] != "rm_bench") | frame["statistic"].isin(["chat", "code"])
    frame = frame[part]
    assert headline(frame)[-2:] == [("rm_bench", "chat"), ("rm_bench", "code")]
    found = sections(card(frame))["RM-Bench: content or style?"]
    assert [text(cell) for cell in next(found.iter("tr"))] == ["", "chat", "code"]
    assert "have no number here" in text(found) and not list(found.iter("svg"))


def test_counts_are_said_in_words():
    frame = evaluation(["a", "b"], transformations=False)
    assert "Ties and prompts" not in card(frame)
    first = (frame["name"] == "a") & (frame["metric"] == "prompt_disjoint_tau")
    frame.loc[first, ["n_left_out", "n_undefined", "n_ties"]] = [3, 1, 1234]
    said = text(sections(card(frame))["Ties and prompts without a number"])
    assert ", a: 3 prompts left out" in said and "not defined for 1 prompt (" in said
    assert "1,234 pairs of responses" in said and ", b:" not in said
    assert "--skip-long" in card(frame)


def test_published_numbers_stand_beside_with_their_source():
    found = sections(card(evaluation()))["RM-Bench: content or style?"]
    assert "20 published models" in text(found) and "paper, table 2" in text(found)
    lines = [row for row in found.iter("tr") if row.get("class") == "published"]
    assert len(lines) == 20 and "±" not in text(lines[0])
    assert "published" not in text(body(card(evaluation(published=False))))


def test_nothing_foreign_gets_in():
    evil = '<script>alert(1)</script> $x_1^$ "q" & --> 漢字'
    sets = {evil: (evil, 3)}
    html = card(evaluation([evil, "org/b"], sets=sets, bench=False))
    tags = {element.tag for element in body(html).iter()}
    assert "script" not in tags and "<script" not in html
    assert "default-src 'none'" in html and "src=" not in html and "url(http" not in html
    assert "script" in text(body(html))  # it is shown, as text


def test_ids_are_used_once_and_equal_frames_give_equal_pages():
    html = card(evaluation())
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 100
    assert {name for name in re.findall(r'(?:url\(|href=")#([^")]+)', html)} <= set(ids)
    assert card(evaluation()) == html


@pytest.mark.parametrize(
    ("name", "others", "short"),
    [
        ("org/Reward-8B", ["m"], "Reward-8B"),
        ("org/Reward-8B", ["other/Reward-8B"], "org/Reward-8B"),
        ("/home/me/bt/last", ["/home/me/bsr/last"], "bt/last"),
        ("last", ["bt/last"], "last"),
        ("/home/me/m/", [], "m"),
    ],
)
def test_a_name_is_cut_to_what_distinguishes_it(name, others, short):
    assert short_name(name, [name, *others]) == short


def test_long_names_fit_a_figure():
    assert cut("x" * 30) == "x" * 30
    assert cut("a" * 20 + "b" * 20) == "a" * 14 + "…" + "b" * 15


def test_each_set_has_one_main_statistic():
    pairs = {"mine": ("mine.jsonl", 5)}
    frame = evaluation(["m"], sets=pairs, bench=False)
    assert headline(frame) == [("mine", "tau")]
    assert headline(frame[frame["statistic"] != "tau"]) == [("mine", "accuracy")]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_shows_all_of_it(chromium, width, dark, tmp_path):
    page = tmp_path / "card.html"
    page.write_text(card(evaluation(MANY, references=["llama/bt"], preset="demo")), "utf-8")
    chromium.show(page, width, dark=dark)
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value(CUT_TEXTS) == []
    small = "document.querySelector('figure svg text').getBoundingClientRect().height"
    assert chromium.value(small) >= 9  # pixels, on a phone too
    light = "getComputedStyle(document.body).backgroundColor == 'rgb(255, 255, 255)'"
    assert chromium.value(light) is not dark
    ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
    assert chromium.value(ink) == chromium.value("getComputedStyle(document.body).color")
    assert chromium.value("[...document.scripts].length") == 0
    if shown := os.environ.get("RM_ROBUSTNESS_PICTURES"):  # for a person to look at
        chromium.picture(ROOT / shown / f"card-{width}-{'dark' if dark else 'light'}.png")
