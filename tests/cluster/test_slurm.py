"""What the profile says of the cluster, and what is refused before anything is submitted."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
import yte
from snakemake.resources import Resources
from support.cut_demo import snakemake
from support.paths import ROOT

from rm_robustness.cluster import slurm as cluster
from rm_robustness.cluster.slurm import Request
from rm_robustness.errors import InputError

PROFILE = (ROOT / cluster.PROFILE).read_text(encoding="utf-8")


def resources(**changes: object) -> Resources:
    """The default resources of the profile with some of its keys changed."""
    text = PROFILE
    for key, value in changes.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {key}: ")]
        text = text.replace(line, f"  {key}: {value}")
    return Resources.from_mapping(yte.process_yaml(text)["default-resources"])


def test_the_keys_at_the_top_of_the_profile_are_what_the_rules_see():
    found = cluster.machines(resources(gpu="a100", gpu_memory=40, gpus_per_node=4, hours=48))
    assert found is not None
    assert (found.gpu, found.gpu_memory, found.gpus_per_node, found.hours) == ("a100", 40, 4, 48)
    assert found.gres(2) == "gpu:a100:2"
    assert found.gres(0) == ""
    assert found.node.gpu_memory == 40 and found.node.gpus_per_node == 4


def test_a_cluster_without_gpu_types_gets_a_request_for_a_number_of_gpus():
    found = cluster.machines(resources(gpu='""'))
    assert found is not None and found.gres(4) == "gpu:4"


def test_without_the_profile_there_is_no_cluster():
    assert cluster.machines(None) is None
    assert cluster.machines(Resources.from_mapping({"mem_mb": 100})) is None


def test_every_key_at_the_top_is_used():
    used = PROFILE.split("executor:")[1]
    for key in yaml.safe_load(PROFILE.split("executor:")[0])["__variables__"]:
        assert f"{{{key}}}" in used or f"?{key}" in used or f"not {key}" in used


@pytest.mark.parametrize(
    ("words", "variables", "local"),
    [
        (["snakemake", "all"], {}, True),
        (["snakemake", "--profile", "slurm", "all"], {}, False),
        (["snakemake", "--profile=slurm", "all"], {}, False),
        (["snakemake", "-e", "slurm"], {}, False),
        (["snakemake", "all"], {"SNAKEMAKE_PROFILE": "slurm"}, False),
    ],
)
def test_the_default_profile_takes_all_cores_of_this_machine_alone(
    words, variables, local, monkeypatch
):
    """Elsewhere it would cap the CPUs of every job."""
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = (ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8")
    assert ("cores" in yte.process_yaml(text)) == local


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


def test_the_profile_plans_the_paper_with_gpus_by_size():
    answer = snakemake(ROOT, "--profile", "slurm", "-n", "all")
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
