"""What is refused before anything is submitted."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.cut_demo import snakemake
from support.paths import ROOT
from support.presets import PINNED

from rm_robustness.cluster import slurm as cluster
from rm_robustness.cluster.slurm import Request
from rm_robustness.errors import InputError


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let Slurm's programs give an answer."""

    def answer(stdout: str = "", stderr: str = "", status: int = 0) -> None:
        done = subprocess.CompletedProcess([], status, stdout, stderr)
        monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: done)
        monkeypatch.setattr(cluster.shutil, "which", lambda name: f"/usr/bin/{name}")

    return answer


def test_only_jobs_of_this_folder_s_snakemake_are_its_jobs(answers, tmp_path: Path):
    answers(
        f"7\tRUNNING\t{tmp_path}\trule_gold\n"
        f"8\tPENDING\t{tmp_path}/other\trule_gold\n"
        f"9\tRUNNING\t{tmp_path}\t(null)\n"  # perhaps the job in which Snakemake itself runs
    )
    assert [job.number for job in cluster.queued_jobs(tmp_path)] == ["7"]
    with pytest.raises(InputError, match=r"7 RUNNING rule_gold.*squeue -j 7.*scancel 7"):
        cluster.refuse_queued_jobs(tmp_path)


def test_a_controller_that_does_not_answer_is_no_empty_queue(answers, tmp_path: Path):
    answers(stderr="slurm_load_jobs error: Unable to contact slurm controller", status=1)
    with pytest.raises(cluster.UnreachableError, match="Unable to contact slurm controller"):
        cluster.queued_jobs(tmp_path)


def test_a_refused_job_is_shown_with_what_there_is(answers):
    answers(stderr="allocation failure: Invalid account", status=1)
    request = Request("gpu", "gpu:h100:8", 1, 8, 9000, 60, "lab")
    with pytest.raises(InputError):  # sinfo fails too here
        cluster.check_requests([request])


@pytest.mark.parametrize(
    ("resources", "number"),
    [
        ({"gpu": 4, "nodes": 1}, 4),
        ({"gres": "gpu:h100:8", "nodes": 2}, 16),
        ({"gres": "gpu:2"}, 2),
        ({"gres": "gpu:h100"}, 1),
        ({"gres": ""}, 0),
        ({}, 0),
    ],
)
def test_the_gpus_of_a_job_are_those_of_all_its_nodes(resources, number):
    assert cluster.gpus_of(SimpleNamespace(resources=resources)) == number


def test_without_sbatch_or_with_an_unknown_partition_the_line_says_so(answers, monkeypatch):
    answers("cpu\ngpu\n")
    cluster.require_slurm(["cpu", "gpu"])
    with pytest.raises(InputError, match="found partition 'gpus'; expected one that `sinfo` lists"):
        cluster.require_slurm(["cpu", "gpus"])
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"no program `sbatch`.*login node"):
        cluster.require_slurm(["cpu"])


def test_the_profile_plans_the_paper_with_gpus_by_size():
    files = ("config/paper.yaml", str(PINNED))
    answer = snakemake(ROOT, "--profile", "slurm", "-n", "--configfile", *files, "--", "all")
    assert answer.returncode == 0, answer.stderr[-2000:]
    jobs = answer.stdout.split("\nrule ")
    requested = {}
    for job in jobs:
        backbone = [word for word in job.split() if word.startswith("backbone=")]
        if job.startswith("reward_models") and backbone:
            requested[backbone[0]] = job.split("gres=")[1].split(",")[0]
    assert len(requested) == 5
    assert requested["backbone=Llama-3.2-1B,"] == "gpu:h100:1"
    assert requested["backbone=Llama-3.1-8B-Instruct,"] == "gpu:h100:8"
