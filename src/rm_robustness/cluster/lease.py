"""One writer at a time: a lease on a work folder, kept alive by a heartbeat.

When Snakemake is killed its cluster jobs live on, and a node that Slurm has given up may still
compute: then a second job begins what a first one is still writing. The lease makes it wait. It is
a file beside the work folder, made in one step, that needs no lock of the file system's; its
holder touches it every few seconds. A holder on this machine is dead when its process is; one on
another machine is dead when it has not touched the file for `PATIENCE` seconds by the waiter's own
clock, so that clocks need not agree.
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
PATIENCE = 120.0  # several beats and what a network file system may keep from its readers
LOST = 75


@contextmanager
def hold_lease(work: Path) -> Iterator[None]:
    """Hold the lease of a work folder; wait, and print for which job, while a live one holds it.

    The process exits at once with status 75 when its lease was taken over: it was silent for so
    long that another job writes now.
    """
    path = work.with_name(f"{work.name}.lease")
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = {**_self(), "token": uuid.uuid4().hex}
    _acquire(path, mine)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, mine["token"], done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        if _holder(path).get("token") == mine["token"]:
            path.unlink(missing_ok=True)


def _acquire(path: Path, mine: dict[str, Any]) -> None:
    seen, since, told = None, time.monotonic(), 0.0
    while not _create(path, mine):
        holder, now = _holder(path), time.monotonic()
        with suppress(FileNotFoundError):
            sign = (holder.get("token"), path.stat().st_mtime_ns)
            if sign != seen:
                seen, since = sign, now
        if _dead(holder, silent=now - since):
            _remove(path, holder, mine)
            continue
        if not told or now - told > 30:
            told = now
            print(
                f"{path.with_suffix('')}: waiting for {_named(holder)}, which is writing it",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.5)


def _create(path: Path, mine: dict[str, Any]) -> bool:
    """Make the file; False when there is one."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(mine))
    except FileExistsError:
        return False
    return True


def _remove(path: Path, dead: dict[str, Any], mine: dict[str, Any]) -> None:
    """Take a dead holder's file away; one that somebody made in the meantime is put back."""
    aside = path.with_name(f"{path.name}.{mine['token']}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _holder(aside).get("token") != dead.get("token"):
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _beat(path: Path, token: str, done: threading.Event) -> None:
    while not done.wait(BEAT):
        if _holder(path).get("token") != token:
            print(f"{path}: the lease is another job's now; ending", file=sys.stderr, flush=True)
            os._exit(LOST)
        os.utime(path)


def _holder(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _dead(holder: dict[str, Any], silent: float) -> bool:
    if holder.get("machine") == machine():
        return bool(_started(holder["pid"]) != holder["started"])
    return silent > PATIENCE


def _self() -> dict[str, Any]:
    return {
        "host": os.uname().nodename,
        "machine": machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def machine() -> str:
    """Name this boot of this machine and its process numbers, which a container has of its own."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str | None:
    """When a process began, in ticks since boot: with it a number that was used again is told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _named(holder: dict[str, Any]) -> str:
    job = f"Slurm job {holder['job']} (scancel {holder['job']}), " if holder.get("job") else ""
    return f"{job}process {holder.get('pid')} on {holder.get('host')}"
