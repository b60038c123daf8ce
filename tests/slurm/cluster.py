"""A real Slurm on one machine, for tests: two nodes with eight fake GPUs each, in one folder."""

import atexit
import fcntl
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .machine import free_ports, is_free, kill, open_files, processes, words

Found = TypeVar("Found")
Job = dict[str, Any]
CLIENTS = ("salloc", "sattach", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PREFIX = "rm-slurm-"  # folders of test runs; short, because socket paths have 108 bytes
FINAL = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
FIELDS = {
    "id": "JobID",
    "state": "State",
    "name": "Name",
    "comment": "Comment",
    "node": "NodeList",
    "restarts": "RestartCnt",
    "reason": "Reason",
}


class Cluster:
    """Slurm with nodes n1 and n2 and partitions cpu (default) and gpu, beside any other Slurm.

    `folder` holds configuration, sockets, state and logs (a new one under /tmp when None, gone
    after `stop`). Times in seconds: `kill_wait` from SIGTERM to SIGKILL, `slurmd_timeout` until a
    silent node is DOWN, `requeue_delay` before a requeued job may start again (`requeue` does not
    wait for it). RuntimeError or TimeoutError carries the ends of the logs.
    """

    nodes = ("n1", "n2")

    def __init__(
        self,
        folder: Path | None = None,
        *,
        kill_wait: int = 5,
        slurmd_timeout: int = 20,
        requeue_delay: int = 15,
    ) -> None:
        self.temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.folder = self.folder.resolve()
        self.times = {
            "kill_wait": kill_wait,
            "slurmd_timeout": slurmd_timeout,
            "requeue_delay": requeue_delay,
        }

    # The whole

    def start(self) -> "Cluster":
        """Start munged, slurmctld and both slurmd; first end what killed test runs left alive."""
        for lock in Path("/tmp").glob(f"{PREFIX}*/lock"):
            if is_free(lock):
                Cluster(lock.parent).stop()
                shutil.rmtree(lock.parent, ignore_errors=True)
        kill(self.processes)
        self._write()
        if self.temporary:
            self._lock = (self.folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            atexit.register(self.stop)
        try:
            self._start_munged()
            self.start_slurmctld()
            for node in self.nodes:
                self._daemon("slurmd", "-N", node)
            self.wait_for(lambda: all(self.is_up(node) for node in self.nodes))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Kill every process of this cluster: daemons, jobs, and clients that have its `env`."""
        kill(self.processes)
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
            atexit.unregister(self.stop)

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def heal(self) -> None:
        """Make it as new for the next test: daemons alive, no job left, both nodes in service."""
        if not self.pid("slurmctld"):
            self.start_slurmctld()
        for node in self.nodes:
            if not self.pid(node):
                self.start_slurmd(node)
        self.check("scancel", "--user=root")
        kill(lambda: [p for p in self.processes() if b"SLURMD_NODENAME=" in words(p)])
        for node, state in self.node_states().items():
            if state.startswith(("down", "drain")):
                self.set_node(node, "RESUME")
        self.wait_for(lambda: set(self.node_states().values()) == {"idle"})

    # Clients

    @property
    def env(self) -> dict[str, str]:
        """The environment for Slurm's clients, Snakemake and whatever else shall use this cluster.

        PATH begins with wrappers that set SLURM_CONF, because Snakemake's Slurm job step drops
        every SLURM_* variable before it calls srun.
        """
        foreign = ("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SINFO_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        return kept | {
            "SLURM_CONF": f"{self.folder}/slurm.conf",
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
        }

    def run(self, *command: object, timeout: float = 60, **more: Any) -> Any:
        """Run a command with `env`, wait, and return its CompletedProcess (text, both outputs)."""
        return subprocess.run(
            [str(word) for word in command],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            **more,
        )

    def check(self, *command: object, **more: Any) -> str:
        """Like `run`, but return the output without its end of line; RuntimeError on failure."""
        done = self.run(*command, **more)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}\n{self.diagnostics()}")
        return str(done.stdout).strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit lines of bash with sbatch options; return the job's id."""
        output = f"--output={self.folder}/job-%j.out"
        return self.check(
            "sbatch", "--parsable", output, *options, input=f"#!/bin/bash\n{script}\n"
        )

    def jobs(self, state: str | None = None) -> list[Job]:
        """Every job that Slurm remembers, also finished: the keys of FIELDS, restarts an int."""
        fields = ",".join(f"{field}:|" for field in FIELDS.values())
        lines = self.check("squeue", "--noheader", "--states=all", "-O", fields).splitlines()
        jobs: list[Job] = [dict(zip(FIELDS, line.split("|"), strict=False)) for line in lines]
        for job in jobs:
            job["restarts"] = int(job["restarts"])
            job["comment"] = job["comment"].replace("(null)", "")
        return [job for job in jobs if state in (None, job["state"])]

    def job(self, id: str) -> Job:
        """One job as in `jobs`; KeyError where Slurm does not know it."""
        return {job["id"]: job for job in self.jobs()}[id]

    def output(self, id: str) -> str:
        """What a job of `submit` has written."""
        return (self.folder / f"job-{id}.out").read_text()

    def wait_for(self, predicate: Callable[[], Found], timeout: float = 30) -> Found:
        """The first true value of `predicate`, evaluated five times a second; else TimeoutError."""
        end = time.monotonic() + timeout
        while not (found := predicate()):
            if time.monotonic() > end:
                raise TimeoutError(f"not so within {timeout} s\n{self.diagnostics()}")
            time.sleep(0.2)
        return found

    def wait_job(self, id: str, *states: str, timeout: float = 30) -> Job:
        """Wait until a job is in one of `states` (none: in any final state), and return it."""
        wanted = set(states) or FINAL
        return self.wait_for(
            lambda: next((j for j in self.jobs() if j["id"] == id and j["state"] in wanted), {}),
            timeout,
        )

    # Faults

    def cancel(self, id: str, signal: str | None = None) -> None:
        """Scancel a job, or send a signal (TERM, USR1..) to its batch script and all its steps."""
        self.check("scancel", *([f"--signal={signal}", "--full"] if signal else []), id)

    def requeue(self, id: str) -> None:
        """Requeue a running job, as after a preemption, and let it start again in 2 s."""
        self.check("scontrol", "requeue", id)
        self.hasten(id)

    def hasten(self, id: str) -> None:
        """Spare a job that Slurm is requeueing, for whatever reason, the `requeue_delay`."""
        self.wait_job(id, "PENDING")
        # Within the same second its node would still take it for the one that was ended.
        self.check("scontrol", "update", f"JobId={id}", "StartTime=now+2")

    def expire(self, id: str) -> None:
        """Let a running job reach its time limit; Slurm checks every 30 s."""
        # Slurm refuses a time that is over, and a second may end between client and controller.
        end = ("scontrol", "update", f"JobId={id}", "EndTime=now+1")
        self.wait_for(lambda: self.run(*end).returncode == 0)

    def set_node(self, node: str, state: str, reason: str = "test") -> None:
        """Give a node a state: DOWN, DRAIN, RESUME."""
        self.check("scontrol", "update", f"NodeName={node}", f"State={state}", f"Reason={reason}")

    def node_states(self) -> dict[str, str]:
        """State of each node as sinfo says it: idle, mixed, allocated, down*, drained.."""
        lines = self.check("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N %T").splitlines()
        return {node: state for node, state in map(str.split, lines)}

    def is_up(self, node: str) -> bool:
        """Whether the node's slurmd lives and the controller believes it."""
        out = ("down", "drain", "unknown", "*")
        return bool(self.pid(node)) and not any(s in self.node_states()[node] for s in out)

    def kill_slurmd(self, node: str) -> None:
        """Kill -9 the daemon of a node; its jobs live on."""
        kill(lambda: [p for p in self.processes() if p.name == str(self.pid(node))])

    def crash_node(self, node: str) -> None:
        """Kill -9 everything on a node, daemon and jobs, as when its power fails."""
        log, mark = str(self.folder / f"{node}.log"), f"SLURMD_NODENAME={node}\0".encode()
        kill(lambda: [p for p in self.processes() if log in open_files(p) or mark in words(p)])

    def start_slurmd(self, node: str) -> None:
        """Start the daemon of a node and wait until it answers; a node set DOWN stays DOWN."""
        self._daemon("slurmd", "-N", node)
        self.wait_for(lambda: not self.node_states()[node].endswith(("*", "unknown")))

    def kill_slurmctld(self, *, saved: bool = True) -> None:
        """Kill -9 the controller, after it has saved its jobs (which takes up to 5 s).

        Without `saved` it wakes with the jobs of its last save: it does not know younger ones,
        and takes a job that runs for one that waits.
        """
        live = [job for job in self.jobs() if job["state"] not in FINAL]
        if saved and live:
            now, file = time.time(), self.folder / "state" / "job_state"
            comment = f"Comment={live[0]['comment']}"
            self.check("scontrol", "update", f"JobId={live[0]['id']}", comment)
            self.wait_for(lambda: file.exists() and file.stat().st_mtime > now)
        kill(lambda: [p for p in self.processes() if p.name == str(self.pid("slurmctld"))])

    def start_slurmctld(self) -> None:
        """Start the controller and wait until it answers."""
        self._daemon("slurmctld")
        self.wait_for(lambda: "UP" in self.run("scontrol", "ping").stdout)

    # Inside

    def pid(self, daemon: str) -> int:
        """Process id of slurmctld, munged or a node's slurmd; 0 where it is not alive."""
        try:
            id = int((self.folder / f"{daemon}.pid").read_text())
            return id if str(self.folder).encode() in words(Path(f"/proc/{id}")) else 0
        except (FileNotFoundError, ValueError):
            return 0

    def processes(self) -> list[Path]:
        """/proc/N of all that is or uses this cluster, but for this process and its ancestors."""
        return processes(self.folder)

    def diagnostics(self) -> str:
        """Jobs, nodes and the last lines of every log."""
        parts = [f"{p} {self.run(p).stdout}{self.run(p).stderr}" for p in ("squeue", "sinfo")]
        for log in sorted(self.folder.glob("[ns]*.log")):  # not munged's
            lines = log.read_text(errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"-- {log}", *lines]))
        return "\n".join(parts)

    def _start_munged(self) -> None:
        files = {
            "key-file": "munge.key",
            "socket": "munge.sock",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munged.seed",
        }
        self._daemon("mungekey", "--create", "--force", f"--keyfile={self.folder}/munge.key")
        self._daemon("munged", "--force", *(f"--{k}={self.folder}/{v}" for k, v in files.items()))

    def _daemon(self, name: str, *options: str) -> None:
        if name.startswith("slurm"):
            options = ("-f", f"{self.folder}/slurm.conf", *options)
        done = subprocess.run(
            [f"/usr/sbin/{name}", *options],
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        if done.returncode:
            raise RuntimeError(f"{name} does not start: {done.stderr}\n{self.diagnostics()}")

    def _write(self) -> None:
        for name in ("bin", "gpu", "state", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        text = (
            Path(__file__)
            .with_name("slurm.conf")
            .read_text()
            .format(
                folder=self.folder,
                host=socket.gethostname().split(".")[0],
                ports=free_ports(3),
                **self.times,
            )
        )
        (self.folder / "slurm.conf").write_text(text)
        # Else slurmd needs the machine's cgroups, which a container may not have.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # Slurm counts a GPU only where there is a device file.
        for number in range(8):
            device = self.folder / "gpu" / f"gpu{number}"
            if not device.is_symlink():
                device.symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-2] Name=gpu Type=h100 File={self.folder}/gpu/gpu[0-7]\n"
        )
        for name in CLIENTS:
            wrapper = self.folder / "bin" / name
            conf = shlex.quote(f"{self.folder}/slurm.conf")
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec /usr/bin/{name} "$@"\n')
            wrapper.chmod(0o755)
