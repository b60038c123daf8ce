"""Hash everything again, against the records and dvc.lock."""

import argparse
import os
import sys
from pathlib import Path

from ..errors import InputError
from ..experiment.config import Configs
from .audit import audit
from .dvc_lock import Lock, read_lock
from .evidence import Evidence, hashing, total_size
from .findings import details, summary
from .lineage import Lineage, read_lineage


def verify_files(options: argparse.Namespace) -> None:
    """Print every mismatch and how to repair it, or that there is none: the command `verify`.

    `options`: paths (none: runs/ and results/) and configfile, lists. Exit status 1 when there is
    a mismatch. Writes nothing.
    """
    lineage, lock = read_lineage(), read_lock()
    folders = [os.path.relpath(path) for path in options.paths or ("runs", "results")]
    records = [record for record in lineage.records if _under(record, folders)]
    files = _files(lineage, lock, records, folders)
    if not files:
        raise InputError(", ".join(folders), "no file", "files under runs/ or results/")
    with hashing("verify", files) as sums:
        evidence = Evidence(lineage, lock, sums, Configs(options.configfile))
        findings = audit(evidence, files, records)
    for file in sorted(lock.files.keys() - files):
        if _under(file, folders):
            findings.unverified(file, "in dvc.lock but not here; `dvc pull` brings it")
    # What was made first is repaired first.
    findings.sort(key=lambda finding: lineage.started(finding.path))
    print("\n".join([*summary(findings, "note", "unverified"), "", *details(findings)]).strip())
    mismatches = sum(finding.kind == "mismatch" for finding in findings)
    outcome = f"{mismatches} mismatch{'es' * (mismatches > 1)}" if mismatches else "all good"
    print(f"{len(files)} files, {total_size(files) / 1e6:.1f} MB: {outcome}")
    if mismatches:
        sys.exit(1)


def _files(lineage: Lineage, lock: Lock, records: list[str], folders: list[str]) -> list[str]:
    """The files to check: those that exist, and those that DVC or a record of a run lists."""
    outputs = [file for record in records for file in lineage.outputs(record)]
    files = [file for file in dict.fromkeys([*lineage.files, *outputs]) if _under(file, folders)]
    # Not all that a record in results/ lists is copied there.
    return [f for f in files if f in lock.files or Path(f).is_file() or f.startswith("runs/")]


def _under(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
