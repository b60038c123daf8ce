"""Atomic files: written to a temporary path, then renamed, so that they are whole or absent."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from .errors import InputError

_NOTED: ContextVar[dict[Path, str] | None] = ContextVar("noted", default=None)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place only when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """Hash every file in a folder, by its path in it; empty if the folder does not exist."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def model_folder(model: str) -> Path:
    """Return the folder of a model on this machine; any other name is an InputError."""
    if not Path(model).is_dir():
        fix = "`rm-robustness pretrained` downloads one"
        raise InputError(model, "no such folder", "a folder with a model", fix)
    return Path(model)


@contextmanager
def track_reads() -> Iterator[dict[Path, str]]:
    """Collect the sha256 of every file that this module's functions read inside the block."""
    seen: dict[Path, str] = {}
    token = _NOTED.set(seen)
    try:
        yield seen
    finally:
        _NOTED.reset(token)


def expect(path: Path, kind: str) -> None:
    """Refuse a file that is absent (InputError names the `kind` expected); note its sha256."""
    if not path.is_file():
        raise InputError(path, "no such file", kind)
    seen = _NOTED.get()
    if seen is not None and path not in seen:
        seen[path] = sha256(path)


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    """Write sorted, indented JSON, whole or not at all."""
    write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", path)


def read_json(path: Path) -> Any:
    """Read JSON, naming file, line and column when it is cut or malformed."""
    expect(path, "a JSON file")
    return parse_json(path)


def parse_json(path: Path) -> Any:
    """`read_json` of a file that is there, which `track_reads` does not collect."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"broken JSON ({error})", "a whole JSON file", "fetch it again"
        ) from error
