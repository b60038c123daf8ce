"""Checks of records: their place, inputs, commit and settings, and the sources in dvc.lock."""

import itertools
import os
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..experiment.settings import compared, differences
from .dvc_lock import Stage, folder_md5
from .dvc_lock import md5 as md5_of
from .evidence import Evidence
from .findings import Findings
from .git import code, code_at, file_at, files_at, known
from .lineage import preset_of
from .record import versions


@dataclass
class RecordChecks:
    """Checks of records that append to `findings`."""

    evidence: Evidence
    findings: Findings

    def check(self, records: Iterable[str]) -> None:
        """Check records that have no mismatch themselves; copies in results/ have an original."""
        original, mismatched = self.evidence.lineage.original, self.findings.mismatched()
        sound = [name for name in records if name not in mismatched and not original(name)]
        for record in sound:
            self._place(record)
        mismatched = self.findings.mismatched()
        for record in sound:
            self._inputs(record, mismatched)
            self._commit(record)
            self._settings_of_lock(record)
            self._settings_of_job(record)
            self._settings_of_config(record)
            self._environment(record)
        if not self.evidence.git_refusal:
            self._sources(sound)

    def _place(self, record: str) -> None:
        """Check that a record lies where its command wrote, with the seed that its path names."""
        content = self.evidence.lineage.records[record]
        words = shlex.split(content["command"])
        outputs = _outputs(words)
        if any(map(os.path.isabs, outputs)):
            return  # of another folder, perhaps of another machine
        stems = {str(PurePath(output).with_suffix("")) for output in outputs}
        prefixes = tuple(f"{name}{end}" for name in {*outputs, *stems} for end in "/.")
        for file in self.evidence.lineage.outputs(record) if outputs else ():
            of_seed = "--seeds" not in words or re.search(rf"/seed-{content['seed']}[/.]", file)
            if not (of_seed and (file in outputs or file.startswith(prefixes))):
                if self._is_copy(record, outputs):
                    text = f"a copy from a run that is not here: {' '.join(outputs)}"
                    self.findings.unverified(record, text)
                    return
                text = f"the record of {' '.join(outputs)}, seed {content['seed']}, not of {file}"
                self.findings.mismatch(record, text, self.evidence.repair(record))
                return

    @staticmethod
    def _is_copy(record: str, outputs: Collection[str]) -> bool:
        """Whether a record of results/ is that of the same file of a run, which is not here."""
        originals = {f"{PurePath(output).with_suffix('')}.record.json" for output in outputs}
        return any(
            PurePath(each).parts[0] == "runs"
            and PurePath(each).parts[2:] == PurePath(record).parts
            and not Path(each).exists()
            for each in originals
        )

    def _inputs(self, record: str, mismatched: set[str]) -> None:
        """Check that a job read what an earlier job wrote."""
        lineage = self.evidence.lineage
        for path, read in lineage.inputs(record).items():
            written = lineage.recorded_sha256(path)
            if not written and Path(path).is_file():
                written = (self.evidence.sums.of(path) or [None])[0]
            if not written:
                self.findings.unverified(path, "an input that neither is here nor has a record")
            elif written != read and not mismatched & {path, lineage.record_of.get(path)}:
                text = f"made from another version of {path}"
                self.findings.mismatch(record, text, self.evidence.remake(record), written, read)

    def _commit(self, record: str) -> None:
        """Check that the code hash of a record is that of its commit, if git has the commit."""
        content = self.evidence.lineage.records[record]
        revision, recorded = content["git"], content["code"]
        commit = revision["commit"]
        if not commit:
            reason = revision.get("reason", "not a git repository")
            self.findings.unverified(record, f"its commit is not recorded: {reason}")
        elif self.evidence.git_refusal:
            if revision["dirty"]:
                self.findings.note(record, f"made in a dirty tree of {commit[:12]}")
        elif not known(commit):
            text = f"its commit {commit[:12]} is unknown to this clone"
            self.findings.unverified(record, text)
        elif revision["dirty"]:
            of = "the code of" if code_at(commit) == recorded else "code that is not in"
            self.findings.note(record, f"made in a dirty tree, with {of} {commit[:12]}")
        elif code_at(commit) != recorded:
            text = f"its code is not that of its commit {commit[:12]}"
            repair = self.evidence.remake(record)
            self.findings.mismatch(record, text, repair, code_at(commit) or "", recorded)

    def _settings_of_lock(self, record: str) -> None:
        """Check that a record's settings are those of its stage in dvc.lock."""
        recorded = self.evidence.lineage.records[record]["settings"]
        stage = self.evidence.lock.stage(record)
        if not stage:
            return  # DVC does not keep it
        text = differences(recorded, stage.params, record)
        if text is None:
            self.findings.unverified(record, f"stage {stage.name} of dvc.lock lacks its settings")
        elif text:
            text = f"other settings in stage {stage.name} of dvc.lock: {text}"
            self.findings.mismatch(record, text, self.evidence.repro(stage))

    def _settings_of_job(self, record: str) -> None:
        """Check that a record's settings are those of the command that Snakemake ran."""
        lineage = self.evidence.lineage
        text = compared(lineage.records[record]["settings"], lineage.metadata.settings(record))
        if text:
            text = f"not the settings that Snakemake ran it with: {text}"
            self.findings.mismatch(record, text, self.evidence.repair(record))

    def _settings_of_config(self, record: str) -> None:
        """Note settings that differ from the current configuration, which is no error."""
        recorded = self.evidence.lineage.records[record]["settings"]
        config = self.evidence.configs.of(preset_of(record))
        text = differences(recorded, config, record) if config else None
        if text is None:
            missing = "no config here to compare its settings with; see --configfile"
            self.findings.unverified(record, missing)
        elif text:
            self.findings.note(record, f"its settings differ from the config now: {text}")

    def _environment(self, record: str) -> None:
        """Note code and packages that have changed since, which is no error."""
        content, current = self.evidence.lineage.records[record], versions()
        if content["code"] != code():
            self.findings.note(record, "the package's code has changed since")
        for name, version in content["packages"].items():
            if version != current.get(name):
                self.findings.note(record, f"{name} {version} then, {current.get(name)} now")

    def _sources(self, records: list[str]) -> None:
        """Check that the sources in dvc.lock are those of a commit of its stage's records."""
        lock = self.evidence.lock
        for stage in lock.stages:
            jobs = [record for record in records if lock.stage(record) is stage]
            for path, md5 in stage.deps.items():
                if jobs and not lock.stage(path):  # an out of a stage is data
                    self._source(stage, jobs, path, md5)

    def _source(self, stage: Stage, records: list[str], path: str, md5: str) -> None:
        """Check that a source file or folder in dvc.lock is that of a commit of the records."""
        revisions = [self.evidence.lineage.records[record]["git"] for record in records]
        commits = {git["commit"] for git in revisions if git["commit"] and known(git["commit"])}
        sums = {self._md5_at(commit, path, md5) for commit in commits} - {None}
        text = f"in stage {stage.name} of dvc.lock, but in no commit of its records"
        if not sums:
            text = f"in stage {stage.name} of dvc.lock; no known commit of its records has it"
            self.findings.unverified(path, text)
        elif md5 not in sums and any(git["dirty"] for git in revisions):
            self.findings.unverified(path, f"{text}; some were made in a dirty tree")
        elif md5 not in sums:
            repair = self.evidence.rerun(stage, records)
            self.findings.mismatch(path, text, repair, f"md5 {sums.pop()}", f"md5 {md5}")

    def _md5_at(self, commit: str, path: str, md5: str) -> str | None:
        """DVC's hash of a file, or of a folder if `md5` is one's, in a commit; None without it."""
        if md5.endswith(".dir"):
            files = files_at(commit, path)
            return folder_md5(path, files) if files else None
        content = file_at(commit, path)
        return None if content is None else md5_of(content)


def _outputs(words: list[str]) -> list[str]:
    """The paths after `--output` in a command; none where it has no such option."""
    if "--output" not in words:
        return []
    rest = words[words.index("--output") + 1 :]
    paths = itertools.takewhile(lambda word: not word.startswith("--"), rest)
    return [os.path.normpath(path) for path in paths]
