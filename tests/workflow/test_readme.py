"""Numbers and pictures of a document are those of the release, read from the store in the clone."""

import pytest
from support.paths import ROOT
from support.readme import BLOCK, PAGES, filled, pictures
from support.released_results import released_results

BLOCKS = {
    "README.md": ["averages", "table5", "verdicts"],
    "docs/LAPTOP.md": ["averages", "claims", "sensitivity", "table1", "table2", "verdicts"],
    "docs/DEMO.md": ["averages", "table5", "verdicts"],
}


@pytest.mark.parametrize("page", PAGES)
def test_a_document_shows_the_release(page, tmp_path):
    text, released = (ROOT / page).read_text("utf-8"), released_results(tmp_path, PAGES[page])
    assert text == filled(text, released), "dvc pull; PYTHONPATH=tests python -m support.readme"
    assert sorted(BLOCK.findall(text)) == BLOCKS[page]  # each once
    assert pictures(text)
    for result, preset in pictures(text):
        shown = (ROOT / "docs" / f"{result}-{preset}.png").read_bytes()
        assert preset == PAGES[page]
        assert shown == (released / f"{result}.png").read_bytes()
