"""Page of all results of a preset: verdicts, figures, tables, claims, provenance and scope."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from math import prod
from pathlib import Path
from shlex import join
from struct import unpack
from typing import Any

from ..experiment.catalog import RESULTS, is_figure
from ..experiment.config import Settings
from ..files import expect
from .html import mark, rendered
from .html_page import document
from .tables import markdown_table
from .verdicts import counts, read_verdicts, shown

# Sections that a preset may leave out, with the keys that tell their size.
SECTIONS = {
    "rm_bench": ("backbone", "objectives", "seeds"),
    "ranks": ("objectives", "rows"),
    "rloo": ("runs", "seeds", "epochs"),
    "alpaca_eval": ("run", "seeds"),
}
ROW = ("claim", "part", "backbone", "run", "method", "reward_model", "metric")  # what names a row
PAPER = "https://arxiv.org/abs/2505.07271"
STYLE = """\
body { max-width: 68rem; } .table { max-height: none; }
header .soft, .soft { color: var(--soft); font-size: .92rem; }
nav a { margin-right: 1.1rem; white-space: nowrap; }
section { margin-top: 3rem; } 
section > h2 { padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
article { margin: 2.2rem 0 3rem; } article h3 { margin-bottom: .3rem; }
h4 { margin: 2rem 0 .5rem; font-size: 1.02rem; }
figure { margin: 1.2rem 0; padding: .8rem; border: 1px solid var(--line); border-radius: 6px;
  background: #ffffff; width: fit-content; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; }
.tally { max-width: none; font-size: 1.15rem; font-weight: 600; }
.tally > span { white-space: nowrap; }
.claims { margin: 1.2rem 0; padding: 0; list-style: none; border-top: 1px solid var(--line); }
.claims li { max-width: none; border-bottom: 1px solid var(--line); }
.claims a { display: grid; grid-template-columns: 1.6rem 2.6rem 1fr 10.5rem; gap: .2rem .5rem;
  padding: .45rem .3rem; text-decoration: none; } .claims a:hover { background: var(--band); }
.claims b { font-weight: 600; } .claims .verdict { color: var(--soft); }
.claims .found { grid-column: 3; color: var(--soft); font-size: .85rem; }
details { margin: .5rem 0; } summary { cursor: pointer; } details details { margin-left: 1.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
pre { max-height: 24rem; font-size: .85rem; }
@media (max-width: 640px) { body { padding: 0 .9rem; }
  .claims a { grid-template-columns: 1.6rem 2.6rem 1fr; } .claims .verdict { grid-column: 3; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } figure { padding: .3rem; } }
"""


def index_page(
    results: Path, captions: Path, settings: Settings, records: Mapping[str, Settings]
) -> str:
    """The page, from a folder results/ and the captions of the report (*.rst).

    `settings` are those of the job `index`, `records` those of the results by their names.
    Everything from a file is escaped. The page loads nothing but the figures beside it, and says
    nothing of the time at which it was made.
    """
    names = sorted(settings["results"], key=lambda name: (RESULTS[name].section, name))
    shown = [name for name in names if name != "claims"]
    sections: dict[str, list[str]] = defaultdict(list)
    for name in shown:
        sections[RESULTS[name].section.partition(" ")[2]].append(name)
    rows = read_verdicts(_present(results / "claims.csv"))
    title = f"Results of preset {settings['preset']}"
    parts = [
        _header(title, settings["note"], [*sections]),
        _verdicts(rows, settings["preset"]),
        *(
            _section(heading, [_result(results, captions, name, settings) for name in inside])
            for heading, inside in sections.items()
        ),
        _section("The claims in detail", [_claims(results, captions, settings)]),
        _section("Where each number comes from", [_origins(results, names, records)]),
        _section("What was run, and what was not", [rendered(_scope(settings))]),
    ]
    return document("\n".join(parts), title, STYLE, images=True)


def _present(path: Path) -> Path:
    """A file that must be there, noted as an input of the job."""
    expect(path, "a result of the preset, or its caption")
    return path


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower())


def _header(title: str, note: str, headings: list[str]) -> str:
    parts = ["Verdicts", *headings, "The claims in detail", "Where each number comes from"]
    parts += ["What was run, and what was not"]
    links = [f'<a href="#{_anchor(part)}">{escape(part)}</a>' for part in parts]
    return f"""\
<header><h1>{escape(title)}</h1>
<p>{escape(note)}</p>
<p class="soft">A reproduction of <a href="{PAPER}">On the Robustness of Reward Models for Language
Model Alignment</a> (Hong et al., ICML 2025). Every number is computed from raw data; those of the
paper are marked as such. Intervals are at 95%.</p>
<nav class="soft">{" ".join(links)}</nav></header>"""


def _section(heading: str, parts: list[str]) -> str:
    body = "\n".join(parts)
    return f'<section id="{_anchor(heading)}"><h2>{escape(heading)}</h2>\n{body}</section>'


def _verdicts(rows: list[dict[str, str]], preset: str) -> str:
    """The tally, and a line for each claim that leads to its details."""
    counted = ", ".join(
        f"<span>{mark(verdict)} {count} {escape(shown(verdict))}</span>"
        for verdict, count in counts(rows).items()
    )
    claims = "\n".join(
        f'<li><a href="#{escape(row["claim"])}">{mark(row["verdict"])}<b>{escape(row["claim"])}</b>'
        f"<span>{escape(row['statement'])}</span>"
        f'<span class="verdict">{escape(shown(row["verdict"], row["scope"]))}</span>'
        f"{_found(row['could_have_found'])}</a></li>"
        for row in rows
    )
    return _section(
        "Verdicts",
        [
            f'<p class="tally">Of {len(rows)} claims: {counted}</p>',
            f"<p>These are verdicts for the models of preset <code>{escape(preset)}</code>. "
            "Inconclusive: the data are compatible with the claim and with its opposite; below the "
            "statement stands what could have been found.</p>",
            f'<ol class="claims">\n{claims}\n</ol>',
        ],
    )


def _found(could_have_found: str) -> str:
    return f'<span class="found">{escape(could_have_found)}</span>' if could_have_found else ""


def _result(results: Path, captions: Path, name: str, settings: Settings) -> str:
    """A figure or a table with its caption and its files."""
    caption = _caption(captions, name)
    if is_figure(name):
        body = _figure(results, name) + caption + _files(name, "csv", "pdf", "png")
    else:
        body = caption + _text(results, name, settings) + _files(name, "csv", "md")
    return f'<article id="{name}"><h3>{escape(RESULTS[name].title)}</h3>\n{body}</article>'


def _caption(captions: Path, name: str) -> str:
    """A caption as HTML: of reStructuredText, literals in two backticks are all that differs."""
    return rendered(_present(captions / f"{name}.rst").read_text("utf-8").replace("``", "`"))


def _figure(results: Path, name: str) -> str:
    png = _present(results / f"{name}.png").read_bytes()
    width, height = unpack(">II", png[16:24])
    size = f'width="{width * 3 // 5}" height="{height * 3 // 5}"'
    image = f'<img src="{name}.png" alt="{escape(RESULTS[name].title)}" {size}>'
    return f'<figure><a href="{name}.pdf">{image}</a></figure>\n'


def _text(results: Path, name: str, settings: Settings) -> str:
    """A result's Markdown without its title and the preset's note, which the page has."""
    text = _present(results / f"{name}.md").read_text("utf-8")
    blocks = [block for block in text.split("\n\n") if block.strip() != settings["note"].strip()]
    return rendered("\n\n".join(blocks[1:]), deeper=2)


def _claims(results: Path, captions: Path, settings: Settings) -> str:
    text = _text(results, "claims", settings)
    return f"{_caption(captions, 'claims')}{text}\n{_files('claims', 'csv', 'md')}"


def _files(name: str, *suffixes: str) -> str:
    links = (f'<a href="{name}.{end}">{name}.{end}</a>' for end in suffixes)
    return f'<p class="soft">{" &middot; ".join(links)}</p>'


def _origins(results: Path, names: list[str], records: Mapping[str, Settings]) -> str:
    """For each result the record of its job, folded: command, commit, packages, hashed inputs."""
    return "\n".join([TRACE, *(_origin(results, name, records[name]) for name in names)])


TRACE = """\
<p>Every file has a record of the job that made it. Those of the results follow, with the first
digits of each input's sha256. <code>rm-robustness trace runs/PRESET/results/NAME.csv</code> goes on
from there to the raw data, with <code>--row KEY=VALUE</code> for a single number;
<code>rm-robustness verify</code> hashes everything again.</p>"""


def _origin(results: Path, name: str, record: Settings) -> str:
    git, packages = record["git"], record["packages"]
    commit = f"{git['commit'] or 'none'}{' (dirty)' if git['dirty'] else ''}"
    facts = {
        "command": record["command"],
        "to trace a row": _trace(results / f"{name}.csv"),
        "commit": commit,
        "code": record["code"],
        "packages": ", ".join(f"{key} {value}" for key, value in packages.items()),
    }
    listed = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
    inputs = "\n".join(_inputs(record["inputs"]))
    return f"""\
<details><summary>{escape(RESULTS[name].title)}</summary>
<dl>{listed}</dl>
{inputs}</details>"""


def _trace(path: Path) -> str:
    """The command that traces the first row of a result."""
    with _present(path).open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file), {})
    pairs = [f"{key}={row[key]}" for key in ROW if row.get(key)]
    return join(["rm-robustness", "trace", str(path), *(["--row", *pairs] if pairs else [])])


def _inputs(inputs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The inputs by their folder of runs/PRESET; those of the repository come last."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for entry in inputs.values():
        parts = Path(entry["path"]).parts
        kind = parts[2] if parts[0] == "runs" else "the repository"
        kinds[kind].append(f"{entry['sha256'][:16]}  {entry['path']}")
    for kind, lines in sorted(kinds.items(), key=lambda item: item[0] == "the repository"):
        files = f"{len(lines)} file{'s' * (len(lines) != 1)}"
        text = escape("\n".join(lines))
        yield f"<details><summary>{files} of {escape(kind)}</summary><pre>{text}</pre></details>"


def _scope(settings: Settings) -> str:
    """A table in Markdown of what the preset's configuration runs, and what it leaves out."""
    grid, splits = settings["grid"], settings["splits"]
    numbers = [len(grid[name]) for name in ("backbones", "objectives", "seeds")]
    left_out = [f"`{name}`" for name in RESULTS if name not in settings["results"]]
    cells = [
        ["part", "in this preset"],
        ["backbones", "; ".join(map(_backbone, settings["backbones"].items()))],
        ["objectives", _listed(grid["objectives"])],
        ["seeds of a reward model", _listed(grid["seeds"])],
        ["reward models of the grid", "{} x {} x {} = {}".format(*numbers, prod(numbers))],
        ["prompts to train on", _number(splits["train_prompts"])],
        ["prompts of a scenario", _number(splits["evaluation_prompts"])],
        *([f"`{name}`", _section_of(name, settings[name])] for name in SECTIONS),
        ["downloaded, not made here", _listed(settings["downloaded"]) or "no model, no split"],
        ["results left out", ", ".join(left_out) or "none"],
    ]
    return "\n".join(markdown_table(cells))


def _backbone(item: tuple[str, Settings]) -> str:
    """A backbone with its origin and the paper's model that it is, if it is one."""
    name, section = item
    init, paper = section["init"], section["paper_model"]
    origin = f"`{init['repo']}`" if "repo" in init else f"`kind: {init['kind']}`"
    return f"`{name}`: {origin}, " + (f"the paper's {paper}" if paper else "not the paper's")


def _section_of(name: str, section: Settings | None) -> str:
    """What a section of the config has run, by its lists and what they are of."""
    if section is None:
        return f"not run: `{name}` is null"
    parts = [f"{key} {_listed(section[key])}" for key in SECTIONS[name] if key in section]
    if "judge" in section:
        judge = section["judge"]
        parts.append(f"judge of kind {judge['kind']}" if judge else "not judged: `judge` is null")
    return "; ".join(parts)


def _listed(names: Any) -> str:
    several = names if isinstance(names, list | dict) else [names]
    return ", ".join(f"`{name}`" if isinstance(name, str) else str(name) for name in several)


def _number(prompts: int | None) -> str:
    return "all that there are" if prompts is None else f"{prompts:,}"
