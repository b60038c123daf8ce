"""Check files, records, dvc.lock and git against each other."""

from collections.abc import Iterable
from pathlib import Path

from .evidence import Evidence
from .file_checks import FileChecks
from .findings import Findings
from .git import file_at
from .record_checks import RecordChecks


def audit(evidence: Evidence, files: Iterable[str], records: Iterable[str]) -> Findings:
    """Check the given files, then the given records, whose inputs may be among the files."""
    findings = Findings()
    if evidence.git_refusal:
        findings.unverified("git", f"commits and sources are not checked: {evidence.git_refusal}")
    _check_lock(evidence, findings)
    file_checks = FileChecks(evidence, findings)
    for path in files:
        file_checks.check(path)
    RecordChecks(evidence, findings).check(records)
    return findings


def _check_lock(evidence: Evidence, findings: Findings) -> None:
    """dvc.lock is there, committed, and the lists of its directories are here."""
    if not evidence.lock.stages:
        findings.unverified("dvc.lock", "no dvc.lock: only records identify the files")
    elif not evidence.git_refusal and file_at("HEAD", "dvc.lock") != Path("dvc.lock").read_bytes():
        findings.note("dvc.lock", "not the one that is committed")
    for out in evidence.lock.unlisted:
        findings.unverified(out, "the list of its files is not here; `dvc pull` brings it")
