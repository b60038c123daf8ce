"""Sensitivity on request, through Snakemake: a cut of the demo, two variants, two seeds."""

import json
import re

import pandas as pd
import pytest
import yaml
from support.cut_demo import DEMO, clone, snakemake
from support.presets import dry_run

SECTION = {
    "reward_models": {"objectives": {"bt-squares": {"weight": 1e-3, "reduction": "release"}}},
    "sensitivity": {
        "backbone": "llama",
        "seeds": [0, 1],
        "variants": {
            "bt-bsr@1e-2": {},
            "squares-b4": {"objective": "bt-squares", "weight": 1e-1, "micro_batch": 4},
        },
    },
}


def planned(text: str) -> dict[str, int]:
    """The jobs of a dry run, by rule."""
    return {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def test_it_is_planned_where_it_is_asked_for_and_trains_no_more_than_it_needs(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SECTION))
    files = "--configfile", "config/demo.yaml", "mine.yaml"
    done = dry_run(tmp_path, *files, "--", "results/sensitivity.md")
    assert done.returncode == 0, done.stdout + done.stderr
    found = planned(done.stdout)
    assert found["sensitivity"] == found["publish_on_request"] == 1
    assert found["reward_models_0"] == 3  # bt, table 2's, and the variant
    assert found["backbone"] == 1 and not {"rloo_0", "table2", "answers"} & found.keys()


def test_a_preset_without_the_section_says_so_in_one_line(tmp_path):
    done = dry_run(tmp_path, "--", "results/sensitivity.md")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "results/sensitivity: found null as sensitivity of preset 'demo'" in line


@pytest.mark.slow
def test_table_figure_and_record_are_there_and_all_makes_nothing_of_it(tmp_path):
    folder = clone(tmp_path)
    (folder / "mine.yaml").write_text(yaml.safe_dump(SECTION))
    arguments = ["--cores", "2", *DEMO, "mine.yaml", "--"]
    done = snakemake(folder, *arguments, "results/sensitivity.md")
    assert done.returncode == 0, done.stderr[-3000:]
    made = sorted(path.name for path in (folder / "results").iterdir())
    suffixes = ("csv", "md", "pdf", "png", "record.json")
    assert made == [f"sensitivity.{suffix}" for suffix in suffixes]
    table = pd.read_csv(folder / "results/sensitivity.csv")
    assert list(table["method"].unique()) == ["bt", "bt-bsr@1e-2", "squares-b4"]
    compared = table[table["method"] != "bt"]
    assert compared[["difference", "difference_low", "mdd80"]].notna().all().all()
    assert set(table["n_seeds"]) == {2} and set(table["preset"]) == {"cut"}
    models = folder / "runs/cut/reward_models/llama"
    record = json.loads((models / "squares-b4/seed-1/record.json").read_text())
    assert record["settings"]["options"] == {"weight": 0.1, "reduction": "release"}
    assert record["settings"]["micro_batch"] == 4
    everything = snakemake(folder, "-n", *arguments, "all")
    found = planned(everything.stdout)
    # bt and table 2's are not trained again, and no variant is trained.
    assert found["reward_models_0"] == 3 and "sensitivity" not in found
