"""The rehearsal's override cuts sizes and nothing else, and its graph is the paper's."""

import re
from collections import Counter
from pathlib import Path

import pytest
from support.paths import ROOT

from rehearsal.__main__ import CPU, PAPER, REHEARSAL
from rehearsal.summary import changed
from rm_robustness.experiment.checks import read_config
from rm_robustness.experiment.jobs import jobs

BATCHES = "global_batch|micro_batch|batch_tokens|save_steps"
# Counts of rows, tokens, steps, seeds and processes, and what pages and plans say of them.
SIZES = [
    "preset",
    "note",
    r"grid\.seeds",
    r"responses\.generate\.options\.max_new_tokens",
    rf"(gold|scoring|sft|reward_models)\.({BATCHES})",
    r"splits\.(train|evaluation)_prompts",
    r"(sft|backbones\..+\.reward_models)\.max_length",
    r"reward_models\.probe_(pairs|evals)",
    r"(ranks\.rows|rm_bench\.seeds)",
    r"rloo\.(seeds|runs\.standard\.reward_model_seeds|epochs|prompts_per_update|mini_batches)",
    r"rloo\.(micro_batch|prompt_length|response_length|batch_size|batch_tokens)",
    r"rloo\.(eval_every|eval_prompts|save_updates)",
    r"alpaca_eval\.(seeds|generation\.max_new_tokens)",
    r"alpaca_eval\.judge\.(tensor_parallel_size|serve_timeout|concurrency)",
    r"sizes\..+",
]
WITHOUT_GPU = [
    r"responses\.generate\.options\.serve_arguments",
    r"alpaca_eval\.generation\.serve_arguments",
    r"alpaca_eval\.judge\.(serve_arguments|tensor_parallel_size)",
]


@pytest.fixture(scope="module")
def paper():
    return read_config(PAPER)


def keys(before: list[Path], after: list[Path]) -> set[str]:
    return {key for key, _ in changed(read_config(before), read_config(after))}


@pytest.mark.parametrize(
    ("before", "override", "allowed"),
    [(PAPER, REHEARSAL, SIZES), ([*PAPER, REHEARSAL], CPU, WITHOUT_GPU)],
)
def test_an_override_changes_sizes_alone(before, override, allowed):
    found = keys(before, [*before, override])
    assert found
    assert not [key for key in found if not any(re.fullmatch(each, key) for each in allowed)]


def test_every_kind_of_job_of_the_paper_is_in_the_rehearsal(paper):
    """Only seeds are fewer."""

    def kinds(config):
        return Counter(
            (job.phase, re.sub(r"_\d+$", "", job.rule), job.name, job.kind) for job in jobs(config)
        )

    theirs, ours = kinds(paper), kinds(read_config([*PAPER, REHEARSAL]))
    assert ours.keys() == theirs.keys()
    fewer = {kind for kind in theirs if ours[kind] != theirs[kind]}
    assert fewer and all(ours[kind] < theirs[kind] for kind in fewer)
    assert {rule for _, rule, _, _ in fewer} == {
        *("reward_models", "measure_scenarios", "measure_rm_bench", "measure_rm_bench_ranks"),
        *("rloo", "answers"),
    }


def test_the_jobs_of_one_backbone_have_two_gpus():
    """So that training over several processes is rehearsed."""
    from rm_robustness.cluster.machines import machines_of
    from rm_robustness.cluster.plan import plan

    machines = machines_of(ROOT / "profiles/rehearsal/config.yaml")
    rows = plan(read_config([*PAPER, REHEARSAL]), machines.node)
    gpus = {(row.phase, row.name): row.resources.gpus for row in rows if row.resources}
    assert not [row.resources.problem for row in rows if row.resources and row.resources.problem]
    two = {job for job, count in gpus.items() if count == 2}
    trained = {("backbones", "Qwen2.5-3B"), ("reward models", "Qwen2.5-3B")}
    assert two == trained | {("judge", "")}
    # What only copies or converts weights needs none.
    none = {phase for (phase, _), count in gpus.items() if count == 0}
    assert none <= {"backbones", "released"}
