"""Evidence that files and records are checked against, and the commands that repair them."""

import hashlib
import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..experiment.config import Configs
from ..progress import Progress
from . import git
from .dvc_lock import Lock, Stage
from .lineage import Lineage, preset_of, rule_of


class Sums:
    """Current hashes of files: each file is read once, and only `budget` bytes in total.

    `report` is called with the bytes that are read so far.
    """

    def __init__(self, budget: float = math.inf, report: Callable[[int], None] = lambda done: None):
        self.budget, self.report, self.done = budget, report, 0
        self.known: dict[str, tuple[str, str] | None] = {}

    def of(self, path: str) -> tuple[str, str] | None:
        """The sha256 and md5 of a file; None beyond the budget."""
        if path not in self.known:
            size = Path(path).stat().st_size
            self.known[path] = None
            if self.done + size <= self.budget:
                self.known[path] = self._read(path)
        return self.known[path]

    def _read(self, path: str) -> tuple[str, str]:
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                md5.update(block)
                self.done += len(block)
                self.report(self.done)
        return sha256.hexdigest(), md5.hexdigest()


@contextmanager
def hashing(name: str, files: Iterable[str]) -> Iterator[Sums]:
    """Sums with progress on stderr, in megabytes of some files."""
    progress = Progress(name, int(total_size(files) / 1e6) + 1, "MB")
    yield Sums(report=lambda done: progress.update(min(int(done / 1e6), progress.total - 1)))
    progress.update(progress.total)


def total_size(files: Iterable[str]) -> int:
    """Bytes of the files that exist."""
    return sum(Path(file).stat().st_size for file in files if Path(file).is_file())


@dataclass
class Evidence:
    """Records, dvc.lock, the bytes of files, configurations and git."""

    lineage: Lineage
    lock: Lock
    sums: Sums
    configs: Configs

    @cached_property
    def git_refusal(self) -> str | None:
        """Why git cannot answer queries here; None where it can."""
        return git.refusal()

    @cached_property
    def file_of(self) -> dict[str, str]:
        """A file for each recorded sha256."""
        outputs = map(self.lineage.outputs, self.lineage.records)
        return {sha256: file for digests in outputs for file, sha256 in digests.items()}

    @cached_property
    def expected(self) -> set[str]:
        """All files that are known to DVC or Snakemake."""
        return self.lineage.metadata.outputs() | set(self.lock.files)

    def repair(self, path: str) -> str:
        """The command that restores a file: from DVC's cache or remote, or by making it again."""
        if path not in self.lock.files:
            return self.remake(path)
        if self.lock.holds(path):
            return f"rm -f {shlex.quote(path)} && dvc checkout {shlex.quote(path)}"
        cached = os.path.relpath(self.lock.object(self.lock.files[path]))
        return f"rm -f {shlex.join([path, cached])} && dvc pull {shlex.quote(path)}"

    def remake(self, path: str) -> str:
        """The command that makes a file again, up to date or not for Snakemake."""
        configs = shlex.join(map(str, self.configs.files(preset_of(path))))
        target = shlex.quote(self.lineage.record_of.get(path, path))
        return f"snakemake --force --configfile {configs or 'FILES_OF_ITS_PRESET'} -- {target}"

    def rerun(self, stage: Stage, records: list[str]) -> str:
        """The commands that run the jobs of a stage again, for sources that changed."""
        rules = " ".join(sorted({rule_of(self.lineage, record) for record in records}))
        command = stage.command.replace(" -- ", f" --forcerun {rules} -- ")
        return f"{command} && {self.repro(stage)}"

    def repro(self, stage: Stage) -> str:
        """The commands that record a stage again, and then the stages that depend on it."""
        again = f"dvc repro --force --single-item {stage.name}"
        return f"{again} && dvc repro --downstream {stage.name}"
