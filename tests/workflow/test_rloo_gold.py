"""A preset of real text whose policies are judged by a larger reward model of the run (D51).

The texts are a few made-up answers in AlpacaEval's layout. Its pretrained models are tiny stand-ins
with a chat template of their own, where the rule `pretrained` would put them.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.cut_demo import clone, snakemake
from support.presets import preset
from support.real_text import write_alpaca_eval
from support.small_rloo import make_policy

from rm_robustness.experiment.config import merged
from rm_robustness.experiment.jobs import jobs
from rm_robustness.files import read_json, sha256, write_json
from rm_robustness.frames import read_frame
from rm_robustness.models.ensemble import mean_rewards

RUN = Path("runs/few")
JUDGED = "runs/few/policy_gold/standard-bt.parquet"
FILES = ("--cores", "1", "--configfile", "few.yaml")


def few(answers: Path) -> dict[str, Any]:
    """The preset `small` with RLOO, cut to what a minute holds."""
    config = preset("small")
    own = config["backbones"].pop("SmolLM2-135M")
    # The template is the tokenizer's own.
    own["chat"] = {"template": None, "eos": "<|end|>", "pad": "<|endoftext|>"}
    own["reward_models"] = {"learning_rate": 1e-3, "max_length": 96, "preferences": None}
    shape = config["sizes"]["backbones"]["SmolLM2-135M"]
    config["backbones"] = {"chat": own, "judge": own}
    config["sizes"]["backbones"] = {"chat": shape, "judge": shape}
    config["preset"] = "few"
    config["grid"] |= {"backbones": ["chat"], "objectives": ["bt", "bt-bsr"], "seeds": [0, 1]}
    config["sources"]["alpaca_eval"]["path"] = str(answers)
    config["rm_bench"] = config["ranks"] = None
    config["splits"] |= {"train_prompts": 90}
    config["reward_models"] |= {
        **{"pairs": "all", "epochs": 1, "global_batch": 4, "micro_batch": 4, "bf16": False},
        **{"gradient_checkpointing": False, "probe_pairs": 8, "probe_evals": 2},
        "seeds_per_job": 2,
    }
    run = {"policy": "chat", "reward_models": {"bt": "chat/bt", "bt-bsr": "chat/bt-bsr"}}
    run |= {"reward_model_seeds": [0], "learning_rate": 1e-3}
    config["rloo"] = preset("demo")["rloo"] | {
        **{"runs": {"standard": run, "large": run}, "seeds": [0], "seeds_per_job": 1},
        **{"epochs": 1, "prompts_per_update": 8, "mini_batches": 2, "micro_batch": 8},
        **{"prompt_length": PROMPT, "response_length": 12, "eval_every": 1, "eval_prompts": 6},
        "gold": {"backbone": "judge", "objective": "bt", "responses": 6, "seeds": [0, 1]},
    }
    return config


PROMPT = 6  # tokens: those of a question of two digits, and not of three


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> Path:
    """A clone in which a policy was trained and judged."""
    folder = clone(tmp_path_factory.mktemp("few"))
    models = preset("small")["responses"]
    models = [*models["train_models"], *models["valid_models"]]
    config = few(write_alpaca_eval(folder / "answers", models, 130))
    (folder / "few.yaml").write_text(yaml.safe_dump(config))
    for name in config["backbones"]:
        made = folder / RUN / "pretrained" / name
        make_policy(world, made / "model")
        write_json({}, made / "manifest.json")
    answer = snakemake(folder, *FILES, "--", JUDGED)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_gold_is_of_the_run_s_own_reward_models_and_they_have_seen_no_prompt_of_it(
    finished, monkeypatch
):
    monkeypatch.chdir(finished)
    config = merged([Path("few.yaml")])
    pairs = read_frame(RUN / "splits/gold_train.parquet")
    assert set(pairs["prompt_id"]) <= set(read_frame(RUN / "splits/train.parquet")["prompt_id"])
    assert set(config["responses"]["valid_models"]) <= set(pairs["response_model"])
    record = read_json(RUN / "policy_gold/standard-bt.record.json")
    inputs = {entry["path"]: entry["sha256"] for entry in record["inputs"].values()}
    folders = [str(RUN / f"reward_models/judge/bt/seed-{seed}") for seed in (0, 1)]
    for folder in folders:
        weights = f"{folder}/model.safetensors"
        assert inputs[weights] == sha256(Path(weights))
        trained = read_json(Path(folder) / "record.json")["inputs"]
        assert trained["train"]["path"] == str(RUN / "splits/gold_train.parquet")
        assert trained["held_out"]["path"] == str(RUN / "splits/prompt_disjoint.parquet")
        assert "is not that judge" in (Path(folder) / "README.md").read_text()
    samples = read_frame(Path(JUDGED))
    assert not set(samples["prompt"]) & set(pairs["prompt"])
    texts = list(samples["prompt"]), list(samples["response"])
    settings = {"models": folders, "batch_tokens": 0, "dtype": "float32"}
    np.testing.assert_allclose(samples["gold"], mean_rewards(*texts, settings), atol=1e-5)
    assert samples["gold"].nunique() > 2
    assert samples["n_tokens"].max() <= 12 and samples["finished"].any()


@pytest.mark.slow
def test_long_prompts_are_left_out_and_counted(finished):
    record = read_json(finished / RUN / "policies/standard-bt/seed-0/record.json")
    split = read_frame(finished / RUN / "splits/prompt_disjoint.parquet")
    assert record["prompts"] + record["prompts_dropped"] == split["prompt_id"].nunique()
    assert record["prompts_dropped"] > 0


@pytest.mark.slow
def test_trace_follows_the_gold_to_its_models_and_pairs(finished):

    program = [sys.executable, "-m", "rm_robustness", "trace", JUDGED]
    done = subprocess.run(program, cwd=finished, capture_output=True, text=True, check=True)
    assert re.search(r"reward_models/judge/bt/seed-\{0,1\}/model\.safetensors", done.stdout)
    assert re.search(r"splits/gold_train\.parquet", done.stdout)
    assert "gold_responses 6" in done.stdout


@pytest.mark.slow
def test_another_gold_trains_no_policy_again(finished):
    gold = "rloo={gold: {seeds: [0]}}"
    again = snakemake(finished, "-n", *FILES, "--", JUDGED)
    assert "Nothing to be done" in again.stderr + again.stdout
    one = snakemake(finished, "-n", *FILES, "--config", gold, "--", JUDGED)
    plan = dict(re.findall(r"^(\w+) +(\d+)$", one.stdout + one.stderr, flags=re.MULTILINE))
    assert plan["policy_gold"] == "1" and not [name for name in plan if name.startswith("rloo")]
    assert not [name for name in plan if name.startswith("reward_models")]


@pytest.mark.slow
def test_the_jobs_of_the_plan_are_those_that_snakemake_makes(finished, monkeypatch):
    monkeypatch.chdir(finished)
    whole = snakemake(finished, "-n", "--forceall", *FILES, "--", "all")
    made = dict(re.findall(r"^(\w+) +(\d+)$", whole.stdout + whole.stderr, flags=re.MULTILINE))
    counted = {rule: int(count) for rule, count in made.items() if rule not in ("all", "total")}
    assert counted == dict(Counter(job.rule for job in jobs(merged([Path("few.yaml")]))))
