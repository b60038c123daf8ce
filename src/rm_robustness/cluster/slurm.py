"""What is asked of Slurm before anything is submitted: who still writes here, and what it can give.

Snakemake does not know the jobs of an earlier Snakemake that was killed; Slurm does.
"""

import getpass
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .resources import Cluster

PROFILE = "profiles/slurm/config.yaml"


class UnreachableError(InputError):
    """Slurm's controller does not answer."""


class Machines(NamedTuple):
    """What the profile says of the cluster's nodes; memory in GB, times in hours."""

    gpu: str
    gpu_partition: str
    cpu_partition: str
    gpu_memory: float
    tflops: float
    gpus_per_node: int
    node_memory: float
    cpus_per_gpu: int
    hours: int
    save_minutes: int

    @property
    def node(self) -> Cluster:
        """What the needs of a job are reckoned from."""
        return Cluster(
            self.gpu_memory, self.gpus_per_node, self.tflops, cpus_per_gpu=self.cpus_per_gpu
        )

    def gres(self, gpus: int) -> str:
        """What is asked of a node for some of its GPUs; "" for none."""
        return ":".join(filter(None, ("gpu", self.gpu, str(gpus)))) if gpus else ""


def machines(default_resources: Any) -> Machines | None:
    """Read the profile's description out of Snakemake's default resources; None without one."""
    if not default_resources or "machines" not in default_resources:
        return None
    text = str(default_resources["machines"].raw).strip("'")
    facts = dict(pair.split("=", 1) for pair in text.split())
    return Machines(*(kind(facts[name]) for name, kind in Machines.__annotations__.items()))


class Job(NamedTuple):
    """A job in Slurm's queue, and the rule that it is for."""

    number: str
    state: str
    rule: str


class Request(NamedTuple):
    """What a job asks for; see `sbatch --help` for the units."""

    partition: str
    gres: str
    nodes: int
    cpus: int
    mem_mb: int
    minutes: int
    account: str


def request(job: Any) -> Request:
    """What a job of Snakemake's asks for."""
    asked = job.resources
    return Request(
        str(asked.get("slurm_partition") or ""),
        str(asked.get("gres") or ""),
        asked.get("nodes") or 1,
        asked.get("cpus_per_task") or job.threads,
        asked.get("mem_mb"),
        asked.get("runtime"),
        str(asked.get("slurm_account") or ""),
    )


def living(folder: Path) -> list[Job]:
    """The jobs of a Snakemake in this folder that wait or run, by this user; none without Slurm.

    Raises UnreachableError when the controller does not answer: nobody knows then who writes here.
    """
    if shutil.which("squeue") is None:
        return []
    lines = _ask("squeue", "-h", "-u", getpass.getuser(), "-o", "%i\t%T\t%Z\t%k")
    found = [line.split("\t", 3) for line in lines]
    return [
        Job(number, state, comment)
        for number, state, place, comment in found
        if Path(place) == folder and comment.startswith(("rule_", "group_"))
    ]


def refuse_living(folder: Path) -> None:
    """Refuse to begin while jobs of an earlier Snakemake still write here (raises InputError)."""
    jobs = living(folder)
    if jobs:
        named = "; ".join(f"{job.number} {job.state} {job.rule}" for job in jobs[:3])
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        numbers = " ".join(job.number for job in jobs)
        raise InputError(
            folder,
            f"Slurm jobs of an earlier run that still write here ({named}{more})",
            "none",
            f"wait until `squeue -j {numbers.replace(' ', ',')}` is empty, or cancel them with "
            f"`scancel {numbers}`; what they finish is kept",
        )


def refuse_impossible(requests: Iterable[Request]) -> None:
    """Let Slurm itself judge every kind of job, without submitting one (raises InputError)."""
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
                f"one that it can give; it has {_offered()}",
                "correct the keys at the top of that file",
            )


def _offered() -> str:
    """The partitions with their GPUs, memory (MB), CPUs and time limits a node, as sinfo says."""
    lines = _ask("sinfo", "-h", "-o", "%P %G %m MB %c CPUs %l")
    return "; ".join(sorted(set(lines)))


def _ask(*command: str) -> list[str]:
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
