"""Where a file, or a row of a table, comes from: its chain of records, and what disagrees."""

import argparse
import csv
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..experiment.config import Configs, Settings, nearest
from . import dvc_lock
from . import lineage as chains
from .audit import Audit, Sums
from .findings import TITLES, brief
from .lineage import Chain, rule
from .trace_text import Tree, commands

BUDGET = 400e6  # bytes that are hashed, some seconds; `rm-robustness verify` hashes all
Row = dict[str, str]


class Question(NamedTuple):
    """What is asked for: a file, the rows of its csv, and names that only other rows have."""

    path: str
    rows: list[Row]
    others: set[str]

    def keep(self, record: str, path: str) -> bool:
        """Tell whether an input belongs to the rows; only results have inputs of several rows."""
        return "/results/" not in record or not {*Path(path).with_suffix("").parts} & self.others


def run(options: argparse.Namespace) -> None:
    """Print where a file comes from: what the verb `trace` does.

    `options`: path, row (a list of KEY=VALUE, or empty), configfile (a list), commands and json.
    """
    chain = chains.read()
    start = _start(chain, options.path)
    source = chain.original(start) or start
    question = _question(chain, source, options.row)
    records = list(chain.behind(source, question.keep))
    files = dict.fromkeys([start, source, chain.maker.get(start, start)])
    for record in records:
        inputs = [path for path in chain.inputs(record) if question.keep(record, path)]
        files |= dict.fromkeys([*chain.listed(record), record])
        files |= dict.fromkeys(path for path in inputs if path in chain.files)
    audit = Audit(chain, dvc_lock.read(), Sums(BUDGET), Configs(options.configfile))
    audit.run(files, records)
    tell = _as_json if options.json else _as_text
    print(tell(chain, start, question, records, audit, options))


def _start(chain: Chain, path: Path) -> str:
    """The file that is asked for, or the record of a folder; InputError where there is none."""
    found = os.path.relpath(path)
    if f"{found}/record.json" in chain.records:
        return f"{found}/record.json"
    if found in chain.files or found in chain.maker:
        return found
    known = nearest(found, chain.files) if chain.files else "`snakemake all` or `dvc pull` first"
    raise InputError(path, "no such file", "a file under results/ or runs/", known)


def _question(chain: Chain, path: str, pairs: list[str]) -> Question:
    """Find the rows that `pairs` (KEY=VALUE) name, and what only other rows of the csv rest on."""
    if not pairs:
        return Question(path, [], set())
    table = Path(path).with_suffix(".csv")
    if not table.is_file():
        raise InputError(path, "no csv beside it", "--row with a table, a figure or the claims")
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or [])
    wanted = dict(pair.partition("=")[::2] for pair in pairs)
    chosen = rows
    for key, value in wanted.items():
        known = list(dict.fromkeys(row.get(key, "") for row in chosen))
        if key not in columns:
            raise InputError("--row", f"'{key}'", f"a column of {table}", nearest(key, columns))
        chosen = [row for row in chosen if row[key] == value]
        if not chosen:
            raise InputError("--row", f"{key}={value}", f"a row of {table}", nearest(value, known))
    own = {name for row in chosen for name in _names(row)} | {"sft"}
    if any(row.get("difference") for row in chosen):
        reference = chain.records[chain.maker[path]]["settings"]["reference"]
        own |= {name for row in chosen for name in _names(row | {"method": reference})}
    return Question(path, chosen, {name for row in rows for name in _names(row)} - own)


def _names(row: Row) -> set[str]:
    """The names that a row's numbers have in the paths of their inputs."""
    method = row.get("reward_model") or row.get("method", "").removeprefix("rloo-")
    split = row.get("split") or row.get("metric", "").rpartition("_")[0]
    run = row.get("run")
    policy = f"{run}-{method}" if run else method
    return {name for name in (row.get("backbone"), policy, split) if name}


def _as_text(
    chain: Chain,
    start: str,
    question: Question,
    records: list[str],
    audit: Audit,
    options: argparse.Namespace,
) -> str:
    marked = {finding.path for finding in audit.findings if finding.kind == "wrong"}
    tree = Tree(chain, records, question.keep, marked)
    lines = [" ".join([start, *options.row]), ""]
    if question.rows:
        lines += [*map(number, question.rows), *_narrowed(chain, question, records), ""]
    if start != question.path:
        lines += [f"{start} is a copy of"]
    lines += [*tree.draw(question.path), ""]
    if options.commands:
        lines += ["Commands, from the raw data on:", *commands(chain, records), ""]
    if records:
        lines += [f"Jobs: {len(records)}. Of each, unless it says otherwise:", *tree.shared(), ""]
    if not any(finding.kind == "wrong" for finding in audit.findings):
        lines += ["Nothing is wrong with these files and records."]
    return "\n".join([*lines, *brief(audit.findings, *TITLES)])


def number(row: Row) -> str:
    """A row as a person reads it: what it is of, its value with interval and seeds, the paper's."""
    told = {key: cell for key, cell in row.items() if cell}
    if not {"metric", "value", "ci_low"} <= told.keys():
        return ", ".join(f"{key} {cell}" for key, cell in told.items())
    names = [told.get(key, "") for key in ("backbone", "run", "method", "metric", "n")]
    text = f"{' '.join(filter(None, names))}: {told['value']} {_interval(row, 'ci')}"
    over = [f"{told[f'n_{name}']} {name}" for name in ("seeds", "prompts") if f"n_{name}" in told]
    text += f", 95%{' over ' * bool(over)}{', '.join(over)}"
    if "difference" in told:
        text += f"; from the reference {_short(told['difference'])} {_interval(row, 'difference')}"
    paper = f"{told['paper']} ({told.get('paper_model')})" if "paper" in told else "no such number"
    return f"{text}; the paper: {paper}"


def _interval(row: Row, name: str) -> str:
    return f"[{_short(row[f'{name}_low'])}, {_short(row[f'{name}_high'])}]"


def _short(cell: str) -> str:
    return f"{float(cell):.4g}" if cell else "-"


def _narrowed(chain: Chain, question: Question, records: list[str]) -> list[str]:
    """Say how far the chain is that of the rows alone."""
    inputs = [(r, path) for r in records if "/results/" in r for path in chain.inputs(r)]
    kept = [path for record, path in inputs if question.keep(record, path)]
    seeds = sorted({int(seed) for path in kept for seed in re.findall(r"/seed-(\d+)", path)})
    lines = [f"seeds {', '.join(map(str, seeds))}"] if seeds else []
    if len(kept) == len(inputs):
        return [*lines, "The chain is that of the whole file: its inputs name no single row."]
    lines += [f"Of {len(inputs)} inputs of the file, {len(kept)} are behind this."]
    if any(row.get("p_holm") for row in question.rows):
        lines += ["Holm's correction counts the comparisons of the other rows too."]
    return lines


def _as_json(
    chain: Chain,
    start: str,
    question: Question,
    records: list[str],
    audit: Audit,
    options: argparse.Namespace,
) -> str:
    files = {}
    for file in audit.sums.known:
        sums = audit.sums.of(file)
        files[file] = {
            "recorded": chain.recorded(file),
            "sha256": sums[0] if sums else None,
            "record": chain.maker.get(file),
        }
    whole = {
        "path": start,
        "copy_of": question.path if question.path != start else None,
        "rows": question.rows,
        "records": {record: _told(chain, question, record) for record in records},
        "files": files,
        "findings": [finding._asdict() for finding in audit.findings],
    }
    return json.dumps(whole, indent=2)


def _told(chain: Chain, question: Question, record: str) -> Settings:
    """A record with its rule; of its inputs, those of the question."""
    inputs = {
        path: digest for path, digest in chain.inputs(record).items() if question.keep(record, path)
    }
    return {**chain.records[record], "rule": rule(chain, record), "inputs": inputs}
