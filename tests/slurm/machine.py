"""What the tests' Slurm needs of the machine: packages, processes, ports, locks."""

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")


def install() -> str | None:
    """Bring Slurm's Debian packages onto this machine; the reason in one line where that fails."""
    if os.geteuid() != 0:
        return "a Slurm cluster for tests needs root"
    return packages("a Slurm cluster for tests", PACKAGES, ("munged", "slurmctld", "slurmd"))


def packages(purpose: str, names: Iterable[str], daemons: Iterable[str]) -> str | None:
    """Install Debian packages where their daemons are absent; the reason where that fails."""
    if all(Path("/usr/sbin", name).exists() for name in daemons):
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"{purpose} needs the packages {' '.join(names)}, or root and apt-get"
    policy = Path("/usr/sbin/policy-rc.d")  # 101: an installed package must not start its service
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *names]):
            done = subprocess.run(
                ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *words],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                return f"apt-get {words[0]} failed: {' '.join(done.stderr.split())}"
    finally:
        if ours:
            policy.unlink()
    return None


def processes(folder: Path) -> list[Path]:
    """/proc/N of all that names a path in `folder` in its words or holds a file of it open.

    Slurm's job steps change their title, which spoils their environment: only their log shows them.
    This process and its ancestors are none of them.
    """
    mine, parent = set(), os.getpid()
    while parent:
        mine.add(str(parent))
        stat = Path(f"/proc/{parent}/stat").read_text()
        parent = int(stat.rpartition(")")[2].split()[1])
    inside = f"{folder}/"
    return [
        process
        for process in Path("/proc").glob("[0-9]*")
        if process.name not in mine
        and (
            inside.encode() in words(process)
            or any(name.startswith(inside) for name in open_files(process))
        )
    ]


def words(process: Path) -> bytes:
    """Arguments and environment of /proc/N; nothing where it has just gone."""
    try:
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return b""


def open_files(process: Path) -> list[str]:
    """Paths that /proc/N holds open; none where it has just gone."""
    try:
        return [str(entry.readlink()) for entry in (process / "fd").iterdir()]
    except OSError:
        return []


def kill(chosen: Callable[[], list[Path]]) -> None:
    """Kill -9 what `chosen` finds, until it finds nothing; TimeoutError after 20 s."""
    end = time.monotonic() + 20
    while found := chosen():
        if time.monotonic() > end:
            raise TimeoutError(f"processes that do not die: {list(map(words, found))}")
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        time.sleep(0.02)


def is_free(lock: Path) -> bool:
    """Whether whoever held this lock is dead."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports below those that the kernel gives to clients, so a restarted daemon has its own."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports
