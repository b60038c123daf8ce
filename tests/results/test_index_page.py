"""The page of all results, made of the released demo's and seen in a browser."""

import os
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT
from support.presets import preset
from support.released_results import released_results

from rm_robustness.errors import InputError
from rm_robustness.experiment.settings import SETTINGS
from rm_robustness.files import read_json, track_reads
from rm_robustness.results.index_page import index_page
from rm_robustness.results.verdicts import read_verdicts, tally

CAPTIONS = ROOT / "workflow/report"
SETTING = SETTINGS["index"](preset("demo"))
# A box that is as large as a picture without anything to see in it.
EMPTY = """[...document.body.querySelectorAll('*')].filter(e => {
  const box = e.getBoundingClientRect();
  return !e.closest('details:not([open]), dl, .table') && box.width > 40 && box.height > 40
    && !e.textContent.trim() && !e.matches('img, figure, figure *');
}).map(e => e.outerHTML.slice(0, 80))"""
# Wider than the window, and not inside a frame that scrolls.
TOO_WIDE = """[...document.body.querySelectorAll('*')].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1 && !e.parentElement.closest('.table, pre')
).map(e => e.outerHTML.slice(0, 80))"""
LINKS = """[...document.querySelectorAll('a, img')].map(
  e => e.getAttribute('href') || e.getAttribute('src'))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = released_results(tmp_path_factory.mktemp("released") / "results", "demo")
    (folder / "index.html").write_text(made(folder), "utf-8")
    return folder / "index.html"


def made(folder: Path, **changes: Any) -> str:
    """The page of a folder of results; `changes` of its settings."""
    records = {name: read_json(folder / f"{name}.record.json") for name in SETTING["results"]}
    return index_page(folder, CAPTIONS, SETTING | changes, records)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 380])
def test_a_browser_shows_all_of_it(page, chromium, width, dark, tmp_path):
    chromium.show(page, width, dark=dark)
    assert chromium.value("[...document.images].filter(e => !e.naturalWidth).map(e => e.src)") == []
    assert chromium.value("document.images.length") == 6
    assert chromium.value("document.querySelectorAll('h1').length") == 1
    assert chromium.value(EMPTY) == []
    assert chromium.value(TOO_WIDE) == []
    assert chromium.value("document.documentElement.scrollWidth") <= width
    said = " ".join(chromium.value("document.querySelector('.tally').textContent").split())
    assert said == tally(read_verdicts(page.with_name("claims.csv")))
    light = "getComputedStyle(document.body).backgroundColor == 'rgb(255, 255, 255)'"
    assert chromium.value(light) is not dark
    card = "getComputedStyle(document.querySelector('figure')).backgroundColor"
    assert chromium.value(card) == "rgb(255, 255, 255)"
    assert chromium.value("[...document.scripts].length") == 0
    if shown := os.environ.get("RM_ROBUSTNESS_PICTURES"):  # for a person to look at
        chromium.picture(ROOT / shown / f"index-{width}-{'dark' if dark else 'light'}.png")


def test_its_tally_is_the_terminals(page):
    line = re.search(r'<p class="tally">(.*)</p>', page.read_text("utf-8"))
    said = unescape(re.sub(r"<[^>]+>", "", line[1]))
    assert said == tally(read_verdicts(page.with_name("claims.csv")))


def test_its_links_lead_somewhere(page, chromium):
    chromium.show(page, 1280)
    ids = set(chromium.value("[...document.querySelectorAll('[id]')].map(e => e.id)"))
    for link in chromium.value(LINKS):
        if link.startswith("#"):
            assert link[1:] in ids, link
        elif not link.startswith("https://"):
            assert (page.parent / link).is_file(), link


def test_it_has_every_result_in_the_papers_order(page):
    text = page.read_text("utf-8")
    order = "figure1 figure2 figure3 figure4 table5 figure5 figure6 table4 table1 table2 table3"
    assert re.findall(r'<article id="(\w+)"', text) == order.split()
    claims = [row["claim"] for row in read_verdicts(page.with_name("claims.csv"))]
    assert re.findall(r'<h\d id="(C\d+)"', text) == claims and len(claims) == 13
    assert text.count("<summary>Table 5") == 1 and "runs/demo/scores/llama/bt/seed-0/" in text


def test_what_a_preset_leaves_out_is_said(page):
    left = [name for name in SETTING["results"] if name not in ("figure5", "figure6")]
    unjudged = {**SETTING["alpaca_eval"], "judge": None}
    text = made(page.parent, rloo=None, alpaca_eval=unjudged, results=left)
    assert "not run: <code>rloo</code> is null" in text
    assert "not judged: <code>judge</code> is null" in text
    assert "<code>figure5</code>, <code>figure6</code></td>" in text
    assert 'id="figure5"' not in text


def test_nothing_foreign_gets_in(page):
    text = made(page.parent, note="<script>1</script>", preset="<i>")
    assert "<script" not in text and "&lt;script&gt;" in text and "<i>" not in text


def test_its_inputs_are_the_files_that_it_shows_and_a_missing_one_is_named(page):
    with track_reads() as read:
        made(page.parent)
    names = {path.name for path in read}
    assert {"claims.csv", "claims.md", "figure4.png", "table5.md", "figure4.rst"} <= names
    (page.parent / "figure6.png").unlink()
    with pytest.raises(InputError, match=r"figure6\.png"):
        made(page.parent)
