import subprocess
import sys
from pathlib import Path

import pytest

from .cluster import Cluster

pytestmark = pytest.mark.slow


def test_a_job_sees_the_gpus_that_it_requested(cluster: Cluster) -> None:
    job = cluster.submit("echo $CUDA_VISIBLE_DEVICES", "--partition=gpu", "--gres=gpu:h100:2")
    assert cluster.wait_job(job)["state"] == "COMPLETED"
    assert cluster.output(job) == "0,1\n"


def test_two_nodes_work_at_once_even_when_srun_has_lost_its_environment(cluster: Cluster) -> None:
    bare = 'env -i PATH="$PATH" SLURM_JOB_ID=$SLURM_JOB_ID'
    job = cluster.submit(f"{bare} srun -N2 -n2 bash -c 'echo $SLURMD_NODENAME'", "--nodes=2")
    assert cluster.wait_job(job)["state"] == "COMPLETED"
    assert set(cluster.output(job).split()) == {"n1", "n2"}


def test_a_job_over_its_memory_is_killed(cluster: Cluster) -> None:
    hog = f"{sys.executable} -c 'import time; hog = b\"x\" * (300 << 20); time.sleep(60)'"
    assert cluster.wait_job(cluster.submit(hog, "--mem=100M"))["state"] == "FAILED"


def test_a_requeued_job_starts_again_soon(cluster: Cluster) -> None:
    job = cluster.submit("echo restart $SLURM_RESTART_COUNT; sleep 100", "--open-mode=append")
    cluster.wait_job(job, "RUNNING")
    cluster.requeue(job)
    assert cluster.wait_job(job, "RUNNING", timeout=10)["restarts"] == 1
    cluster.wait_for(lambda: cluster.output(job).endswith("restart 1\n"))


def test_a_job_outlives_the_controller_and_the_daemon_of_its_node(cluster: Cluster) -> None:
    job = cluster.submit("until test -e done; do sleep 0.1; done", f"--chdir={cluster.folder}")
    node = cluster.wait_job(job, "RUNNING")["node"]
    cluster.kill_slurmctld()
    assert "DOWN" in cluster.run("scontrol", "ping").stdout
    cluster.kill_slurmd(node)
    assert not cluster.pid(node)
    cluster.start_slurmctld()
    cluster.start_slurmd(node)
    assert cluster.job(job)["state"] == "RUNNING"
    (cluster.folder / "done").touch()
    assert cluster.wait_job(job)["state"] == "COMPLETED"
    assert cluster.job(job)["restarts"] == 0


def test_a_job_of_a_crashed_node_starts_again_on_the_other(cluster: Cluster) -> None:
    job = cluster.submit("sleep 100", "--requeue")
    node = cluster.wait_job(job, "RUNNING")["node"]
    cluster.crash_node(node)
    assert not [p for p in cluster.processes() if b"sleep\x00100" in (p / "cmdline").read_bytes()]
    cluster.set_node(node, "DOWN")
    cluster.hasten(job)
    again = cluster.wait_job(job, "RUNNING", timeout=15)
    assert {again["node"], node} == {"n1", "n2"}
    assert cluster.node_states()[node].startswith("down")


def test_what_a_test_leaves_behind_is_healed(cluster: Cluster) -> None:
    cluster.submit("trap '' TERM; while :; do sleep 0.1; done", "--nodelist=n1")
    cluster.wait_for(lambda: cluster.jobs("RUNNING"))
    cluster.set_node("n2", "DOWN")
    assert cluster.node_states()["n2"] == "down"
    cluster.heal()
    assert cluster.node_states() == {"n1": "idle", "n2": "idle"}
    assert not cluster.jobs("RUNNING")


def test_stop_leaves_no_process_and_no_folder(cluster: Cluster) -> None:
    with Cluster() as second:
        job = second.submit("trap '' TERM; setsid sleep 100 & sleep 100")
        second.wait_job(job, "RUNNING")
        second.wait_for(lambda: len(second.processes()) >= 9)
        assert {second.pid(d) for d in ("munged", "slurmctld", "n1", "n2")} != {0}
        assert not [j for j in cluster.jobs("RUNNING")]
    assert not second.folder.exists()
    assert not second.processes()
    assert cluster.is_up("n1")


def test_what_a_killed_test_run_left_is_ended_by_the_next(cluster: Cluster) -> None:
    code = (
        "import slurm.cluster as s; c = s.Cluster().start(); print(c.folder, flush=True); input()"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert killed.stdout
    left = Cluster(Path(killed.stdout.readline().strip()))
    killed.kill()
    killed.wait()
    assert left.pid("slurmctld")
    with Cluster():
        assert not left.processes()
        assert not left.folder.exists()
    assert cluster.is_up("n1")
