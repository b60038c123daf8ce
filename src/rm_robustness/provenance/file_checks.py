"""Checks of one file: its bytes match its record, dvc.lock, and the file that it is a copy of."""

import os
from dataclasses import dataclass
from pathlib import Path

from .evidence import Evidence
from .findings import Findings
from .snakemake_metadata import packed_path


@dataclass
class FileChecks:
    """Checks of files, one at a time, that append to `findings`."""

    evidence: Evidence
    findings: Findings

    def check(self, path: str) -> None:
        """Check a file, up to its first mismatch."""
        if not Path(path).is_file():
            self._absent(path)
        elif self.evidence.sums.of(path) is None:
            text = "large and not hashed here; `rm-robustness verify` does"
            self.findings.unverified(path, text)
        elif not (self._differs_from_original(path) or self._differs_from_record(path)):
            self._against_lock(path)

    def _absent(self, path: str) -> None:
        """Report a recorded file that is missing."""
        lock = self.evidence.lock
        if lock.stage(path) and path not in lock.files:
            text = "not here, and DVC keeps none; its record says what it was"
            self.findings.unverified(path, text)
        else:
            self.findings.mismatch(path, "absent", self.evidence.repair(path))

    def _differs_from_original(self, path: str) -> bool:
        """Compare a file in results/ with the file of a run that it is a copy of."""
        original, sums = self.evidence.lineage.original(path), self.evidence.sums
        expected, found = sums.of(original) if original else None, sums.of(path)
        if not (original and expected and found) or expected == found:
            return False
        text, repair = f"not the bytes of {original}, which it copies", f"cp {original} results/"
        self.findings.mismatch(path, text, repair, expected[0], found[0])
        return True

    def _differs_from_record(self, path: str) -> bool:
        """Compare a file with the record that lists it."""
        lineage, sums = self.evidence.lineage, self.evidence.sums.of(path)
        expected = lineage.recorded_sha256(path)
        if not (expected and sums) or expected == sums[0]:
            return False
        other = self.evidence.file_of.get(sums[0])
        text = f"not the bytes in {lineage.record_of[path]}"
        text += f", but those of {other}" if other else ""
        self.findings.mismatch(path, text, self.evidence.repair(path), expected, sums[0])
        return True

    def _against_lock(self, path: str) -> None:
        """Compare a file with dvc.lock, and report if it is not listed there."""
        lineage, lock = self.evidence.lineage, self.evidence.lock
        if lineage.original(path):
            return  # a copy in results/, which DVC does not keep
        record, locked = lineage.record_of.get(path), lock.files.get(path)
        _, md5 = self.evidence.sums.of(path) or ("", "")
        if locked and md5 != locked:
            text = "not the bytes in dvc.lock"
            text += ", though those in its record: both were made or edited since" * bool(record)
            repair = self.evidence.repair(path)
            self.findings.mismatch(path, text, repair, f"md5 {locked}", f"md5 {md5}")
        elif Path(path) == packed_path(Path(path).parent):
            pass  # Snakemake's metadata are a record of their own kind
        elif not record and path not in lineage.records:
            self._without_record(path)
        elif lock.stages and not locked:
            self.findings.unverified(path, "not in dvc.lock: only its record identifies it")

    def _without_record(self, path: str) -> None:
        """Report a file that no record lists: its record is missing or damaged."""
        folder, name = os.path.split(path)
        broken = self.evidence.lineage.broken
        for record in (f"{folder}/{name.split('.')[0]}.record.json", f"{folder}/record.json"):
            deleted = record in self.evidence.expected and not Path(record).is_file()
            if deleted or record in broken:
                text = f"deleted: {path} has no record"
                text = text if deleted else f"unreadable: {broken[record]}"
                if record not in {finding.path for finding in self.findings}:
                    self.findings.mismatch(record, text, self.evidence.repair(record))
                return
        self.findings.unverified(path, "no record lists it")
