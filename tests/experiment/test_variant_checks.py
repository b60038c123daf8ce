"""The section `sensitivity`: what is trained of it, and mistakes that end in one line."""

import json
from typing import Any

import pytest
from snakemake.utils import update_config
from support.paths import ROOT
from support.presets import preset

from rm_robustness.errors import InputError
from rm_robustness.experiment.catalog import ON_REQUEST, results
from rm_robustness.experiment.checks import check
from rm_robustness.experiment.grid import Measurement, measurements, reward_models
from rm_robustness.experiment.jobs import jobs
from rm_robustness.experiment.settings import as_json, configured

SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
PAPER = {"objective": "bt-bsr", "reduction": "paper"}
VARIANTS = {
    "bt-bsr": {},
    "bt-bsr@1e-2": {},
    "bt-bsr@b4": {},
    "bsr-paper": PAPER,
    "squares": {"objective": "bt-squares", "weight": "1e-2", "micro_batch": 4},
}


def demo(variants: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    config = preset("demo")
    squares = {"weight": 1e-3, "reduction": "release"}
    config["reward_models"]["objectives"]["bt-squares"] = squares
    section = {"backbone": "llama", "seeds": [0, 1, 2, 3], **section}
    config["sensitivity"] = {**section, "variants": VARIANTS if variants is None else variants}
    return config


def trained(config: dict[str, Any], name: str) -> dict[str, Any]:
    record = f"runs/demo/reward_models/llama/{name}/seed-0/record.json"
    settings = configured(config, record)
    return {key: settings[key] for key in ("objective", "options", "micro_batch")}


def test_a_variant_is_the_preset_s_training_but_for_what_it_says():
    config = check(demo(), SCHEMA)
    release = {"weight": 1e-3, "reduction": "release"}
    expected = {
        "bt-bsr": ("bt-bsr", release, 16),
        "bt-bsr@1e-2": ("bt-bsr", release | {"weight": 1e-2}, 16),
        "bt-bsr@b4": ("bt-bsr", release, 4),
        "bsr-paper": ("bt-bsr", release | {"reduction": "paper"}, 16),
        "squares": ("bt-squares", release | {"weight": 1e-2}, 4),
    }
    for name, (objective, options, batch) in expected.items():
        made = {"objective": objective, "options": options, "micro_batch": batch}
        assert trained(config, name) == made
    assert config["reward_models"]["objectives"]["bt-bsr"] == release


def test_all_is_what_it_was_but_for_the_scenarios_of_table_2_s_models():
    before, config = preset("demo"), check(demo(), SCHEMA)
    assert results(config) == results(before) and reward_models(config) == reward_models(before)
    assert len(jobs(config)) == len(jobs(before))
    seeds = (0, 1, 2, 3)
    found = measurements(config)
    assert found[Measurement(("scenarios", "rm_bench"), seeds)] == ["llama/bt-bsr@1e-2"]
    assert found[Measurement(("rm_bench",), seeds)] == ["llama/bt-bsr@1e-4"]


def test_the_result_reads_two_scenarios_of_the_reference_and_of_each_variant():
    config, result = demo(), ON_REQUEST["sensitivity"]
    inputs = result.inputs(config)
    assert len(inputs) == len(set(inputs)) == 6 * 4 * 2
    assert "runs/demo/scores/llama/bsr-paper/seed-3/mutual_disjoint.parquet" in inputs
    # As the rules pass them: the order of the preset is that of the table.
    methods = json.loads(as_json(result.settings(config)))["methods"]
    assert [method["name"] for method in methods] == ["bt", *VARIANTS]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"backbone": "lama"}, ["sensitivity.backbone", "'lama'", "'llama'?"]),
        ({"seeds": [0, 9]}, ["sensitivity.seeds", "9", "grid.seeds"]),
        ({"variants": {"bt-bsr@x": {}}}, ["sensitivity.variants", "bt-bsr@x", "positive weight"]),
        ({"variants": {"paper": {}}}, ["sensitivity.variants", "'paper'", "known"]),
        ({"variants": {"bt-bsr@1e-1": PAPER}}, ["variants.bt-bsr@1e-1", "another name"]),
        ({"variants": {"bt-bsr": PAPER}}, ["variants.bt-bsr", "another name"]),
        ({"variants": {"b4": {"micro_batch": 4}}}, ["variants.b4", "no key 'objective'"]),
        ({"variants": {"x": {"objective": "bt-brs"}}}, ["variants.x.objective", "'bt-bsr'?"]),
        (
            {"variants": {"x": {"objective": "bt-dr", "weight": 1}}},
            ["variants.x", "'weight'", "'bt-dr': no option"],
        ),
        (
            {"variants": {"x": {"objective": "bt", "micro_batch": 3}}},
            ["variants.x.micro_batch", "3", "divisor", "16"],
        ),
        (
            {"variants": {"x": {"objective": "bt-bsr", "weight": 1e-2}}},
            ["'x'", "`bt-bsr@1e-2` is the same one"],
        ),
        ({"variants": {"bt-bsr@1e-3": {}}}, ["'bt-bsr@1e-3'", "`bt-bsr` is the same one"]),
        ({"variants": {"x": {"objective": "bt", "wieght": 1}}}, ["wieght", "weight"]),
        ({"variants": {}}, ["sensitivity.variants"]),
    ],
)
def test_a_mistake_is_refused_in_one_line(section, words):
    with pytest.raises(InputError) as caught:
        check(demo(**section), SCHEMA, "mine.yaml")
    line = str(caught.value)
    assert line.startswith("mine.yaml: ") and "\n" not in line
    assert all(word in line for word in words), line


def test_a_preset_without_the_section_is_refused_and_null_is_none():
    config = preset("demo")
    assert config["sensitivity"] is None
    update_config(config, {"sensitivity": 3})
    with pytest.raises(InputError, match="sensitivity: found 3; expected a section or null"):
        check(config, SCHEMA)
    del config["sensitivity"]
    with pytest.raises(InputError, match="no key 'sensitivity'"):
        check(config, SCHEMA)
