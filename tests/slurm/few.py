"""One training on the cluster that takes long enough to be disturbed, and what comes after it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from support.cut_demo import DEMO, command

from .cluster import Cluster

FEW = {
    "grid": {"backbones": ["llama"], "objectives": ["bt"], "seeds": [0]},
    "reward_models": {"epochs": 16, "save_steps": 100},
    "rm_bench": None,
    "ranks": None,
    "rloo": None,
    "alpaca_eval": None,
}
CONFIG = (*DEMO, "few.yaml")
# Looks come 4, 18 and 42 seconds after a job began: an attempt here takes some 14.
IMPATIENT = ("--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "10")
TARGET = "results/table5.csv"
RULE = "reward_models_0"
MODEL = Path("runs/cut/reward_models/llama/bt/seed-0")
WORK = Path("runs/cut/work/reward_models/llama/bt/seed-0")


def prepare(finished: Path, folder: Path) -> Path:
    """A copy of the finished cut demo in which the reward models and all that follows are gone."""
    shutil.copytree(finished, folder, symlinks=True)
    gone = ("reward_models", "scores", "policies", "policy_gold", "ranks", "alpaca_eval", "results")
    for name in [f"runs/cut/{each}" for each in (*gone, "work")] + ["results"]:
        shutil.rmtree(folder / name)
    (folder / "few.yaml").write_text(yaml.safe_dump(FEW))
    return folder


class Run:
    """`snakemake --profile slurm` in a folder, in the background, on a cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.log = folder / "snakemake.log"

    def start(self, *options: str) -> "Run":
        """Begin; `options` of Snakemake's go before the target."""
        words = command("--profile", "slurm", *CONFIG, *IMPATIENT, *options, "--", TARGET)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        return self

    @property
    def env(self) -> dict[str, str]:
        """The cluster's environment with this Python's programs."""
        env = self.cluster.env
        return env | {"PATH": f"{env['PATH']}:{Path(sys.executable).parent}"}

    def snakemake(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run Snakemake to its end."""
        return subprocess.run(
            command("--profile", "slurm", *CONFIG, *IMPATIENT, *options, "--", TARGET),
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def reach(self, step: int, timeout: float = 90) -> str:
        """Wait until the training has made so many steps, and stop it there; the id of its job.

        Slurm wakes it when it tells it to end, and `thaw` does.
        """

        def reached() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return bool(self.attempts()) and (self.attempts()[-1]["step"] or 0) >= step

        self.cluster.wait_for(reached, timeout)
        self.signal_training(signal.SIGSTOP)
        return self.job()["id"]

    def begins(self, attempt: int, timeout: float = 90) -> str:
        """Stop the training while it loads, in its so-manieth attempt; the id of its job."""
        end = time.monotonic() + timeout
        while len(self.attempts()) < attempt:
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)
        self.signal_training(signal.SIGSTOP)
        return self.job()["id"]

    def thaw(self) -> None:
        """Let the training go on, if it still lives."""
        self.signal_training(signal.SIGCONT)

    def signal_training(self, number: int) -> None:
        """Send a signal to the process that holds the lease."""
        with suppress(FileNotFoundError, ProcessLookupError):
            lease = json.loads((self.folder / f"{WORK}.lease").read_text())
            os.kill(lease["pid"], number)

    def job(self) -> dict[str, Any]:
        """The training's job that waits or runs."""
        (job,) = [
            job
            for job in self.cluster.jobs()
            if RULE in job["comment"] and job["state"] in ("PENDING", "RUNNING", "SUSPENDED")
        ]
        return job

    def attempts(self) -> list[dict[str, Any]]:
        """How far each attempt at the training has come."""
        path = self.folder / WORK / "attempts.json"
        return json.loads(path.read_text()) if path.is_file() else []

    def record(self) -> dict[str, Any]:
        """What the finished model says of its making."""
        return json.loads((self.folder / MODEL / "record.json").read_text())

    def ends(self, status: int = 0, timeout: float = 240) -> str:
        """Wait for Snakemake's end; what it said."""
        found = self.process.wait(timeout)
        said = self.log.read_text()
        assert found == status, f"{said[-4000:]}\n{self.training_log()}"
        return said

    def training_log(self) -> str:
        """The log of the training's rule, with what Slurm wrote about its jobs."""
        logs = sorted(self.folder.glob("logs/cut/reward_models/llama/bt/*.log"))
        logs += sorted(self.folder.glob(f".snakemake/slurm_logs/rule_{RULE}/**/*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text()[-2500:]}" for log in logs)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to Snakemake alone; with SIGKILL its jobs live on."""
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        """End a Snakemake that still runs, as after a failed test."""
        if hasattr(self, "process") and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def result(self) -> tuple[bytes, bytes]:
        """The bytes of the table and of the model."""
        model = self.folder / MODEL / "model.safetensors"
        return (self.folder / TARGET).read_bytes(), model.read_bytes()
