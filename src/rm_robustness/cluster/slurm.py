"""Checks against Slurm before the first submission: jobs of an earlier run, and feasible requests.

Snakemake does not track the jobs of an earlier invocation that was killed; Slurm still lists them.
"""

import getpass
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError

PROFILE = "profiles/slurm/config.yaml"


class UnreachableError(InputError):
    """Slurm's controller does not answer."""


class QueuedJob(NamedTuple):
    """A pending or running job in Slurm's queue, and its rule."""

    number: str
    state: str
    rule: str


class Request(NamedTuple):
    """Resources of a job as sbatch takes them; see `sbatch --help` for the units."""

    partition: str
    gres: str
    nodes: int
    cpus: int
    mem_mb: int
    minutes: int
    account: str


def request_of(job: Any) -> Request:
    """The sbatch request of a Snakemake job."""
    resources = job.resources
    return Request(
        str(resources.get("slurm_partition") or ""),
        str(resources.get("gres") or ""),
        resources.get("nodes") or 1,
        resources.get("cpus_per_task") or job.threads,
        resources.get("mem_mb"),
        resources.get("runtime"),
        str(resources.get("slurm_account") or ""),
    )


def gpus_of(job: Any) -> int:
    """The GPUs of a Snakemake job on all its nodes, by `gres` on Slurm and `gpu` elsewhere."""
    gres = str(job.resources.get("gres") or "")
    number = gres.rpartition(":")[2]  # none in `gpu` and `gpu:h100`, which are one
    each = int(number) if number.isdigit() else 1 if gres else job.resources.get("gpu", 0)
    return each * (job.resources.get("nodes") or 1)


def require_slurm(partitions: Iterable[str]) -> None:
    """Raise InputError where there is no sbatch, or Slurm has no such partition."""
    if shutil.which("sbatch") is None:
        raise InputError(
            "profile slurm",
            "no program `sbatch`",
            "Slurm's programs on PATH",
            "run it on the cluster's login node, or leave --profile slurm out",
        )
    known = _query("sinfo", "-h", "-o", "%R")
    for name in partitions:
        if name not in known:
            raise InputError(
                PROFILE, f"partition '{name}'", "one that `sinfo` lists", f"it has {_partitions()}"
            )


def queued_jobs(folder: Path) -> list[QueuedJob]:
    """This user's pending and running Snakemake jobs with this working directory.

    Empty without Slurm. Raises UnreachableError when the controller does not answer: whether jobs
    still write here is then unknown.
    """
    if shutil.which("squeue") is None:
        return []
    lines = _query("squeue", "-h", "-u", getpass.getuser(), "-o", "%i\t%T\t%Z\t%k")
    queue = [line.split("\t", 3) for line in lines]
    return [
        QueuedJob(number, state, comment)
        for number, state, workdir, comment in queue
        if Path(workdir) == folder and comment.startswith(("rule_", "group_"))
    ]


def refuse_queued_jobs(folder: Path) -> None:
    """Raise InputError while jobs of an earlier Snakemake invocation may still write here."""
    jobs = queued_jobs(folder)
    if jobs:
        named = "; ".join(f"{job.number} {job.state} {job.rule}" for job in jobs[:3])
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        numbers = " ".join(job.number for job in jobs)
        raise InputError(
            folder,
            f"Slurm jobs of an earlier run that may still write here ({named}{more})",
            "none",
            f"wait until `squeue -j {numbers.replace(' ', ',')}` is empty, or cancel them with "
            f"`scancel {numbers}`; what they finish is kept",
        )


def check_requests(requests: Iterable[Request]) -> None:
    """Validate each distinct request with `sbatch --test-only` (raises InputError)."""
    for request in sorted(set(requests)):
        options = [
            f"--partition={request.partition}",
            f"--nodes={request.nodes}",
            "--ntasks=1",
            f"--cpus-per-task={request.cpus}",
            f"--mem={request.mem_mb}",
            f"--time={request.minutes}",
        ]
        options += [f"--gres={request.gres}"] if request.gres else []
        options += [f"--account={request.account}"] if request.account else []
        answer = _run("sbatch", "--test-only", *options, "--wrap=true")
        if answer.returncode:
            raise InputError(
                PROFILE,
                f"a job that Slurm would refuse: {' '.join(options)} ({_reason(answer.stderr)})",
                f"one that fits a partition: {_partitions()}",
                "correct the keys at the top of that file",
            )


def _partitions() -> str:
    """The partitions with GPUs, memory (MB) and CPUs of a node, and time limits, from sinfo."""
    lines = _query("sinfo", "-h", "-o", "%P %G %m MB %c CPUs %l")
    return "; ".join(sorted(set(lines)))


def _query(*command: str) -> list[str]:
    answer = _run(*command)
    if answer.returncode:
        raise UnreachableError(
            "Slurm",
            f"no answer to `{command[0]}` ({_reason(answer.stderr)})",
            "a controller that can be reached",
            "see `scontrol ping`, then run this again",
        )
    return answer.stdout.splitlines()


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _reason(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "no reason given"
