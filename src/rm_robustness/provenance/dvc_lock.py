"""What DVC vouches for: dvc.lock, and the lists of files of the directories in it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..experiment.config import Settings, read_mapping


class Stage(NamedTuple):
    """A stage of dvc.lock: its outs, the settings and the sources that it was recorded with."""

    name: str
    command: str  # the first, where there are several
    outs: list[str]
    params: Settings
    deps: dict[str, str]  # path and md5 of single files


@dataclass
class Lock:
    """What dvc.lock says; `files` has the md5 of each file, `unlisted` outs without their list."""

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
        """Where DVC's cache keeps a file's bytes."""
        return self.cache / md5[:2] / md5[2:]

    def holds(self, path: str) -> bool:
        """Tell whether the cache has a file's bytes, and right ones."""
        kept = self.object(self.files[path])
        return kept.is_file() and md5_of(kept) == self.files[path]


def read() -> Lock:
    """Read dvc.lock of the working directory; one without stages where there is none.

    The list of a directory's files is in DVC's cache once it was pulled or recorded here.
    """
    path = Path("dvc.lock")
    if not path.is_file():
        return Lock([], {}, [], Path())
    lock = Lock([], {}, [], _cache())
    for name, found in read_mapping(path, "what DVC wrote")["stages"].items():
        params = [values for file, values in found.get("params", {}).items()]
        merged = {key: value for values in params for key, value in values.items()}
        deps = {each["path"]: each["md5"] for each in found.get("deps", [])}
        single = {file: md5 for file, md5 in deps.items() if not md5.endswith(".dir")}
        outs = {each["path"]: each["md5"] for each in found.get("outs", [])}
        command = found["cmd"] if isinstance(found["cmd"], str) else found["cmd"][0]
        lock.stages.append(Stage(name, command, list(outs), merged, single))
        for out, md5 in outs.items():
            _list(lock, out, md5)
    return lock


def _cache() -> Path:
    """DVC's cache as it is configured. (dvc.repo.Repo would tell too; it asks git, and writes.)"""
    from dvc.config import Config

    configured = Config(str(Path(".dvc").absolute()))["cache"].get("dir")
    return Path(configured or ".dvc/cache").absolute() / "files" / "md5"


def _list(lock: Lock, out: str, md5: str) -> None:
    """Put an out's files into the lock, or note that the list of a directory is not here."""
    kept = lock.object(md5)
    if not md5.endswith(".dir"):
        lock.files[out] = md5
    elif not kept.is_file():
        lock.unlisted.append(out)
    elif md5_of(kept) != md5.removesuffix(".dir"):
        fix = f"`rm -f {kept} && dvc fetch {out}` brings the right one"
        raise InputError(kept, "bytes that are not those of its name", f"the list of {out}", fix)
    else:
        listed = json.loads(kept.read_text(encoding="utf-8"))
        lock.files |= {f"{out}/{each['relpath']}": each["md5"] for each in listed}


def md5_of(path: Path) -> str:
    """DVC's name for a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
