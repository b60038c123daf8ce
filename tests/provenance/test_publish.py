"""results/ has one preset's results, whole, and what a person has put there."""

from pathlib import Path

import pytest

from rm_robustness.provenance.publish import publish
from rm_robustness.provenance.snakemake_metadata import Metadata


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """Two presets with table 2; one has table 3 too."""
    monkeypatch.chdir(tmp_path)
    for name in ("demo/table2", "demo/table3", "laptop/table2"):
        for end in (".csv", ".md", ".html", ".record.json"):
            path = Path(f"runs/{name.replace('/', '/results/')}{end}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {end}")


def results(preset: str, *names: str) -> list[Path]:
    ends = (".csv", ".md", ".record.json")
    return [Path(f"runs/{preset}/results/{name}{end}") for name in names for end in ends]


def found() -> dict[str, str]:
    return {path.name: path.read_text().split("/")[0] for path in Path("results").iterdir()}


def test_what_another_preset_has_there_is_replaced_whole():
    publish(results("demo", "table2", "table3"))
    assert set(found().values()) == {"demo"} and len(found()) == 6
    publish(results("laptop", "table2"))
    assert found() == dict.fromkeys(("table2.csv", "table2.md", "table2.record.json"), "laptop")


def test_of_one_preset_what_was_there_stays_and_what_is_newer_is_copied():
    publish(results("demo", "table2", "table3"))
    Path("runs/demo/results/table2.csv").write_text("demo/newer")
    publish(results("demo", "table2"))
    assert len(found()) == 6
    assert Path("results/table2.csv").read_text() == "demo/newer"


def test_a_result_that_was_made_again_takes_its_old_copy_away():
    publish(results("demo", "table2", "table3"))
    Path("runs/demo/results/table3.record.json").write_text("demo/newer")
    publish(results("demo", "table2"))
    assert {name.split(".")[0] for name in found()} == {"table2"}


def test_other_files_stay():
    Path("results").mkdir()
    Path("results/report.html").write_text("mine")
    publish(results("laptop", "table2"))
    publish(results("demo", "table2"))
    assert Path("results/report.html").read_text() == "mine"


def test_a_copy_is_noted_with_the_files_of_its_result():
    publish(results("demo", "table2", "table3"))
    assert Metadata().of("results/table2.md")["input"] == [
        "runs/demo/results/table2.csv",
        "runs/demo/results/table2.md",
        "runs/demo/results/table2.record.json",
    ]
