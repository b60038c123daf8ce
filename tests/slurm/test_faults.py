"""Whatever happens to a training on the cluster, nothing is lost and the bits are the same."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cut_demo import snakemake

from .cluster import Cluster
from .few import CONFIG, MODEL, RULE, TARGET, WORK, Run, prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def undisturbed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Table and model of a run on this machine, without a cluster."""
    folder = prepare(finished, tmp_path_factory.mktemp("undisturbed") / "run")
    answer = snakemake(folder, "--cores", "1", *CONFIG, "--", TARGET)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return (folder / TARGET).read_bytes(), (folder / MODEL / "model.safetensors").read_bytes()


@pytest.fixture
def run(finished: Path, cluster: Cluster, tmp_path: Path) -> Iterator[Run]:
    """A run on the cluster that is ready to begin, and that ends with its test."""
    run = Run(prepare(finished, tmp_path / "run"), cluster)
    yield run
    run.stop()


def resumed(run: Run) -> int:
    """The step from which the finished training was gone on with."""
    return int(run.record()["resumed_from"].removeprefix("checkpoint-"))


def test_a_cancelled_training_saves_and_is_gone_on_with(run, undisturbed):
    run.start()
    job = run.reach(30)
    run.cluster.cancel(job)
    run.ends()
    # Where it stood, and not at one of the checkpoints that are written anyway.
    assert resumed(run) >= 30 and resumed(run) % 100
    assert run.result() == undisturbed


def test_a_training_whose_time_is_over_saves_and_is_gone_on_with(run, undisturbed):
    run.start()
    run.cluster.expire(run.reach(30))
    run.ends()
    assert resumed(run) >= 30 and resumed(run) % 100
    assert run.result() == undisturbed


def test_a_killed_snakemake_s_job_is_not_doubled_and_its_work_is_kept(run, undisturbed):
    """The next Snakemake names the living job; when that is done, nothing is trained again.

    Whether Snakemake starts it once more depends on what it still learnt of it; the command then
    finds it finished.
    """
    run.start()
    job = run.reach(30)
    run.kill()
    run.process.wait()
    assert run.snakemake("--unlock").returncode == 0
    answer = run.snakemake()
    assert answer.returncode == 2
    (line,) = [line for line in answer.stderr.splitlines() if "error:" in line]
    assert f"{job} RUNNING rule_{RULE}" in line and f"scancel {job}" in line
    run.thaw()
    run.cluster.wait_job(job, "COMPLETED", timeout=90)
    made = run.record()
    run.start().ends()
    assert run.record() == made
    assert run.result() == undisturbed


# The others run in `make test-faults`.


@pytest.mark.faults
def test_a_killed_snakemake_s_job_can_be_cancelled_instead(run, undisturbed):
    run.start()
    job = run.reach(30)
    run.kill()
    run.process.wait()
    run.cluster.cancel(job)
    run.cluster.wait_job(job)
    assert run.snakemake("--unlock").returncode == 0
    run.start().ends()
    assert resumed(run) >= 30
    assert run.result() == undisturbed


@pytest.mark.faults
def test_two_jobs_that_are_made_to_write_one_folder_take_turns(run, undisturbed):
    """A second job in spite of everything, as when Slurm restarts what a lost node still runs."""
    run.start()
    first = run.reach(30)
    second = run.cluster.submit(second_writer(run), "--mem=3000", f"--chdir={run.folder}")
    run.cluster.wait_job(second, "RUNNING")
    run.cluster.wait_for(lambda: "waiting for" in run.cluster.output(second), timeout=60)
    assert f"Slurm job {first}" in run.cluster.output(second)
    run.thaw()
    run.ends()
    run.cluster.wait_job(second, "COMPLETED", timeout=60)
    assert run.result() == undisturbed


def second_writer(run: Run) -> str:
    """The command of the rule, as Snakemake prints it."""
    said = run.snakemake("-n", "-p", "--nolock", "--forcerun", RULE).stdout
    (line,) = [line for line in said.splitlines() if "rm-robustness train" in line]
    words = line.removeprefix("Shell command: rm-robustness ").rsplit(" > ", 1)[0]
    return f"{sys.executable} -m rm_robustness {words}"


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda cluster, job: cluster.requeue(job), id="scontrol requeue"),
        pytest.param(lambda cluster, job: restart_daemon(cluster, job), id="kill -9 of slurmd"),
        pytest.param(lambda cluster, job: restart_controller(cluster), id="kill -9 of slurmctld"),
        pytest.param(lambda cluster, job: node_down(cluster, job), id="a node set DOWN and back"),
        pytest.param(lambda cluster, job: lost_node(cluster, job), id="a node that crashes"),
        pytest.param(lambda cluster, job: cluster.cancel(job, "TERM"), id="scancel --signal=TERM"),
        pytest.param(lambda cluster, job: cluster.cancel(job, "KILL"), id="scancel --signal=KILL"),
    ],
)
def test_a_fault_of_the_cluster_changes_no_bit(
    run: Run, undisturbed: tuple[bytes, bytes], fault: Callable[[Cluster, str], None]
) -> None:
    run.start()
    fault(run.cluster, run.reach(110))
    run.thaw()
    run.ends()
    assert run.result() == undisturbed


def restart_daemon(cluster: Cluster, job: str) -> None:
    node = cluster.job(job)["node"]
    cluster.kill_slurmd(node)
    cluster.start_slurmd(node)


def restart_controller(cluster: Cluster) -> None:
    cluster.kill_slurmctld()
    cluster.start_slurmctld()


def node_down(cluster: Cluster, job: str) -> None:
    node = cluster.job(job)["node"]
    cluster.set_node(node, "DOWN")
    cluster.hasten(job)
    # Back before that, Slurm 22.05 may hold the job and drain the node, which still cleans up.
    cluster.wait_job(job, "RUNNING")
    cluster.set_node(node, "RESUME")


def lost_node(cluster: Cluster, job: str) -> None:
    node = cluster.job(job)["node"]
    cluster.crash_node(node)
    cluster.wait_for(lambda: cluster.node_states()[node].startswith("down"), timeout=60)
    cluster.hasten(job)


@pytest.mark.faults
def test_an_interrupted_snakemake_cancels_its_jobs_which_save(run, undisturbed):
    run.start()
    job = run.reach(30)
    run.kill(signal.SIGINT)
    run.ends(status=1)
    run.cluster.wait_job(job, "CANCELLED")
    run.start().ends()
    assert resumed(run) >= 30
    assert run.result() == undisturbed


@pytest.mark.faults
def test_a_job_over_its_memory_is_given_more(run, undisturbed):
    run.start("--set-resources", f"{RULE}:mem_mb=500 if attempt == 1 else 3000")
    run.ends()
    assert run.result() == undisturbed


@pytest.mark.faults
def test_a_training_that_is_killed_twice_at_one_step_is_reported(run):
    """Not tried for ever. Here it is killed twice while it loads, as by its need of memory."""
    run.start("--retries", "2")
    for attempt in (1, 2):
        run.begins(attempt)
        run.signal_training(signal.SIGKILL)
    said = run.ends(status=1)
    assert "two attempts that were killed before the first step" in run.training_log()
    assert not (run.folder / TARGET).exists() and not (run.folder / MODEL).exists(), said


@pytest.mark.faults
def test_a_read_only_output_folder_is_named_and_loses_nothing(run, undisturbed):
    folder = run.folder / "runs/cut/reward_models"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets no one mount")
    try:
        run.start("--retries", "0")
        run.reach(30)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        run.thaw()
        run.ends(status=1)
        assert "Read-only file system; nothing was left half-written" in run.training_log()
        assert (run.folder / WORK / "final/record.json").is_file()
        assert not [path for path in folder.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    run.start().ends()
    assert run.result() == undisturbed


@pytest.mark.faults
def test_a_controller_that_does_not_answer_is_said_before_anything_is_submitted(run):
    before = run.cluster.jobs()
    run.cluster.kill_slurmctld()
    answer = run.snakemake()
    assert answer.returncode == 2
    (line,) = [line for line in answer.stderr.splitlines() if "error:" in line]
    assert "controller" in line and "scontrol ping" in line
    run.cluster.start_slurmctld()
    assert newest(run.cluster.jobs()) <= newest(before)


@pytest.mark.faults
def test_a_gpu_that_no_node_has_is_said_before_anything_is_submitted(run):
    before = run.cluster.jobs()
    answer = run.snakemake("--set-resources", f"{RULE}:gres=gpu:a100:1")
    assert answer.returncode == 2
    (line,) = [line for line in answer.stderr.splitlines() if "error:" in line]
    assert "gpu:a100:1" in line and "gpu:h100:8" in line  # the request, and what the nodes have
    assert newest(run.cluster.jobs()) <= newest(before)


def newest(jobs: list[dict[str, Any]]) -> int:
    """The highest number of some jobs: a later submission gets a higher one.

    A controller that starts again may list old jobs that it had forgotten before.
    """
    return max((int(job["id"]) for job in jobs), default=0)
