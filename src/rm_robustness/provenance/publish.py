"""results/: a copy of one preset's results, which stay in runs/PRESET/results."""

import filecmp
import shutil
from pathlib import Path

from ..files import atomic_write
from .snakemake_metadata import note

FOLDER = Path("results")


def publish(paths: list[Path]) -> None:
    """Copy results of one run to results/ and remove there the results that are not of this run.

    `paths` are files of one runs/PRESET/results; with those of a result comes its record, by which
    another preset's are known. Other files in results/ stay.
    """
    for record in FOLDER.glob("*.record.json"):
        if not _same(record, paths[0].with_name(record.name)):
            stem = record.name.removesuffix(".record.json")
            for path in sorted(FOLDER.glob(f"{stem}.*")):  # the record comes last
                path.unlink(missing_ok=True)
    # Records come first, and every file is whole or absent: several of these jobs may be under way.
    for path in sorted(paths, key=lambda path: not path.name.endswith(".record.json")):
        copy = FOLDER / path.name
        if not _same(copy, path):
            with atomic_write(copy) as draft:
                shutil.copyfile(path, draft)
            # So that `snakemake results/table2.csv` takes no other preset's for its own.
            note(copy, [each for each in paths if _result(each) == _result(path)])


def _result(path: Path) -> str:
    return path.name.partition(".")[0]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
