"""Lineage of a file or of a row of a table, with the findings about it (`rm-robustness trace`)."""

import argparse
import csv
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..experiment.config import Configs, Settings, nearest
from ..experiment.scenarios import ALL, AVERAGE
from .audit import audit
from .dvc_lock import read_lock
from .evidence import Evidence, Sums
from .findings import TITLES, Findings, summary
from .lineage import Lineage, read_lineage, rule_of
from .trace_text import Tree, commands

BUDGET = 400e6  # bytes that are hashed, some seconds; `rm-robustness verify` hashes all
Row = dict[str, str]


class Question(NamedTuple):
    """A file, rows of its csv, and the names that only its other rows have."""

    path: str
    rows: list[Row]
    others: set[str]

    def keep(self, record: str, path: str) -> bool:
        """Whether an input belongs to the rows; only results have inputs of several rows."""
        return "/results/" not in record or not {*Path(path).with_suffix("").parts} & self.others


@dataclass
class Trace:
    """Result: `start` is the file in question, `records` are those that it depends on."""

    start: str
    question: Question
    records: list[str]
    evidence: Evidence
    findings: Findings

    @property
    def lineage(self) -> Lineage:
        """All files and records."""
        return self.evidence.lineage

    def inputs(self, record: str) -> dict[str, str]:
        """The inputs of a record that belong to the question."""
        inputs = self.lineage.inputs(record).items()
        return {path: sha256 for path, sha256 in inputs if self.question.keep(record, path)}


def print_trace(options: argparse.Namespace) -> None:
    """Print the lineage of a file: the command `trace`. Writes nothing.

    `options`: path, row (a list of KEY=VALUE, or empty), configfile (a list), commands and json.
    """
    trace = _trace(options.path, options.row, options.configfile)
    print(_as_json(trace) if options.json else _as_text(trace, options.row, options.commands))


def _trace(path: Path, row: list[str], configfiles: list[Path]) -> Trace:
    lineage = read_lineage()
    start = _start(lineage, path)
    source = lineage.original(start) or start
    question = _question(lineage, source, row)
    records = list(lineage.ancestors(source, question.keep))
    evidence = Evidence(lineage, read_lock(), Sums(BUDGET), Configs(configfiles))
    trace = Trace(start, question, records, evidence, Findings())
    files = dict.fromkeys([start, source, lineage.record_of.get(start, start)])
    for record in records:
        files |= dict.fromkeys([*lineage.outputs(record), record])
        files |= dict.fromkeys(name for name in trace.inputs(record) if name in lineage.files)
    trace.findings += audit(evidence, files, records)
    return trace


def _start(lineage: Lineage, path: Path) -> str:
    """The file at a path, or the record of a folder; InputError where there is none."""
    name = os.path.relpath(path)
    if f"{name}/record.json" in lineage.records:
        return f"{name}/record.json"
    if name in lineage.files or name in lineage.record_of:
        return name
    suggestion = (
        nearest(name, lineage.files) if lineage.files else "`snakemake all` or `dvc pull` first"
    )
    raise InputError(path, "no such file", "a file under results/ or runs/", suggestion)


def _question(lineage: Lineage, path: str, pairs: list[str]) -> Question:
    """Find the rows that `pairs` (KEY=VALUE) name, and what only other rows of the csv rest on."""
    if not pairs:
        return Question(path, [], set())
    table = Path(path).with_suffix(".csv")
    if not table.is_file():
        raise InputError(path, "no csv beside it", "--row with a table, a figure or the claims")
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or [])
    keys = dict(pair.partition("=")[::2] for pair in pairs)
    selected = rows
    for key, value in keys.items():
        values = list(dict.fromkeys(row.get(key, "") for row in selected))
        if key not in columns:
            raise InputError("--row", f"'{key}'", f"a column of {table}", nearest(key, columns))
        selected = [row for row in selected if row[key] == value]
        if not selected:
            raise InputError("--row", f"{key}={value}", f"a row of {table}", nearest(value, values))
    selected_or_averaged = [r for r in rows if any(r == s or _averages(s, r) for s in selected)]
    names = {name for row in selected_or_averaged for name in _names(row)} | {"sft"}
    if any(row.get("difference") for row in selected):
        reference = lineage.records[lineage.record_of[path]]["settings"]["reference"]
        names |= {name for row in selected for name in _names(row | {"method": reference})}
    return Question(path, selected, {name for row in rows for name in _names(row)} - names)


def _averages(row: Row, other: Row) -> bool:
    """Whether a row is a mean over scenarios, and over backbones, of values like another row's."""
    averaged = row.get("metric") == AVERAGE and row["method"] == other["method"]
    return averaged and row["backbone"] in (other["backbone"], ALL)


def _names(row: Row) -> set[str]:
    """The names that a row's numbers have in the paths of their inputs."""
    method = row.get("reward_model") or row.get("method", "").removeprefix("rloo-")
    split = row.get("split") or row.get("metric", "").rpartition("_")[0]
    run = row.get("run")
    policy = f"{run}-{method}" if run else method
    return {name for name in (row.get("backbone"), policy, split) if name}


def _as_text(trace: Trace, row: list[str], with_commands: bool) -> str:
    lineage, question, records = trace.lineage, trace.question, trace.records
    mismatched = trace.findings.mismatched()
    tree = Tree(lineage, records, question.keep, mismatched)
    lines = [" ".join([trace.start, *row]), ""]
    if question.rows:
        lines += [*map(number, question.rows), *_narrowed(trace), ""]
    if trace.start != question.path:
        lines += [f"{trace.start} is a copy of"]
    lines += [*tree.draw(question.path), ""]
    if with_commands:
        lines += ["Commands, from the raw data on:", *commands(lineage, records), ""]
    if records:
        lines += [f"Jobs: {len(records)}. Of each, unless it says otherwise:", *tree.shared(), ""]
    lines += [] if mismatched else ["Nothing is wrong with these files and records."]
    return "\n".join([*lines, *summary(trace.findings, *TITLES)])


def number(row: Row) -> str:
    """Format a row: its keys, its value with interval and seeds, the paper's value."""
    cells = {key: cell for key, cell in row.items() if cell}
    if not {"metric", "value", "ci_low"} <= cells.keys():
        return ", ".join(f"{key} {cell}" for key, cell in cells.items())
    names = [cells.get(key, "") for key in ("backbone", "run", "method", "metric", "n")]
    text = f"{' '.join(filter(None, names))}: {cells['value']} {_interval(row, 'ci')}"
    over = [f"{cells[f'n_{name}']} {name}" for name in ("seeds", "prompts") if f"n_{name}" in cells]
    text += f", 95%{' over ' * bool(over)}{', '.join(over)}"
    if "difference" in cells:
        text += f"; from the reference {_short(cells['difference'])} {_interval(row, 'difference')}"
    paper = f"{cells['paper']} ({cells.get('paper_model')})" if "paper" in cells else None
    return f"{text}; the paper: {paper or 'no such number'}"


def _interval(row: Row, name: str) -> str:
    return f"[{_short(row[f'{name}_low'])}, {_short(row[f'{name}_high'])}]"


def _short(cell: str) -> str:
    return f"{float(cell):.4g}" if cell else "-"


def _narrowed(trace: Trace) -> list[str]:
    """Describe how far the lineage was narrowed to the rows."""
    lineage = trace.lineage
    results = [record for record in trace.records if "/results/" in record]
    total = sum(len(lineage.inputs(record)) for record in results)
    inputs = [path for record in results for path in trace.inputs(record)]
    seeds = sorted({int(seed) for path in inputs for seed in re.findall(r"/seed-(\d+)", path)})
    lines = [f"seeds {', '.join(map(str, seeds))}"] if seeds else []
    if len(inputs) == total:
        return [*lines, "The lineage is that of the whole file: its inputs name no single row."]
    lines += [f"Of {total} inputs of the file, these rows rest on {len(inputs)}."]
    if any(row.get("p_holm") for row in trace.question.rows):
        lines += ["Holm's correction counts the comparisons of the other rows too."]
    return lines


def _as_json(trace: Trace) -> str:
    question = trace.question
    answer = {
        "path": trace.start,
        "copy_of": question.path if question.path != trace.start else None,
        "rows": question.rows,
        "records": {record: _record(trace, record) for record in trace.records},
        "files": {file: _file(trace, file) for file in trace.evidence.sums.known},
        "findings": [finding._asdict() for finding in trace.findings],
    }
    return json.dumps(answer, indent=2)


def _record(trace: Trace, record: str) -> Settings:
    """A record with its rule; of its inputs, those of the question."""
    content = trace.lineage.records[record]
    return {**content, "rule": rule_of(trace.lineage, record), "inputs": trace.inputs(record)}


def _file(trace: Trace, file: str) -> dict[str, Any]:
    """The recorded and the current hash of a file, the latter None where it was not hashed."""
    sums = trace.evidence.sums.of(file)
    return {
        "recorded": trace.lineage.recorded_sha256(file),
        "sha256": sums[0] if sums else None,
        "record": trace.lineage.record_of.get(file),
    }
