"""The README's numbers and picture are those of the release, read from the store in the clone."""

from support.readme import FIGURE, README, filled
from support.released_results import released_results


def test_the_readme_shows_the_release(tmp_path):
    released = released_results(tmp_path, "demo")
    text = README.read_text(encoding="utf-8")
    assert text == filled(text, released), "PYTHONPATH=tests python -m support.readme RESULTS"
    assert FIGURE.read_bytes() == (released / "figure4.png").read_bytes()
