"""GPUs of one machine: which there are, and a shell for a job that has some of them to itself.

The profile `gpus` gives jobs this shell. It takes as many free GPUs as the job needs, sets
CUDA_VISIBLE_DEVICES and becomes bash, so that no command needs to know of it. A GPU is taken by a
lock on a file of this user. Every process of the job inherits the lock, so the GPU is free again
when the last of them has ended, by a `kill -9` too.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ..errors import InputError, refuse

LOCKS = Path(f"/tmp/rm-robustness-gpus-{os.getuid()}")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def listed() -> list[str]:
    """The GPUs of this machine: those of CUDA_VISIBLE_DEVICES, or all that nvidia-smi lists."""
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name]
    return _query("index")


def memory() -> list[float]:
    """GB of each GPU that nvidia-smi lists."""
    return [float(size) * 2**20 / 1e9 for size in _query("memory.total")]


def _query(field: str) -> list[str]:
    """A field of each GPU of the machine; none without a driver."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return answer.stdout.split()


def take(count: int, gpus: list[str]) -> list[str]:
    """Lock `count` of these GPUs for this process and its children; wait until so many are free.

    Raises InputError when there are fewer.
    """
    if count > len(gpus):
        raise InputError(
            "GPUs",
            f"{len(gpus)} ({', '.join(gpus) or 'none'})",
            f"{count}",
            "correct the keys at the top of profiles/gpus/config.yaml; `nvidia-smi` lists them",
        )
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    waited = False
    while True:
        with (LOCKS / "door").open("w") as door:  # one job at a time looks
            fcntl.flock(door, fcntl.LOCK_EX)
            taken = _free(gpus)
            for name in list(taken)[count:] if len(taken) >= count else list(taken):
                os.close(taken.pop(name))
        if len(taken) == count:
            for lock in taken.values():
                os.set_inheritable(lock, True)
            return list(taken)
        if not waited:
            print(f"GPUs: waiting for {count} of {', '.join(gpus)}", file=sys.stderr, flush=True)
        waited = True
        time.sleep(0.5)


def _free(gpus: list[str]) -> dict[str, int]:
    """Lock the GPUs that no job has; the open lock file of each."""
    taken = {}
    for name in gpus:
        lock = os.open(LOCKS / f"gpu-{name}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken[name] = lock
        except BlockingIOError:
            os.close(lock)
    return taken


def shell_name(count: int) -> str:
    """The file name of a shell with `count` GPUs."""
    return f"shell-with-{count}-gpus"


def shell_of(count: int, folder: Path) -> str:
    """The path of a program that is bash with `count` GPUs, written into `folder`."""
    path = folder.absolute() / shell_name(count)
    text = f'#!/bin/sh\nexec "{sys.executable}" -m rm_robustness.cluster.gpus {count} "$@"\n'
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o755)
        draft.replace(path)
    return str(path)


def main() -> None:
    """Take the GPUs and become bash with the other arguments; CPU jobs see no GPU."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        taken = take(int(sys.argv[1]), listed() if sys.argv[1] != "0" else [])
    except InputError as error:
        refuse(error)
    os.environ[VISIBLE] = ",".join(taken)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # that of nvidia-smi
    os.execvp("bash", ["bash", *sys.argv[2:]])


if __name__ == "__main__":
    main()
