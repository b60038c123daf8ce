"""Parsed dvc.lock, with the file lists of the directories in it."""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..experiment.config import Settings, read_mapping


class Stage(NamedTuple):
    """A stage of dvc.lock: its outs, and the settings and sources that it was recorded with."""

    name: str
    command: str  # the first, where there are several
    outs: list[str]
    params: Settings
    deps: dict[str, str]  # paths and their md5; of a folder it ends in .dir


@dataclass
class Lock:
    """Content of dvc.lock: `files` has the md5 of each file, `unlisted` the outs without a list."""

    stages: list[Stage]
    files: dict[str, str]
    unlisted: list[str]
    cache: Path

    def stage(self, path: str) -> Stage | None:
        """The stage that a file is an out of, itself or in a directory."""
        for stage in self.stages:
            if any(path == out or path.startswith(f"{out}/") for out in stage.outs):
                return stage
        return None

    def object(self, md5: str) -> Path:
        """Path of a file's bytes in DVC's cache."""
        return self.cache / md5[:2] / md5[2:]

    def holds(self, path: str) -> bool:
        """Whether the cache has a file's bytes, undamaged."""
        cached = self.object(self.files[path])
        return cached.is_file() and _md5_of(cached) == self.files[path]


NO_LOCK = Lock([], {}, [], Path())


def read_lock() -> Lock:
    """Read dvc.lock of the working directory; NO_LOCK where there is none.

    The list of a directory's files is in DVC's cache once it was pulled or recorded here.
    """
    path = Path("dvc.lock")
    if not path.is_file():
        return NO_LOCK
    lock = Lock([], {}, [], _cache())
    for name, stage in read_mapping(path, "what DVC wrote")["stages"].items():
        files = stage.get("params", {}).values()
        params = {key: value for values in files for key, value in values.items()}
        deps = {dep["path"]: dep["md5"] for dep in stage.get("deps", [])}
        outs = {out["path"]: out["md5"] for out in stage.get("outs", [])}
        command = stage["cmd"] if isinstance(stage["cmd"], str) else stage["cmd"][0]
        lock.stages.append(Stage(name, command, list(outs), params, deps))
        for out, md5 in outs.items():
            _list_files(lock, out, md5)
    return lock


def _cache() -> Path:
    """Path of DVC's configured cache. (dvc.repo.Repo would give it too, but writes into .dvc.)"""
    from dvc.config import Config

    configured = Config(str(Path(".dvc").absolute()))["cache"].get("dir")
    return Path(configured or ".dvc/cache").absolute() / "files" / "md5"


def _list_files(lock: Lock, out: str, md5: str) -> None:
    """Add an out's files to the lock, or note that the list of a directory is missing."""
    cached = lock.object(md5)
    if not md5.endswith(".dir"):
        lock.files[out] = md5
    elif not cached.is_file():
        lock.unlisted.append(out)
    elif _md5_of(cached) != md5.removesuffix(".dir"):
        fix = f"`rm -f {cached} && dvc fetch {out}` brings the right one"
        raise InputError(cached, "bytes that are not those of its name", f"the list of {out}", fix)
    else:
        entries = json.loads(cached.read_text(encoding="utf-8"))
        lock.files |= {f"{out}/{entry['relpath']}": entry["md5"] for entry in entries}


def md5(content: bytes) -> str:
    """DVC's hash of a file's bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_md5(folder: str, files: dict[str, bytes]) -> str:
    """DVC's hash of a folder with these files: that of their list, as dvc_data.hashfile.tree does.

    `files` has bytes by path in the folder. What .dvcignore leaves out does not count.
    """
    ignored = _ignored(Path.cwd())
    entries = [
        {"md5": md5(files[name]), "relpath": name}
        for name in sorted(files)
        if not ignored(str(Path(folder, name).absolute()))
    ]
    return f"{md5(json.dumps(entries, sort_keys=True).encode())}.dir"


@functools.cache
def _ignored(root: Path) -> Callable[[str], bool]:
    """Predicate of absolute paths in a repository: whether DVC ignores one."""
    from dvc.fs import localfs
    from dvc.ignore import DvcIgnoreFilter

    ignored: Callable[[str], bool] = DvcIgnoreFilter(localfs, str(root)).is_ignored_file
    return ignored


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
