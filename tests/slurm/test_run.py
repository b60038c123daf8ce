"""The demo cut small on the cluster, through the profile as it is in the repository."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.cut_demo import DEMO, clone, command, csvs, snakemake

from .cluster import Cluster
from .few import CONFIG, FEW, IMPATIENT, MODEL, RULE, TARGET, Run, prepare

pytestmark = pytest.mark.slow
# Of each rule a few jobs: there each of them starts Snakemake twice more.
RUNS = {name: {"reward_model_seeds": [0]} for name in ("standard", "large")}
ONE_SEED = {
    "grid": {"backbones": ["llama"], "seeds": [0]},
    "rm_bench": {"objectives": ["bt", "bt-bsr"], "seeds": [0]},
    "rloo": {"runs": RUNS, "seeds": [0]},
    "alpaca_eval": {"seeds": [0]},
}
ONE = (*DEMO, "one_seed.yaml")


def test_the_demo_on_the_cluster_gives_the_tables_of_a_local_run(finished, cluster, tmp_path):
    """And to either of them there is nothing to do in the folder of the other."""
    run = Run(clone(tmp_path / "cluster"), cluster)
    local = shutil.copytree(finished, tmp_path / "local", symlinks=True)
    for folder in (run.folder, local):
        (folder / "one_seed.yaml").write_text(yaml.safe_dump(ONE_SEED))
    answer = snakemake(local, "--cores", "2", *ONE, "--", "all")
    assert answer.returncode == 0, answer.stderr[-4000:]
    words = command("--profile", "slurm", *ONE, *IMPATIENT, "--", "all")
    answer = subprocess.run(
        words, cwd=run.folder, env=run.env, capture_output=True, text=True, check=False, timeout=800
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert len(csvs(run.folder)) == 12
    assert csvs(run.folder) == csvs(local)
    done = "Nothing to be done"
    assert done in snakemake(run.folder, "-n", *ONE, "--", "all").stdout
    assert done in snakemake(local, "--profile", "slurm", "-n", *ONE, "--", "all").stdout


@pytest.mark.parametrize(
    ("requested", "placed"),
    [
        pytest.param(["gres=gpu:h100:2", "nodes=1"], 1, id="two GPUs of one node"),
        pytest.param(["gres=gpu:h100:1", "nodes=2"], 2, id="a GPU on each of two nodes"),
    ],
)
def test_two_processes_train_what_one_would(
    requested: list[str],
    placed: int,
    finished: Path,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The GPUs are not real: CPU processes take their place."""
    halves = {**FEW, "reward_models": {"epochs": 2, "micro_batch": 8}}
    folder = prepare(finished, tmp_path / "run")
    (folder / "few.yaml").write_text(yaml.safe_dump(halves))
    alone = shutil.copytree(folder, tmp_path / "alone", symlinks=True)
    answer = snakemake(alone, "--cores", "1", *CONFIG, "--", TARGET)
    assert answer.returncode == 0, answer.stderr[-3000:]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    run = Run(folder, cluster)
    resources = ["slurm_partition=gpu", "cpus_per_task=2", "mem_mb=6000", *requested]
    run.start("--set-resources", *(f"{RULE}:{each}" for each in resources))
    run.ends()
    assert run.record()["processes"] == 2
    last = max(
        (job for job in cluster.jobs("COMPLETED") if RULE in job["comment"]),
        key=lambda job: int(job["id"]),
    )
    assert last["node"] == ("n[1-2]" if placed == 2 else last["node"][:2])
    model = MODEL / "model.safetensors"
    assert (folder / model).read_bytes() == (alone / model).read_bytes()
    assert (folder / TARGET).read_bytes() == (alone / TARGET).read_bytes()
