"""Scores and effective ranks: what the rules of workflow/rules/scores.smk read."""

import re

from support.presets import PINNED, dry_run


def test_ranks_are_measured_on_the_pairs_that_the_models_were_trained_on(tmp_path):
    target = "runs/paper/ranks/Llama-3.1-8B-Instruct/skywork/seed-90.parquet"
    files = "config/paper.yaml", str(PINNED)
    done = dry_run(tmp_path, "--configfile", *files, "--", target)
    read = inputs(done)["measure_rm_bench_ranks_90"]
    assert "raw/preferences/skywork.parquet" in read and "splits/" not in read


def test_a_model_that_is_named_gets_its_scenarios_and_one_of_the_preset_all_that_is_its(tmp_path):
    scores = "runs/demo/scores"
    targets = [f"{scores}/qwen2/bt-bsr@1e-1/seed-0/in_domain.parquet"]
    targets += [f"{scores}/llama/bt/seed-1/in_domain.parquet"]
    read = inputs(dry_run(tmp_path, "--", *targets))
    assert "rm_bench" not in read["measure_scenarios_0_1_2_3"]
    every = read["measure_scenarios_rm_bench_ranks_0_1_2_3"]
    assert "raw/rm_bench.parquet" in every and "splits/train.parquet" in every
    assert all(f"reward_models/llama/bt/seed-{seed}/model" in every for seed in range(4))


def inputs(done):
    """The inputs of each planned rule, of its last job."""
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"^rule (measure\w+):\n +input: (.+)", done.stdout, re.MULTILINE))
