"""Lineage of files: the record of the job that made each, and the inputs of that job.

All paths are relative to the root of the repository, which is the working directory.
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

KEYS = {
    *("code", "command", "files", "git", "hardware", "inputs", "packages", "settings"),
    *("started", "wall_seconds"),
}
FOLDERS = ("runs/", "results/")
SKIPPED = ("work", "benchmarks")  # of runs/PRESET: neither is a result


@dataclass
class Lineage:
    """Files under runs/ and results/, and their records.

    `records` has the content of each record by its path, `broken` why a record cannot be read,
    `record_of` the record of each file that one lists, `metadata` what Snakemake knows.
    """

    files: list[str]
    records: dict[str, Settings] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    record_of: dict[str, str] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=Metadata)

    def outputs(self, record: str) -> dict[str, str]:
        """The files that a record lists and their sha256."""
        folder, _, _ = record.rpartition("/")
        files = self.records[record]["files"]
        return {f"{folder}/{name}": digest for name, digest in files.items()}

    def inputs(self, record: str) -> dict[str, str]:
        """The inputs of a record's job and their sha256."""
        inputs = self.records[record]["inputs"].values()
        return {entry["path"]: entry["sha256"] for entry in inputs}

    def recorded_sha256(self, path: str) -> str | None:
        """The sha256 that a file has in its record; None where no record lists it."""
        record = self.record_of.get(path)
        return self.outputs(record)[path] if record else None

    def started(self, path: str) -> str:
        """Start of the job of a file or record, in ISO 8601; "" if it is not recorded."""
        return str(self.records.get(self.record_of.get(path, path), {}).get("started", ""))

    def original(self, path: str) -> str | None:
        """The file under runs/ that results/NAME is a copy of: of several presets, the same one.

        None where there is none, or where no preset's record or file is that of results/.
        """
        if not path.startswith("results/"):
            return None
        pattern = re.compile(rf"runs/[^/]+/{re.escape(path)}")
        candidates = [file for file in self.files if pattern.fullmatch(file)]
        if len(candidates) == 1:
            return candidates[0]
        record = self.records.get(self.record_of.get(path, path))
        for file in candidates:
            same_record = record == self.records.get(self.record_of.get(file, file))
            if (record and same_record) or _same_bytes(path, file):
                return file
        return None

    def ancestors(self, path: str, keep: Callable[[str, str], bool]) -> Iterator[str]:
        """Yield the records that a file or a record depends on, starting with its own, each once.

        `keep(record, input)` says whether an input of a record is followed.
        """
        seen, waiting = set(), [path]
        while waiting:
            current = waiting.pop(0)
            record = current if current in self.records else self.record_of.get(current)
            if record and record not in seen:
                seen.add(record)
                yield record
                waiting += [name for name in self.inputs(record) if keep(record, name)]


def read_lineage() -> Lineage:
    """Read the files and records of the working directory; checks and writes nothing."""
    lineage = Lineage([file for folder in FOLDERS for file in _walk(folder.rstrip("/"))])
    for file in lineage.files:
        if file.endswith(("/record.json", ".record.json")):
            _read_record(lineage, file)
    for record in lineage.records:
        for file in lineage.outputs(record):
            lineage.record_of.setdefault(file, record)
    return lineage


def _read_record(lineage: Lineage, file: str) -> None:
    try:
        record = read_json(Path(file))
    except InputError as error:
        lineage.broken[file] = error.found
        return
    missing = KEYS - record.keys() if isinstance(record, dict) else KEYS
    if missing:
        lineage.broken[file] = f"no {', '.join(sorted(missing))}"
    else:
        lineage.records[file] = record


def _walk(folder: str) -> Iterator[str]:
    for place, names, files in os.walk(folder):
        if place.count("/") == 1:
            names[:] = [name for name in names if name not in SKIPPED]
        names.sort()
        for name in sorted(files):
            if not name.startswith("."):  # drafts, and Snakemake's time stamps
                yield f"{place}/{name}"


def _same_bytes(one: str, other: str) -> bool:
    first, second = Path(one), Path(other)
    return first.is_file() and first.read_bytes() == second.read_bytes()


def rule_of(lineage: Lineage, record: str) -> str:
    """The rule of a job, or the verb of its command where Snakemake's metadata are not here."""
    paths = [record, *lineage.outputs(record)]
    rules = (lineage.metadata.of(path).get("rule") for path in paths)
    return str(next(filter(None, rules), verb_of(lineage.records[record])))


def verb_of(record: Settings) -> str:
    """The verb of `rm-robustness` that a job ran."""
    words = shlex.split(record["command"])
    return words[1] if len(words) > 1 else "an unknown verb"


def preset_of(path: str) -> str | None:
    """The preset of a path runs/PRESET/..."""
    match = re.match(r"runs/([^/]+)/", path)
    return match[1] if match else None
