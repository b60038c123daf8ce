"""Table 4 against the presets that it is read from."""

from pathlib import Path
from typing import Any

import yaml
from support.paths import ROOT

from rm_robustness.experiment.config import merged
from rm_robustness.results.table4_rloo import table4, table4_markdown


def config(preset: str) -> dict[str, Any]:
    section: dict[str, Any] = yaml.safe_load((ROOT / f"config/{preset}.yaml").read_text())
    return section


def test_the_paper_preset_at_the_papers_sizes_has_the_papers_values():
    sizes = merged([ROOT / "config/paper.yaml", ROOT / "config/paper-sizes.yaml"])
    frame = table4(Path(), sizes).dropna(subset="paper")
    assert frame.groupby("run").size().to_dict() == {"standard": 10, "large": 10}
    assert (frame["value"].astype(str) == frame["paper"].astype(str)).all()
    own = table4(Path(), config("paper")).dropna(subset="paper")
    assert set(own.loc[own["value"] != own["paper"], "key"]) == {"rloo.epochs"}  # D46


def test_table_4_is_read_from_the_config_in_force():
    settings = config("demo")
    frame = table4(Path(), settings)
    for row in frame.itertuples():
        value: Any = settings
        for part in row.key.split("."):
            value = value[part]
        if isinstance(value, float):
            assert float(row.value) == value
    assert set(frame["key"]) >= {f"rloo.{k}" for k in settings["rloo"]} - {
        "rloo.runs",
        "rloo.seeds_per_job",
        "rloo.gold",  # of a model alone
    }
    settings["rloo"]["beta"] = 0.125
    text = table4_markdown(table4(Path(), settings), "A toy.")
    assert "| weight of the KL, beta " in text and "0.125 (paper 0.05)" in text
    assert "A toy." in text and "Preset `demo`" in text


def test_the_model_that_labels_the_samples_is_a_row_where_there_is_one():
    settings = config("demo")
    assert "rloo.gold" not in set(table4(Path(), settings)["key"])
    settings["rloo"]["gold"] = {"backbone": "m", "objective": "bt", "responses": 8, "seeds": [0, 1]}
    rows = table4(Path(), settings).set_index("key").loc["rloo.gold"]
    assert set(rows["value"]) == {"backbone: m, objective: bt, responses: 8, seeds: 0, 1"}
    assert list(rows["run"]) == ["standard", "large"]
