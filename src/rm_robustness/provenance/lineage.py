"""The chain of files: the record that says how each was made, and from which others.

Everything is named by its path relative to the root of the repository, the working directory.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..experiment.config import Settings
from ..files import read_json
from .snakemake_metadata import Metadata

KEYS = {"code", "files", "git", "hardware", "inputs", "packages", "settings", "wall_seconds"}
FOLDERS = ("runs/", "results/")
PASSING = ("work", "benchmarks")  # of runs/PRESET: neither is a result


@dataclass
class Chain:
    """What is on disk under runs/ and results/, and what its records say.

    `records` has the content of each record by its path, `broken` why a record cannot be read,
    `maker` the record of each file that one lists, `metadata` what Snakemake knows.
    """

    files: list[str]
    records: dict[str, Settings] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    maker: dict[str, str] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=Metadata)

    def listed(self, record: str) -> dict[str, str]:
        """The files that a record lists and their sha256."""
        folder, _, _ = record.rpartition("/")
        made = self.records[record]["files"]
        return {f"{folder}/{name}": digest for name, digest in made.items()}

    def recorded(self, path: str) -> str | None:
        """The sha256 that a file has in its record; None where no record lists it."""
        record = self.maker.get(path)
        return self.listed(record)[path] if record else None

    def inputs(self, record: str) -> dict[str, str]:
        """What a record's files were made from, and the sha256 that it had."""
        return {each["path"]: each["sha256"] for each in self.records[record]["inputs"].values()}

    def began(self, path: str) -> str:
        """When the job of a file or record began, in ISO 8601; "" where nothing says so."""
        return str(self.records.get(self.maker.get(path, path), {}).get("started", ""))

    def original(self, path: str) -> str | None:
        """The file under runs/ that results/NAME is a copy of: of several presets, the same one.

        None where there is none, or where no preset's record or file is that of results/.
        """
        if not path.startswith("results/"):
            return None
        copied = re.compile(rf"runs/[^/]+/{re.escape(path)}")
        found = [file for file in self.files if copied.fullmatch(file)]
        if len(found) == 1:
            return found[0]
        own = self.records.get(self.maker.get(path, path))
        for file in found:
            if (own and own == self.records.get(self.maker.get(file, file))) or _same(path, file):
                return file
        return None

    def behind(self, path: str, keep: Callable[[str, str], bool]) -> Iterator[str]:
        """Yield the records that a file or a record rests on, its own first, each once.

        `keep(record, input)` says whether an input of a record belongs to the question.
        """
        seen, waiting = set(), [path]
        while waiting:
            at = waiting.pop(0)
            record = at if at in self.records else self.maker.get(at)
            if record and record not in seen:
                seen.add(record)
                yield record
                waiting += [each for each in self.inputs(record) if keep(record, each)]


def read() -> Chain:
    """Read the files and records of the working directory; judges nothing."""
    chain = Chain([file for folder in FOLDERS for file in _walk(folder.rstrip("/"))])
    for file in chain.files:
        if not file.endswith(("/record.json", ".record.json")):
            continue
        try:
            found = read_json(Path(file))
        except InputError as error:
            chain.broken[file] = error.found
            continue
        if isinstance(found, dict) and found.keys() >= KEYS:
            chain.records[file] = found
        else:
            chain.broken[file] = f"no record, which has {', '.join(sorted(KEYS))}"
    for record in chain.records:
        for file in chain.listed(record):
            chain.maker.setdefault(file, record)
    return chain


def _walk(folder: str) -> Iterator[str]:
    for place, names, files in os.walk(folder):
        if place.count("/") == 1:
            names[:] = [name for name in names if name not in PASSING]
        names.sort()
        for name in sorted(files):
            if not name.startswith("."):  # drafts, and Snakemake's time stamps
                yield f"{place}/{name}"


def _same(one: str, other: str) -> bool:
    first, second = Path(one), Path(other)
    return first.is_file() and first.read_bytes() == second.read_bytes()


def rule(chain: Chain, record: str) -> str:
    """The rule of a job, or the verb of its command where Snakemake's note of it is not here."""
    words = shlex.split(chain.records[record].get("command", "")) or ["", "an unknown rule"]
    known = (chain.metadata.of(path).get("rule") for path in [record, *chain.listed(record)])
    return str(next(filter(None, known), words[1]))


def preset_of(path: str) -> str | None:
    """The preset of a path runs/PRESET/..."""
    found = re.match(r"runs/([^/]+)/", path)
    return found[1] if found else None
