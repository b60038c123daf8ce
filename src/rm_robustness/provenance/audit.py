"""What disagrees with the records of a run, and what nothing here proves."""

import hashlib
import itertools
import math
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from ..experiment.settings import Configs, compared, differences
from .dvc_lock import Lock, Stage
from .findings import Finding
from .git import code_at, file_at, known
from .lineage import Chain, preset_of, rule
from .record import code, versions
from .snakemake_metadata import packed_path


class Sums:
    """Hashes of files as they are now. Each is read once, and only `budget` bytes of all."""

    def __init__(self, budget: float = math.inf, told: Callable[[int], None] = lambda done: None):
        self.budget, self.told, self.done = budget, told, 0
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
                self.told(self.done)
        return sha256.hexdigest(), md5.hexdigest()


@dataclass
class Audit:
    """Judges files and records; what it finds is in `findings`."""

    chain: Chain
    lock: Lock
    sums: Sums
    configs: Configs
    findings: list[Finding] = field(default_factory=list)

    def run(self, files: Iterable[str], records: Iterable[str]) -> list[Finding]:
        """Judge some files and then some records, whose inputs may be among the files."""
        if not self.lock.stages:
            self._unproven("dvc.lock", "there is none: the records alone vouch for the files")
        elif file_at("HEAD", "dvc.lock") != Path("dvc.lock").read_bytes():
            self._differs("dvc.lock", "not the one that is committed")
        for out in self.lock.unlisted:
            self._unproven(out, "dvc.lock has but the sum of it here; `dvc pull` brings the rest")
        for path in files:
            self._file(path)
        # A record that is wrong itself says nothing; one in results/ is judged in its own place.
        wrong = {finding.path for finding in self.findings if finding.kind == "wrong"}
        own = [r for r in records if r not in wrong and not self.chain.original(r)]
        for record in own:
            self._place(record)
        wrong |= {finding.path for finding in self.findings if finding.kind == "wrong"}
        for record in own:
            self._inputs(record, wrong)
            self._commit(record)
            self._settings(record)
            self._today(record)
        self._sources(own)
        return self.findings

    def _file(self, path: str) -> None:
        """Compare a file's bytes with its record's, with dvc.lock's and with what it copies."""
        if not Path(path).is_file():
            return self._absent(path)
        now = self.sums.of(path)
        if now is None:
            return self._unproven(path, "large and not hashed here; `rm-robustness verify` does")
        sha256, md5 = now
        record, expected = self.chain.maker.get(path), self.chain.recorded(path)
        original = self.chain.original(path)
        theirs = self.sums.of(original) if original else None
        if theirs and theirs != now:
            text = f"not the bytes of {original}, of which it should be a copy"
            return self._wrong(path, text, f"cp {original} results/", theirs[0], sha256)
        if expected and sha256 != expected:
            twin = self.twins.get(sha256)
            text = f"not the bytes in {record}" + (f", but those of {twin}" if twin else "")
            return self._wrong(path, text, self.repair(path), expected, sha256)
        locked = self.lock.files.get(path)
        if locked and md5 != locked:
            if original:
                return self._differs(path, f"of {original}, which is not what dvc.lock has there")
            text = "not the bytes in dvc.lock"
            text += ", though those in its record: both were made or edited since" * bool(expected)
            return self._wrong(path, text, self.repair(path), f"md5 {locked}", f"md5 {md5}")
        if Path(path) == packed_path(Path(path).parent):
            return None  # Snakemake's history is a record of its own kind
        if not record and path not in self.chain.records:
            return self._without_record(path)
        if self.lock.stages and not locked and not original:
            self._unproven(path, "not in dvc.lock: its record alone vouches for it")
        return None

    def _absent(self, path: str) -> None:
        """A file that a record lists is not here."""
        if self.lock.stage(path) and path not in self.lock.files:
            return self._unproven(path, "not here, and DVC keeps none; its record says what it was")
        return self._wrong(path, "absent", self.repair(path))

    def _without_record(self, path: str) -> None:
        """No record lists a file: one was deleted or cut, or there never was one."""
        folder, name = os.path.split(path)
        for candidate in (f"{folder}/{name.split('.')[0]}.record.json", f"{folder}/record.json"):
            deleted = candidate in self.expected and not Path(candidate).is_file()
            if deleted or candidate in self.chain.broken:
                text = f"deleted: {path} has no record"
                text = f"unreadable: {self.chain.broken.get(candidate)}" if not deleted else text
                if candidate not in {finding.path for finding in self.findings}:
                    self._wrong(candidate, text, self.repair(candidate))
                return
        self._unproven(path, "no record lists it")

    def _place(self, record: str) -> None:
        """A record belongs where its command wrote, and to the seed that it names."""
        found = self.chain.records[record]
        words = shlex.split(found.get("command", ""))
        if "--output" not in words:
            return
        after = words[words.index("--output") + 1 :]
        named = itertools.takewhile(lambda word: not word.startswith("--"), after)
        outputs = [os.path.normpath(each) for each in named]
        if any(map(os.path.isabs, outputs)):
            return  # of another place, perhaps of another machine
        stems = {str(PurePath(each).with_suffix("")) for each in outputs}
        starts = tuple(f"{each}{end}" for each in {*outputs, *stems} for end in "/.")
        for file in self.chain.listed(record):
            seeds = "--seeds" not in words or f"/seed-{found['seed']}/" in file
            if not (seeds and (file in outputs or file.startswith(starts))):
                text = f"the record of {' '.join(outputs)}, seed {found['seed']}"
                self._wrong(record, f"{text}, not of {file}", self.repair(record))
                return

    def _inputs(self, record: str, wrong: set[str]) -> None:
        """What a job read is what the job before it wrote."""
        for path, used in self.chain.inputs(record).items():
            made = self.chain.recorded(path)
            if not made and Path(path).is_file():
                made = (self.sums.of(path) or [None])[0]
            if not made:
                self._unproven(path, "an input of which nothing is here")
            elif made != used and not wrong & {path, self.chain.maker.get(path)}:
                text = f"made from another version of {path}"
                self._wrong(record, text, self.make(record), made, used)

    def _commit(self, record: str) -> None:
        """The code of a record is that of its commit."""
        git, own = self.chain.records[record]["git"], self.chain.records[record]["code"]
        commit = git["commit"]
        if not commit:
            return self._unproven(record, "made outside of a git repository")
        if not known(commit):
            return self._unproven(record, f"its commit {commit[:12]} is unknown to this clone")
        if code_at(commit) == own:
            if git["dirty"]:
                self._differs(record, f"made from a dirty tree, with the code of {commit[:12]}")
        elif git["dirty"]:
            self._differs(record, f"made from a dirty tree, with code not in {commit[:12]}")
        else:
            text = f"its code is not that of its commit {commit[:12]}"
            self._wrong(record, text, self.make(record), code_at(commit) or "", own)
        return None

    def _settings(self, record: str) -> None:
        """A record's settings are those of dvc.lock, and perhaps those of today."""
        own, stage = self.chain.records[record]["settings"], self.lock.stage(record)
        if stage:
            found = differences(own, stage.params, record)
            if found is None:
                self._unproven(record, f"stage {stage.name} of dvc.lock lacks its settings")
            elif found:
                text = f"other settings in stage {stage.name} of dvc.lock: {found}"
                repair = f"dvc repro --force --single-item {stage.name} && dvc repro"
                self._wrong(record, text, repair)
        found = compared(own, self.chain.metadata.settings(record))
        if found:
            text = f"not the settings that Snakemake ran it with: {found}"
            self._wrong(record, text, self.repair(record))
        config = self.configs.of(preset_of(record))
        found = differences(own, config, record) if config else None
        if found is None:
            self._unproven(record, "no config here to compare its settings with; see --configfile")
        elif found:
            self._differs(record, f"its settings differ from the config now: {found}")

    def _today(self, record: str) -> None:
        """Code and packages may have changed since, which is no fault."""
        found, now = self.chain.records[record], versions()
        if found["code"] != code():
            self._differs(record, "the package's code has changed since")
        for name, version in found["packages"].items():
            if version != now.get(name):
                self._differs(record, f"{name} {version} then, {now.get(name)} now")

    def _sources(self, records: list[str]) -> None:
        """The sources in dvc.lock are those of a commit that its stage's records name."""
        for stage in self.lock.stages:
            own = [record for record in records if self.lock.stage(record) is stage]
            revisions = [self.chain.records[record]["git"] for record in own]
            commits = {each["commit"] for each in revisions if each["commit"]}
            for path, md5 in stage.deps.items():
                there = [file_at(commit, path) for commit in commits if known(commit)]
                sums = {_md5(content) for content in there if content is not None}
                if not sums or md5 in sums:
                    continue
                text = f"in stage {stage.name} of dvc.lock, but in no commit of its records"
                if any(each["dirty"] for each in revisions):
                    self._unproven(path, f"{text}; some were made from a dirty tree")
                else:
                    repair = self._rerun(stage, own)
                    self._wrong(path, text, repair, f"md5 {sums.pop()}", f"md5 {md5}")

    def repair(self, path: str) -> str:
        """The command that brings a file back: from DVC's cache, its remote, or by making it."""
        if path not in self.lock.files:
            return self.make(path)
        if self.lock.holds(path):
            return f"rm -f {shlex.quote(path)} && dvc checkout {shlex.quote(path)}"
        cached = os.path.relpath(self.lock.object(self.lock.files[path]))
        return f"rm -f {shlex.join([path, cached])} && dvc pull {shlex.quote(path)}"

    def make(self, path: str) -> str:
        """The command that makes a file again, whatever Snakemake thinks of it."""
        configs = shlex.join(map(str, self.configs.files(preset_of(path))))
        target = shlex.quote(self.chain.maker.get(path, path))
        return f"snakemake --force --configfile {configs or 'FILES_OF_ITS_PRESET'} -- {target}"

    def _rerun(self, stage: Stage, records: list[str]) -> str:
        """The commands that run the jobs of a stage again, for sources that changed."""
        rules = " ".join(sorted({rule(self.chain, record) for record in records}))
        command = stage.command.replace(" -- ", f" --forcerun {rules} -- ")
        return f"{command} && dvc repro --force --single-item {stage.name} && dvc repro"

    @cached_property
    def twins(self) -> dict[str, str]:
        """A file of each sha256 that a record has."""
        records = self.chain.records
        return {digest: file for r in records for file, digest in self.chain.listed(r).items()}

    @cached_property
    def expected(self) -> set[str]:
        """All files that DVC or Snakemake knows."""
        return self.chain.metadata.outputs() | set(self.lock.files)

    def _wrong(
        self, path: str, text: str, repair: str, expected: str = "", found: str = ""
    ) -> None:
        self.findings.append(Finding("wrong", path, text, expected, found, repair))

    def _differs(self, path: str, text: str) -> None:
        self.findings.append(Finding("differs", path, text))

    def _unproven(self, path: str, text: str) -> None:
        self.findings.append(Finding("unproven", path, text))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
