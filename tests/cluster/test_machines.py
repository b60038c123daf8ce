"""What a profile says of its machines, and what the rules ask of them."""

import re

import pytest
import yaml
import yte
from snakemake.resources import Resources
from support.cut_demo import snakemake
from support.paths import ROOT
from support.presets import PINNED

from rm_robustness.cluster.machines import machines, machines_of
from rm_robustness.cluster.slurm import PROFILE as SLURM

PROFILES = {name: ROOT / f"profiles/{name}/config.yaml" for name in ("slurm", "gpus")}
PROFILE = (ROOT / SLURM).read_text(encoding="utf-8")


def resources(**changes: object) -> Resources:
    """The default resources of the profile with some of its keys changed."""
    text = PROFILE
    for key, value in changes.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {key}: ")]
        text = text.replace(line, f"  {key}: {value}")
    return Resources.from_mapping(yte.process_yaml(text)["default-resources"])


def test_the_keys_at_the_top_of_the_profile_are_what_the_rules_see():
    found = machines(resources(gpu="a100", gpu_memory=40, gpus_per_node=4, hours=48))
    assert found is not None
    assert (found.gpu, found.gpu_memory, found.gpus_per_node, found.hours) == ("a100", 40, 4, 48)
    assert found.gres(2) == "gpu:a100:2"
    assert found.gres(0) == ""
    assert found.node.gpu_memory == 40 and found.node.gpus_per_node == 4


def test_a_cluster_without_gpu_types_gets_a_request_for_a_number_of_gpus():
    found = machines(resources(gpu='""'))
    assert found is not None and found.gres(4) == "gpu:4"


def test_without_the_profile_there_is_no_cluster():
    assert machines(None) is None
    assert machines(Resources.from_mapping({"mem_mb": 100})) is None


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_at_the_top_is_used(name):
    keys, used = PROFILES[name].read_text(encoding="utf-8").split("executor:")
    for key in yaml.safe_load(keys)["__variables__"]:
        places = (f"{{{key}}}", f"?{key}", f"not {key}", f"* {key}")
        assert any(place in used for place in places), key


def test_a_profile_is_read_without_snakemake_too():
    cluster, machine = (machines_of(PROFILES[name]) for name in ("slurm", "gpus"))
    assert cluster.slurm and cluster.gpu_partition == "gpu" and cluster.disk == 2000
    assert not machine.slurm and machine.gpus_per_node == 8 and machine.disk == 1000


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


def test_one_job_at_a_time_has_the_gpu_of_a_machine_without_a_profile(monkeypatch):
    """Otherwise 28 trainings would start on GPU 0."""
    text = (ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["snakemake", "all"])
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert yte.process_yaml(text)["resources"] == {"gpu": 1}
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "resources" not in yte.process_yaml(text)
    monkeypatch.setattr("sys.argv", ["snakemake", "--profile", "gpus", "all"])
    assert "resources" not in yte.process_yaml(text)


@pytest.mark.parametrize(
    ("options", "score", "training"),
    [
        ([], "gpu=1, nodes=1, cpus_per_task=8, runtime=30", "gpu=8, nodes=1, .*checkpoints_gb=270"),
        (["--profile", "gpus"], "gpu=1, .*shell-with-1-gpus", "gpu=8, .*shell-with-8-gpus"),
        (["--profile", "slurm"], "gres=gpu:h100:1", "gres=gpu:h100:8, .*checkpoints_gb=270"),
    ],
    ids=["none", "gpus", "slurm"],
)
def test_every_profile_asks_for_the_same_gpus_of_a_job(options, score, training, monkeypatch):
    monkeypatch.setenv("PATH", "/bin")  # whether this machine has a GPU makes no difference
    files = ("config/paper.yaml", str(PINNED))
    cores = [] if options else ["--cores", "2"]
    answer = snakemake(ROOT, *options, *cores, "-n", "--configfile", *files, "--", "all")
    assert answer.returncode == 0, answer.stderr[-2000:]
    requested = {}
    for job in answer.stdout.split("\nrule "):
        if name := re.search(r"wildcards: backbone=(\S+), objective=bt-bsr\n", job):
            requested[job.split(":")[0], name[1]] = job.split("resources: ")[1].split("\n")[0]
    assert re.search(score, requested["measure_scenarios_0", "Llama-3.2-1B"])
    assert re.search(training, requested["reward_models_90", "Llama-3.1-8B-Instruct"])
