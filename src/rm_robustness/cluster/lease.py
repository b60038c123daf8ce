"""Lease on a work folder: a single writer at a time, renewed by a heartbeat.

When Snakemake is killed its cluster jobs keep running, and a node that Slurm has marked as down may
still compute: a second job could then start on the folder that the first still writes. The lease
makes it wait. It is a file beside the work folder, created atomically, without file-system locks;
its holder touches it every few seconds. A holder on this machine is dead when its process is; one
on another machine is dead when the file has not changed for `PATIENCE` seconds of the waiting
process's clock, so that clocks need not agree.
"""

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BEAT = 15.0  # seconds
PATIENCE = 120.0  # several beats, and the attribute cache of a network file system
LOST = 75  # exit status: EX_TEMPFAIL


@contextmanager
def hold_lease(work: Path) -> Iterator[None]:
    """Acquire and hold the lease of a work folder; wait while a running job holds it, naming it.

    The process exits with status 75 when another job has taken the lease over, which it may after
    `PATIENCE` seconds without a heartbeat.
    """
    path = work.with_name(f"{work.name}.lease")
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {**_this_process(), "token": uuid.uuid4().hex}
    _acquire(path, mine)
    done = threading.Event()
    beating = threading.Thread(target=_renew, args=(path, mine["token"], done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        if _read_holder(path).get("token") == mine["token"]:
            path.unlink(missing_ok=True)


def _acquire(path: Path, mine: dict[str, Any]) -> None:
    last_heartbeat, silent_since, last_message = None, time.monotonic(), 0.0
    while not _create(path, mine):
        holder, now = _read_holder(path), time.monotonic()
        with suppress(FileNotFoundError):
            heartbeat = (holder.get("token"), path.stat().st_mtime_ns)
            if heartbeat != last_heartbeat:
                last_heartbeat, silent_since = heartbeat, now
        if _is_dead(holder, silent=now - silent_since):
            _remove(path, holder, mine)
            continue
        if not last_message or now - last_message > 30:
            last_message = now
            print(
                f"{path.with_suffix('')}: waiting for {_description(holder)}, which is writing it",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.5)


def _create(path: Path, mine: dict[str, Any]) -> bool:
    """Create the lease file; False when it exists."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(mine))
    except FileExistsError:
        return False
    return True


def _remove(path: Path, dead: dict[str, Any], mine: dict[str, Any]) -> None:
    """Remove a dead holder's lease; one that another job has created meanwhile is restored."""
    aside = path.with_name(f"{path.name}.{mine['token']}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read_holder(aside).get("token") != dead.get("token"):
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _renew(path: Path, token: str, done: threading.Event) -> None:
    while not done.wait(BEAT):
        if _read_holder(path).get("token") != token:
            print(
                f"{path}: another job has taken the lease over; exiting",
                file=sys.stderr,
                flush=True,
            )
            os._exit(LOST)
        os.utime(path)


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _is_dead(holder: dict[str, Any], silent: float) -> bool:
    if holder.get("machine") == machine():
        return bool(_start_time(holder["pid"]) != holder["started"])
    return silent > PATIENCE


def _this_process() -> dict[str, Any]:
    return {
        "host": os.uname().nodename,
        "machine": machine(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def machine() -> str:
    """Identify this boot of this machine and its pid namespace: pids are unique within both."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start_time(pid: int) -> str | None:
    """Start time of a process in ticks since boot, to detect a reused pid; None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _description(holder: dict[str, Any]) -> str:
    job = f"Slurm job {holder['job']} (scancel {holder['job']}), " if holder.get("job") else ""
    return f"{job}process {holder.get('pid')} on {holder.get('host')}"
