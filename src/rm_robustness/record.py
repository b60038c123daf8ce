"""The record beside every checkpoint and table: what made it, from what, where and how long."""

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .config import Settings
from .files import sha256

PACKAGES = (
    "accelerate", "alpaca_eval", "datasets", "numpy", "openai", "pandas", "pyarrow", "safetensors",
    "scikit-learn", "scipy", "snakemake", "tokenizers", "torch", "transformers", "trl",
)  # fmt: skip


def record(
    settings: Settings,
    inputs: dict[str, Path],
    files: list[Path],
    seed: int | None,
    started: float,
    **facts: Any,
) -> Settings:
    """What made some files: to be written beside them, last of all.

    Holds the settings, the seed, the git revision and whether the tree was dirty, a hash of this
    package's code, package versions, sha256 of every input and file, the hardware, and the wall
    time in seconds since `started` (a time.time()).
    """
    return {
        "settings": settings,
        "seed": seed,
        "git": revision(),
        "code": code(),
        "packages": versions(),
        "inputs": {
            name: {"path": str(path), "sha256": sha256(path)} for name, path in inputs.items()
        },
        "files": {path.name: sha256(path) for path in files},
        "hardware": hardware(),
        "wall_seconds": round(time.time() - started, 1),
        **facts,
    }


@functools.cache
def revision() -> dict[str, Any]:
    """The git revision of the working directory and whether anything tracked differs from it."""

    def git(*arguments: str) -> str | None:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    dirty = git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit, "dirty": bool(dirty) if dirty is not None else None}


@functools.cache
def code() -> str:
    """Hash this package's source files, committed or not: their paths and bytes."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can move a number."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


@functools.cache
def hardware() -> dict[str, Any]:
    """Machine kind, processor, and GPUs where there are any."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    torch = sys.modules.get("torch")  # a table has no use for it, and it takes seconds to import
    if torch is None:
        return {"cpu": cpu, "threads": 1, "gpus": []}
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {"cpu": cpu, "threads": torch.get_num_threads(), "gpus": gpus}
