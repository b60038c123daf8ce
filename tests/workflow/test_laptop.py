"""Preset `laptop`, cut: its policies are judged by a larger reward model of the run (D51).

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
from support.real_text import write_alpaca_eval, write_rm_bench
from support.small_rloo import make_policy

from rm_robustness.experiment import catalog
from rm_robustness.experiment.config import merged
from rm_robustness.experiment.jobs import jobs
from rm_robustness.files import read_json, sha256, write_json
from rm_robustness.frames import read_csv, read_frame
from rm_robustness.models.ensemble import mean_rewards

RUN = Path("runs/few")
JUDGED = "runs/few/policy_gold/standard-bt.parquet"
FILES = ("--cores", "2", "--configfile", "few.yaml")


def few(folder: Path) -> dict[str, Any]:
    """The preset `laptop`, cut to what a minute holds."""
    config = preset("laptop")
    config["preset"] = "few"
    for backbone in config["backbones"].values():
        # The template is the tokenizer's own.
        backbone["chat"] = {"template": None, "eos": "<|end|>", "pad": "<|endoftext|>"}
        backbone["keep_layers"] = None
        backbone["reward_models"] |= {"learning_rate": 1e-3, "max_length": 96}
    config["backbones"]["SmolLM2"]["keep_layers"] = 1
    config["grid"]["seeds"] = config["rm_bench"]["seeds"] = [0, 1]
    models = config["responses"]["train_models"] + config["responses"]["valid_models"]
    answers = write_alpaca_eval(folder / "answers", models, 130)
    config["sources"]["alpaca_eval"]["path"] = str(answers)
    bench = write_rm_bench(folder / "bench", tuple(config["rm_bench"]["parts"]))
    config["sources"]["rm_bench"]["path"] = str(bench)
    config["ranks"]["rows"] = [4, 8]
    config["splits"] |= {"train_prompts": 90}
    config["reward_models"] |= {"probe_pairs": 8, "probe_evals": 2}
    for run in config["rloo"]["runs"].values():
        run |= {"reward_model_seeds": [0], "learning_rate": 1e-3}
    config["rloo"] |= {
        **{"seeds": [0], "epochs": 1, "prompts_per_update": 8, "mini_batches": 2, "micro_batch": 8},
        **{"prompt_length": PROMPT, "response_length": 12, "eval_every": 1, "eval_prompts": 6},
    }
    config["rloo"]["gold"]["responses"] = 6
    config["sensitivity"] = None
    return config


PROMPT = 6  # tokens: those of a question of two digits, and not of three


@pytest.fixture(scope="module")
def judged(world, tmp_path_factory) -> Path:
    """A clone in which the cut preset ran to its end."""
    folder = clone(tmp_path_factory.mktemp("few"))
    config = few(folder)
    (folder / "few.yaml").write_text(yaml.safe_dump(config))
    for name in config["backbones"]:
        made = folder / RUN / "pretrained" / name
        make_policy(world, made / "model")
        write_json({}, made / "manifest.json")
    answer = snakemake(folder, *FILES, "--", "all")
    assert answer.returncode == 0, answer.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_gold_is_of_the_run_s_own_reward_models_and_they_have_seen_no_prompt_of_it(
    judged, monkeypatch
):
    monkeypatch.chdir(judged)
    config = merged([Path("few.yaml")])
    pairs = read_frame(RUN / "splits/gold_train.parquet")
    assert set(pairs["prompt_id"]) <= set(read_frame(RUN / "splits/train.parquet")["prompt_id"])
    assert set(config["responses"]["valid_models"]) <= set(pairs["response_model"])
    record = read_json(RUN / "policy_gold/standard-bt.record.json")
    inputs = {entry["path"]: entry["sha256"] for entry in record["inputs"].values()}
    folders = [str(RUN / f"reward_models/SmolLM2-16/bt/seed-{seed}") for seed in (0, 1)]
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
def test_every_result_is_there_and_names_the_gold(judged, monkeypatch):
    monkeypatch.chdir(judged)
    names = catalog.results(merged([Path("few.yaml")]))
    assert {"table1", "table2", "table4", "table5", "figure6"} < set(names)
    assert all((RUN / "results" / f"{name}.csv").stat().st_size for name in names)
    claims = read_csv(RUN / "results/claims.csv")
    assert claims["subject"].str.contains("gold by SmolLM2-16/bt").any()
    rows = read_csv(RUN / "results/table2.csv")
    measured = set(rows.loc[rows["value"].notna(), "metric"])
    assert measured >= {"chat", "code", "safety"} and "math" not in measured


@pytest.mark.slow
def test_long_prompts_are_left_out_and_counted(judged):
    record = read_json(judged / RUN / "policies/standard-bt/seed-0/record.json")
    split = read_frame(judged / RUN / "splits/prompt_disjoint.parquet")
    assert record["prompts"] + record["prompts_dropped"] == split["prompt_id"].nunique()
    assert record["prompts_dropped"] > 0


@pytest.mark.slow
def test_trace_follows_the_gold_to_its_models_and_pairs(judged):
    program = [sys.executable, "-m", "rm_robustness", "trace", JUDGED]
    done = subprocess.run(program, cwd=judged, capture_output=True, text=True, check=True)
    assert re.search(r"reward_models/SmolLM2-16/bt/seed-\{0,1\}/model\.safetensors", done.stdout)
    assert re.search(r"splits/\{prompt_disjoint,gold_train\}\.parquet", done.stdout)
    assert "gold_responses 6" in done.stdout


@pytest.mark.slow
def test_another_gold_trains_no_policy_again(judged):
    gold = "rloo={gold: {seeds: [0]}}"
    again = snakemake(judged, "-n", *FILES, "--", "all")
    assert "Nothing to be done" in again.stderr + again.stdout
    one = snakemake(judged, "-n", *FILES, "--config", gold, "--", JUDGED)
    plan = dict(re.findall(r"^(\w+) +(\d+)$", one.stdout + one.stderr, flags=re.MULTILINE))
    assert plan["policy_gold"] == "1" and not [name for name in plan if name.startswith("rloo")]
    assert not [name for name in plan if name.startswith("reward_models")]


@pytest.mark.slow
def test_the_jobs_of_the_plan_are_those_that_snakemake_makes(judged, monkeypatch):
    monkeypatch.chdir(judged)
    whole = snakemake(judged, "-n", "--forceall", *FILES, "--", "all")
    made = dict(re.findall(r"^(\w+) +(\d+)$", whole.stdout + whole.stderr, flags=re.MULTILINE))
    counted = {rule: int(count) for rule, count in made.items() if rule not in ("all", "total")}
    assert counted == dict(Counter(job.rule for job in jobs(merged([Path("few.yaml")]))))
