"""Text of a lineage: a tree of jobs, and the facts that all of them share."""

import math
import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path, PurePath

from ..experiment.config import Settings
from .lineage import FOLDERS, Lineage, rule_of

WIDTH = 100
# The main settings, of a job and of its parts; --json has all.
SHOWN = (
    *("kind", "repo", "revision", "architecture", "hidden_size", "layers", "learning_rate"),
    *("epochs", "global_batch", "micro_batch", "max_length", "schedule", "warmup", "weight_decay"),
    *("bf16", "beta", "k", "prompts_per_update", "temperature", "max_new_tokens", "model"),
    *("annotator", "rows", "train_prompts", "evaluation_prompts", "responses_per_prompt"),
    *("gold_responses", "batch_tokens", "reference", "seed"),
)
PARTS = ("init", "sft")


@dataclass
class Tree:
    """Formats a lineage as a tree; jobs that differ only by their seed are merged.

    `records` are those of the lineage, `keep(record, input)` selects inputs; `marked` files get
    (!).
    """

    lineage: Lineage
    records: list[str]
    keep: Callable[[str, str], bool]
    marked: set[str]
    drawn: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.alike: dict[str, list[str]] = {}
        for record in self.records:
            self.alike.setdefault(_seedless(record), []).append(record)
        self.facts = {record: _facts(self.lineage.records[record]) for record in self.records}
        names = dict.fromkeys(name for facts in self.facts.values() for name in facts)
        values = {n: Counter(facts.get(n, "?") for facts in self.facts.values()) for n in names}
        self.common = {name: counts.most_common(1)[0][0] for name, counts in values.items()}

    def draw(self, path: str) -> list[str]:
        """The tree under one file."""
        digest = self.lineage.recorded_sha256(path)
        return self._files([path], {path: digest} if digest else {}, "", "")

    def shared(self) -> list[str]:
        """Facts that all jobs share: revision, packages and machine."""
        text = ", ".join(f"{name} {value}" for name, value in self.common.items())
        return textwrap.wrap(f"{text}.", WIDTH, initial_indent="  ", subsequent_indent="  ")

    def _files(self, paths: list[str], digests: dict[str, str], lead: str, rest: str) -> list[str]:
        """Some files of one kind of job, and below them that job."""
        record_of = self.lineage.record_of
        record = paths[0] if paths[0] in self.lineage.records else record_of.get(paths[0])
        mark = " (!)" if self.marked & {*paths, *map(record_of.get, paths)} else ""
        line = f"{lead}{braces(paths)}  {' '.join(d[:8] for d in digests.values())}{mark}"
        if len(line) > WIDTH and len(paths) > 1:
            line = f"{lead}{braces(paths)}  {len(paths)} files{mark}"
        if not all(Path(path).is_file() for path in paths):
            line += ", not all here" if len(paths) > 1 else ", not here"
        if not record:
            where = "no record" if paths[0].startswith(FOLDERS) else "of the repository"
            return [f"{line}, {where}"]
        kind = _seedless(record)
        if kind in self.drawn:
            return [f"{line}, as above"]
        self.drawn.add(kind)
        return [line, *self._job(self.alike[kind], rest)]

    def _job(self, records: list[str], rest: str) -> list[str]:
        """A job, or jobs that differ only by their seed, and what they were made from."""
        inputs: dict[str, dict[str, str]] = {}
        for record in records:
            for path, digest in self.lineage.inputs(record).items():
                if self.keep(record, path):
                    kind = _seedless(self.lineage.record_of.get(path, path))
                    inputs.setdefault(kind, {})[path] = digest
        bar = "│  " if inputs else "   "
        lines = [
            line
            for text in self._description(records)
            for line in textwrap.wrap(
                text, WIDTH, initial_indent=rest + bar, subsequent_indent=f"{rest}{bar}  "
            )
        ]
        for number, digests in enumerate(inputs.values(), start=1):
            last = number == len(inputs)
            lead, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            lines += self._files(list(digests), digests, rest + lead, rest + below)
        return lines

    def _description(self, records: list[str]) -> list[str]:
        """Description of jobs: rule, time, seeds, settings, and the facts that are not shared."""
        jobs = [self.lineage.records[record] for record in records]
        times = [job["wall_seconds"] for job in jobs]
        rules = sorted({rule_of(self.lineage, record) for record in records})
        started = min(job["started"][:16].replace("T", " ") for job in jobs)
        took = f"{min(times):g} to {max(times):g} s each" if len(jobs) > 1 else f"{times[0]:g} s"
        lines = [f"by {', '.join(rules)}, {started}, {took}"]
        settings = dict.fromkeys(_settings(job["settings"]) for job in jobs)
        lines += [text for text in settings if text]
        for name, usual in self.common.items():
            for value in dict.fromkeys(self.facts[r].get(name, "?") for r in records):
                lines += [f"{name} {value}"] if value != usual else []
        return lines


def braces(paths: Iterable[str]) -> str:
    """Write paths that differ in some of their parts as one: a/seed-{0..3}/{x,y}.parquet."""
    split = [path.split("/") for path in paths]
    columns = [list(dict.fromkeys(column)) for column in zip(*split, strict=False)]
    if len(set(map(len, split))) > 1 or math.prod(map(len, columns)) != len(split):
        return ", ".join("/".join(parts) for parts in split)
    return "/".join(map(_brace, columns))


def _brace(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    seeds = sorted(int(match[1]) for name in names if (match := re.match(r"seed-(\d+)", name)))
    ends = {re.sub(r"^seed-\d+", "", name) for name in names}
    if len(seeds) == len(names) and len(ends) == 1:
        several = ",".join(map(str, seeds))
        if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
            several = f"{seeds[0]}..{seeds[-1]}"
        return f"seed-{{{several}}}{ends.pop()}"
    suffixes = {PurePath(name).suffix for name in names}
    end = suffixes.pop() if len(suffixes) == 1 else ""
    return f"{{{','.join(name.removesuffix(end) for name in names)}}}{end}"


def _seedless(path: str) -> str:
    return re.sub(r"/seed-\d+", "/seed-*", path)


def _facts(record: Settings) -> dict[str, str]:
    """Facts that jobs usually share."""
    git, machine = record["git"], record["hardware"]
    commit = git["commit"][:12] if git["commit"] else "none"
    return {
        "commit": commit + (" (dirty)" if git["dirty"] else ""),
        "code": record["code"][:12],
        "on": machine["cpu"],
        "threads": str(machine["threads"]),
        "GPUs": ", ".join(machine["gpus"]) or "none",
        **record["packages"],
    }


def _settings(settings: Settings) -> str:
    """The main settings: the objective with its options, and SHOWN."""
    shown = [("objective", settings["objective"])] if "objective" in settings else []
    shown += settings.get("options", {}).items()
    shown += [(name, settings[name]) for name in SHOWN if name in settings]
    for part in PARTS:
        inner = settings.get(part) or {}
        shown += [(f"{part}.{name}", inner[name]) for name in SHOWN if name in inner]
    return ", ".join(f"{name} {value}" for name, value in shown)


def commands(lineage: Lineage, records: list[str]) -> list[str]:
    """The shell command of each job, in the order of execution."""
    ordered = sorted(reversed(records), key=lineage.started)
    return list(dict.fromkeys(_command(lineage.records[record]) for record in ordered))


def _command(record: Settings) -> str:
    settings = shlex.quote(dumps(record["settings"], sort_keys=True))
    return str(record["command"]).replace("SETTINGS", settings)
