"""One map from a configuration to the settings of each job, which rules and audits share."""

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import update_config
from support.presets import preset

from rm_robustness.experiment.config import merged
from rm_robustness.experiment.paths import FILES, RECORDS, kind_of, location
from rm_robustness.experiment.settings import SETTINGS, compared, configured, differences
from rm_robustness.files import read_json

NAMES = st.text("abcdefgh-@.123", min_size=1, max_size=12)


def record(kind: str) -> str:
    """The path of a record of a kind in the demo."""
    names = {
        "source": "world",
        "backbone": "llama",
        "objective": "bt-bsr",
        "seed": "0",
        "policy": "standard-bt",
        "name": "table5",
        "response_model": "amazon",
        "model": "llama",
        "benchmark": "rm_bench",
    }
    return "runs/demo/" + RECORDS[kind].format(**names)


def test_every_kind_of_record_has_settings():
    assert SETTINGS.keys() == RECORDS.keys()


@given(backbone=NAMES, objective=NAMES, seed=st.integers(0, 999))
def test_the_wildcards_of_a_record_are_read_back(backbone, objective, seed):
    names = {"backbone": backbone, "objective": objective, "seed": str(seed)}
    path = RECORDS["reward_model"].format(**names)
    assert kind_of(path) == ("reward_model", names)


def test_a_pattern_is_filled_in_with_the_given_names():
    filled = location("scores", backbone="llama", split="in_domain")
    assert filled == "scores/llama/{objective}/seed-{seed}/in_domain.parquet"
    assert kind_of("reward_models/llama/bt/seed-0/probes.parquet") is None


def test_every_record_stands_beside_a_file_that_its_job_writes():
    folders = {str(Path(pattern).parent) for pattern in FILES.values()}
    assert {str(Path(pattern).parent) for pattern in RECORDS.values()} <= folders


# Of each kind of record of the demo: a key of the configuration that its job depends on.
EDITS = {
    "responses": ("sources", "world", "prompts"),
    "chats": ("sources", "world", "chats"),
    "benchmark": ("sources", "world", "subtle_prompts"),
    "instructions": ("sources", "world", "instructions"),
    "pretrained": ("backbones", "llama", "init", "layers"),
    "gold": ("gold", "kind"),
    "splits": ("splits", "seed"),
    "backbone": ("sft", "epochs"),
    "reward_model": ("reward_models", "objectives", "bt-bsr", "weight"),
    "policy": ("rloo", "beta"),
    "policy_gold": ("gold", "kind"),
    "scores": ("scoring", "batch_tokens"),
    "ranks": ("ranks", "seed"),
    "answers": ("alpaca_eval", "generation", "max_new_tokens"),
    "judge": ("alpaca_eval", "judge", "retries"),
    "result": ("statistics", "seed_variance"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_is_seen_in_every_kind_of_record(kind):
    config = preset("demo")
    before = copy.deepcopy(configured(config, record(kind)))
    assert differences(before, config, record(kind)) == ""
    *sections, key = EDITS[kind]
    section = config
    for name in sections:
        section = section[name]
    section[key] = "other"
    assert key in str(differences(before, config, record(kind)))


def test_generated_responses_and_preferences_are_seen_too():
    config = preset("paper")
    model = next(iter(config["responses"]["generate"]["models"]))
    path = f"runs/paper/raw/generated/{model}.record.json"
    before = copy.deepcopy(configured(config, path))
    assert before["model"] == f"runs/paper/pretrained/{model}/model"
    config["responses"]["generate"]["options"]["temperature"] = 0.123
    assert "temperature" in str(differences(before, config, path))
    source = next(name for name, s in config["sources"].items() if "Skywork" in s.get("repo", ""))
    path = f"runs/paper/raw/preferences/{source}.record.json"
    before = copy.deepcopy(configured(config, path))
    config["sources"][source]["split"] = "other"
    assert "split" in str(differences(before, config, path))


def test_a_judge_of_each_kind_has_the_settings_that_its_client_reads():
    demo = preset("demo")
    gold = {"kind": "gold", "model": "gold", "concurrency": 4, "retries": 5, "gold": demo["gold"]}
    assert configured(demo, record("judge")) == gold
    paper = preset("paper")
    update_config(paper, preset("judge"))
    served = configured(paper, "runs/paper/alpaca_eval/annotations.record.json")
    assert served["model"] == "runs/paper/pretrained/judge/model"
    origin = configured(paper, "runs/paper/pretrained/judge/manifest.record.json")
    assert origin == {"kind": "hub", "repo": served["repo"], "revision": None}
    hosted = preset("paper")
    update_config(hosted, preset("judge-hosted"))
    section = configured(hosted, "runs/paper/alpaca_eval/annotations.record.json")
    assert section == hosted["alpaca_eval"]["judge"]


def test_only_the_splits_and_the_gold_of_samples_depend_on_a_gold_for_these():
    config = preset("demo")
    kinds = ("splits", "gold", "reward_model", "policy", "scores", "policy_gold")
    before = {kind: copy.deepcopy(configured(config, record(kind))) for kind in kinds}
    gold = {"backbone": "third", "objective": "bt", "responses": 8, "seeds": [0, 5]}
    config["rloo"]["gold"] = gold
    after = {kind: configured(config, record(kind)) for kind in kinds}
    assert [kind for kind in kinds if after[kind] != before[kind]] == ["splits", "policy_gold"]
    assert after["splits"] == before["splits"] | {"gold_responses": 8}
    for figure in ("figure5", "figure6"):
        path = f"runs/demo/results/{figure}.record.json"
        assert configured(config, path) == {"preset": "demo", "gold": gold}
        assert configured(preset("demo"), path) == {"preset": "demo"}
    assert after["policy_gold"] == {
        "kind": "reward_models",
        "models": [f"runs/demo/reward_models/third/bt/seed-{seed}" for seed in (0, 5)],
        "batch_tokens": config["rloo"]["batch_tokens"],
        "dtype": "float32",
    }


def test_what_a_part_of_a_configuration_cannot_say_is_none():
    assert differences({"batch_tokens": 1}, {"grid": {}}, record("scores")) is None
    assert differences({}, preset("demo"), "runs/demo/raw/unknown.record.json") is None


def test_keys_that_dvc_writes_with_dots_are_read():
    config = preset("demo")
    locked = {"scoring": config["scoring"], "ranks.rows": config["ranks"]["rows"], "ranks.seed": 99}
    recorded = configured(config, record("ranks"))
    assert differences(recorded, locked, record("ranks")) == "ranks.seed 5 recorded, 99 there"


@pytest.mark.parametrize(
    "path", ["results/table5.record.json", "runs/demo/other.json", "table5.record.json", "runs/"]
)
def test_a_path_that_no_job_of_a_run_has_is_a_key_error(path):
    with pytest.raises(KeyError):
        configured(preset("demo"), path)


def test_keys_of_one_side_alone_are_passed_over():
    assert compared({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}, "d": 4}) == "b.c 2 recorded, 3 there"


@pytest.mark.slow
def test_every_record_of_a_run_has_the_settings_that_its_configuration_gives(finished):
    config = merged([finished / "config/demo.yaml", finished / "cut.yaml"])
    records = [
        path.relative_to(finished)
        for path in (finished / "runs/cut").rglob("*record.json")
        if "work" not in path.relative_to(finished).parts
    ]
    assert len(records) > 30
    for path in records:
        assert configured(config, str(path)) == read_json(finished / path)["settings"], path


def test_the_page_calls_downloaded_what_is_and_not_what_could_be():
    """An artifact with another source than `released` is made here."""
    downloaded = SETTINGS["index"](preset("paper"))["downloaded"]
    assert downloaded == ["reward_models/Llama-3.1-8B-Instruct/skywork/seed-90"]
