"""A finished run as its records tell it; refuses what is not finished or not what was recorded."""

from collections import ChainMap
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..experiment.config import Settings
from ..experiment.jobs import jobs
from ..files import sha256
from ..progress import Progress
from .record import records

PUBLISHED = (".csv", ".md", ".png", ".pdf")  # .html is for Snakemake's report, .json for DVC
NEEDED = {"command", "files", "git", "inputs", "packages", "started", "wall_seconds"}


class Run(NamedTuple):
    """All jobs of a preset, and the bytes that they took and made: paths to sha256."""

    jobs: dict[Path, Settings]  # by the path of their record
    made: dict[Path, str]  # under runs/PRESET; those that are not released may be absent
    given: dict[Path, str]  # read by jobs, made by none
    results: dict[Path, str]  # in results/, the records too


def finished(config: Settings) -> Run:
    """Read the run of a preset in the working directory.

    InputError where a result is missing or of another run, where a job that others read from has
    no whole record, or where a file that is here is not the one that was recorded.
    """
    folder = Path("runs") / config["preset"]
    found = records(folder)
    for record, job in found.items():
        if missing := NEEDED - job.keys():
            raise _unfinished(record, f"no {', '.join(sorted(missing))}", "a whole record")
    for name in (job.rule for job in jobs(config) if job.phase == "results"):
        if name.startswith("publish_"):
            continue
        if folder / f"results/{name}.record.json" not in found:
            raise _unfinished(folder / f"results/{name}.record.json", "no such file", "a result")
    made = {
        record.with_name(name): digest
        for record, job in found.items()
        for name, digest in job["files"].items()
    }
    read = {Path(each["path"]): each for job in found.values() for each in job["inputs"].values()}
    given = {path: each["sha256"] for path, each in read.items() if path not in made}
    for path in given:
        if path.is_relative_to(folder):
            raise _unfinished(path, "no record of it", "one of every file that a job read")
    results = _results(folder / "results", found)
    _compare(found, ChainMap(made, given, results))
    return Run(found, made, given, results)


def _results(folder: Path, found: dict[Path, Settings]) -> dict[Path, str]:
    """What results/ has to hold: copies of the preset's results and of their records."""
    copies: dict[Path, str] = {}
    for record, job in found.items():
        names = [name for name in job["files"] if name.endswith(PUBLISHED)]
        if record.parent == folder and names:
            copies |= {Path("results") / name: job["files"][name] for name in names}
            copies[Path("results") / record.name] = sha256(record)
    for path in copies:
        for needed in (path, folder / path.name):
            if not needed.is_file():
                raise _unfinished(needed, "no such file", "a result")
    return dict(sorted(copies.items()))


def _compare(found: dict[Path, Settings], known: ChainMap[Path, str]) -> None:
    """Make sure that all files that are here, and all that jobs read, are the recorded ones."""
    for record, job in found.items():
        for each in job["inputs"].values():
            if known[Path(each["path"])] != each["sha256"]:
                where = f"{record}: inputs: {each['path']}"
                raise _unfinished(where, "other bytes", "those that are recorded of it now")
    here = sorted(path for path in known if path.is_file())
    progress = Progress("recorded files", len(here), "files")
    for done, path in enumerate(here, 1):
        if sha256(path) != known[path]:
            raise _unfinished(path, "other bytes", "those that are recorded")
        progress.update(done)


def _unfinished(where: object, found: str, expected: str) -> InputError:
    fix = "`snakemake ... all` finishes a run, `rm-robustness verify` says how to mend one"
    return InputError(where, found, expected, fix)
