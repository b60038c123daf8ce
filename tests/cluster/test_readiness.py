"""What is refused before the first job, and what `check` says of this machine."""

import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from support.presets import dry_run, preset

from rm_robustness.cluster import gpus, readiness, slurm, vllm
from rm_robustness.cluster.machines import Machines
from rm_robustness.errors import InputError

SLURM = Machines(gpu_partition="gpu", cpu_partition="cpu", disk=2000)
ONE = Machines(gpus_per_node=8, node_memory=1000, disk=1000)
Usage = namedtuple("Usage", "total used free")


class Here:
    """A machine: what is installed, what nvidia-smi lists, what is free on the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.has(gpus=8, memory=80, toolkit="CUDA 12.8", vllm="0.31.0", disk=9e13)
        monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)

    def has(self, **facts: Any) -> None:
        put = self.monkeypatch.setattr
        if "gpus" in facts:
            put(gpus, "listed", lambda: [str(n) for n in range(facts["gpus"])])
        if "memory" in facts:
            put(gpus, "memory", lambda: [float(facts["memory"])])
        if "toolkit" in facts:
            put(readiness, "torch_toolkit", lambda: facts["toolkit"])
        if "vllm" in facts:
            number = facts["vllm"]
            put(vllm, "installed", lambda: ("vllm", number) if number else None)
        if "disk" in facts:
            put(shutil, "disk_usage", lambda path: Usage(1e15, 0, facts["disk"]))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(monkeypatch)


def refusal(name: str, machines: Machines | None, rules: set[str] | None = None) -> str:
    config = preset(name)
    with pytest.raises(InputError) as caught:
        readiness.require_ready(config, machines, rules or readiness.rules_of(config))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_machine_with_all_that_the_paper_needs_is_fine(here):
    config = preset("paper")
    checks = readiness.local_checks(config, ONE, readiness.rules_of(config))
    found = list(readiness.findings(checks))
    assert all(finding.ok for finding in found)
    assert [str(finding).split()[1] for finding in found] == ["vllm", "torch", "every", "disk:"]


@pytest.mark.parametrize("version", [None, "0.33.0"])
def test_vllm_is_asked_for_by_the_rules_that_use_it_alone(here, version):
    here.has(vllm=version)
    line = refusal("paper", ONE)
    assert "rloo.generation" in line and "expected vLLM 0.22.0 to 0.31.0" in line
    readiness.require_ready(preset("paper"), ONE, {"reward_models_0", "measure_scenarios_0"})
    assert "found" in refusal("paper", ONE, {"generate"})


def test_cuda_on_a_torch_for_cpus_is_refused_with_the_cure(here):
    here.has(toolkit=None)
    for machines in (None, ONE):
        assert "torch: found a build for CPUs alone; expected one with CUDA" in refusal(
            "small", machines, {"reward_models_0"}
        )


def test_bfloat16_without_a_gpu_is_refused_unless_the_environment_wants_the_cpu(here, monkeypatch):
    here.has(gpus=0, memory=0, toolkit=None)
    line = refusal("small", None, {"reward_models_0"})
    assert line.startswith("reward_models.bf16: found true without a GPU; expected a GPU")
    assert "ACCELERATE_USE_CPU=true" in line
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    readiness.require_ready(preset("small"), None, {"reward_models_0"})


def test_a_model_in_float32_may_run_without_a_gpu(here):
    here.has(gpus=0, memory=0, toolkit=None)
    config = preset("laptop")
    readiness.require_ready(config, None, readiness.rules_of(config))
    readiness.require_ready(preset("demo"), None, readiness.rules_of(preset("demo")))


def test_the_version_of_the_installed_torch_is_read_without_importing_it():
    import torch

    built = torch.version.cuda or torch.version.hip
    found = readiness.torch_toolkit()
    assert found is None if built is None else str(built) in found


def test_a_profile_that_describes_more_than_there_is_is_refused(here):
    here.has(gpus=2)
    line = refusal("paper", ONE)
    assert "profiles/gpus/config.yaml: gpus: found 8; expected no more than the 2" in line
    here.has(gpus=8, memory=40)
    assert "gpu_memory: found 80 GB; expected no more than the 40" in refusal("paper", ONE)


def test_a_model_that_needs_more_gpus_than_the_machine_has_is_refused(here):
    few = ONE._replace(gpus_per_node=4)
    line = refusal("paper", few)
    assert "GPUs of 80 GB needed; expected no more than the 4 that a job may have here" in line
    readiness.require_ready(
        preset("paper"), few, {"reward_models_0", "measure_scenarios_0"}
    )  # but the 8B part
    small = SLURM._replace(gpu_memory=10)
    here.monkeypatch.setattr(slurm, "require_slurm", lambda partitions: None)
    assert "10 can be used" in refusal("paper", small)


def test_without_a_profile_a_job_may_have_one_gpu_or_those_that_the_environment_names(
    here, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "no more than the 1 that a job may have here" in refusal("paper", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    readiness.require_ready(preset("paper"), None, readiness.rules_of(preset("paper")))


def test_a_disk_too_small_is_refused_and_the_profile_bounds_the_checkpoints(here):
    here.has(disk=3.0e12)
    line = refusal("paper", ONE)
    assert "found 3000 GB free" in line
    (checkpoints,) = re.findall(r"and (\d+) GB of checkpoints of reward models", line)
    assert 800 < int(checkpoints) <= 1000  # what fits 8 GPUs, and at most `disk`
    here.has(disk=3.5e12)
    readiness.require_ready(preset("paper"), ONE, {"measure_scenarios_0"})
    assert " 271 GB of checkpoints" in readiness.disk_suffices(preset("paper"), None)  # one by one
    here.has(disk=9e13)
    bounded = (SLURM._replace(disk=disk) for disk in (2000, 99999, 500))
    texts = [readiness.disk_suffices(preset("paper"), machines) for machines in bounded]
    assert [re.findall(r"(\d+) GB of ch", text)[0] for text in texts] == ["2000", "20011", "500"]


def test_what_a_run_has_already_is_not_asked_for_again(here):
    run = Path("runs/paper/reward_models")
    run.mkdir(parents=True)
    before = readiness.disk_suffices(preset("paper"), ONE)
    with (run / "model.safetensors").open("wb") as file:
        file.truncate(100 * 10**9)
    after = readiness.disk_suffices(preset("paper"), ONE)
    sizes = [int(text.split("free, ")[1].split()[0]) for text in (before, after)]
    assert sizes[0] - sizes[1] == 100


def test_a_judge_without_its_key_is_found_before_what_it_judges_is_made(here, monkeypatch):
    config = preset("paper")
    keys = {"api_key_env": "RM_TEST_KEY", "base_url_env": "RM_TEST_URL"}
    config["alpaca_eval"]["judge"] = {"kind": "hosted", "serve": False, "model": "gpt", **keys}
    with pytest.raises(InputError, match=r"RM_TEST_KEY and RM_TEST_URL unset; .*export RM_TEST"):
        readiness.require_ready(config, ONE, {"judge"})
    monkeypatch.setenv("RM_TEST_URL", "http://there")
    readiness.require_ready(config, ONE, {"judge"})


@pytest.mark.parametrize(
    ("rule", "name", "gpus", "fine"),
    [
        ("reward_models_0", "Llama-3.2-1B", 3, False),
        ("reward_models_0", "Llama-3.2-1B", 4, True),
        ("backbone", "Qwen2.5-3B", 64, False),
        ("rloo_0", "large-bt", 5, False),
        ("rloo_0", "large-bt", 0, True),
        ("measure_scenarios_0", "Llama-3.2-1B", 3, True),
    ],
)
def test_a_number_of_gpus_that_does_not_divide_is_refused(rule, name, gpus, fine):
    if fine:
        readiness.require_share(preset("paper"), rule, name, gpus)
        return
    with pytest.raises(InputError, match=f"found {gpus} GPUs; expected one of 1, 2, 4, .*evenly"):
        readiness.require_share(preset("paper"), rule, name, gpus)


MEASURE = "measure_scenarios_0_1_2_3_4_5_6_7"
SMALL = ("--configfile", "config/small.yaml", "--", "results/table5.csv")
ON_EIGHT = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--cores", "1"], {"CUDA_VISIBLE_DEVICES": ""}, "reward_models.bf16: found true without"),
        (["--profile", "profiles/slurm"], {}, "profile slurm: found no program `sbatch`"),
        (
            ["--profile", "profiles/gpus"],
            ON_EIGHT | {"CUDA_VISIBLE_DEVICES": "0"},
            "gpus: found 8; .*the 1 of",
        ),
        (
            ["--profile", "profiles/gpus", "--set-resources", "reward_models_0:gpu=3"],
            ON_EIGHT,
            "reward_models_0 SmolLM2: found 3 GPUs; expected one of 1, ",
        ),
        (
            ["--profile", "profiles/gpus", "--set-resources", f"{MEASURE}:gpu=2"],
            ON_EIGHT,
            f"{MEASURE}: found gpu=2 by --resources or --set-resources",
        ),
    ],
    ids=["no GPU", "no sbatch", "too many GPUs", "no share", "another number"],
)
def test_snakemake_refuses_a_run_before_its_first_job(options, variables, words, tmp_path):
    dry_run(tmp_path / "made").check_returncode()
    # As on a machine without Slurm and without GPUs: of its programs these alone.
    (tmp_path / "bin").mkdir()
    for name in ("bash", "which", "git", "nproc", "sh", "uname"):
        if path := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(path)
    kept = {k: v for k, v in os.environ.items() if k not in ("ACCELERATE_USE_CPU",)}
    own = {"PATH": str(tmp_path / "bin"), "PYTHONPATH": str(tmp_path / "made/src")}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *options, *SMALL],
        cwd=tmp_path / "made",
        env=kept | own | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-3000:]
    (line,) = [line for line in done.stderr.splitlines() if "rm-robustness: error" in line]
    assert re.search(words, line), line
    assert "Traceback" not in done.stderr and not (tmp_path / "made/runs").exists()
