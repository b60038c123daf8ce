"""Hash everything again, against the records and against what DVC vouches for."""

import argparse
import os
import sys
from pathlib import Path

from ..errors import InputError
from ..experiment.config import Configs
from ..progress import Progress
from . import dvc_lock
from . import lineage as chains
from .audit import Audit, Sums
from .findings import Finding, brief, full


def run(options: argparse.Namespace) -> None:
    """Print what is wrong with how to repair it, or that all is good: what the verb `verify` does.

    `options`: paths (none: runs/ and results/) and configfile, lists. Exit status 1 when a file
    or a record is wrong.
    """
    chain, lock = chains.read(), dvc_lock.read()
    paths = [os.path.relpath(path) for path in options.paths or ("runs", "results")]
    records = [record for record in chain.records if _under(record, paths)]
    listed = [file for record in records for file in chain.listed(record)]
    files = [file for file in dict.fromkeys([*chain.files, *listed]) if _under(file, paths)]
    # Not all that a record in results/ lists is copied there.
    files = [f for f in files if f in lock.files or Path(f).is_file() or f.startswith("runs/")]
    if not files:
        raise InputError(", ".join(paths), "no file", "files under runs/ or results/")
    size = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    progress = Progress("verify", int(size / 1e6) + 1, "MB")
    sums = Sums(told=lambda done: progress.update(min(int(done / 1e6), progress.total - 1)))
    findings = Audit(chain, lock, sums, Configs(options.configfile)).run(files, records)
    progress.update(progress.total)
    findings += [
        Finding("unproven", file, "in dvc.lock but not here; `dvc pull` brings it")
        for file in sorted(lock.files.keys() - files)
        if _under(file, paths)
    ]
    # What was made first is repaired first.
    findings.sort(key=lambda finding: chain.began(finding.path))
    wrong = [finding for finding in findings if finding.kind == "wrong"]
    print("\n".join([*brief(findings, "differs", "unproven"), "", *full(findings)]).strip())
    total = f"{len(files)} files, {size / 1e6:.1f} MB"
    print(f"{total}: {len(wrong)} wrong" if wrong else f"{total}: all good")
    if wrong:
        sys.exit(1)


def _under(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
