"""Export of a finished run as an RO-Crate: jobs, inputs and outputs in a standard vocabulary.

The repository's folder is the crate: only ro-crate-metadata.json is written, nothing is copied.
"""

import argparse
import shlex
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rocrate.model import Entity
from rocrate.rocrate import ROCrate

from ..errors import InputError
from ..experiment.checks import read_config
from ..experiment.config import Configs, Settings, read_mapping
from ..experiment.jobs import jobs
from ..files import sha256, write_json
from .audit import audit
from .crate_entities import add, add_action, add_file, add_files, add_package, file_facts, state
from .dvc_lock import NO_LOCK
from .evidence import Evidence, hashing
from .lineage import Lineage, read_lineage, verb_of

TERMS = "https://w3id.org/ro/terms/workflow-run/context"  # for sha256
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
PARTS = ("CITATION.cff", "LICENSE", "environment.yml", "pyproject.toml", "requirements.lock")
# Other .html is for Snakemake's report, .json for DVC.
PUBLISHED = (".csv", ".md", ".png", ".pdf", "index.html")


class Run(NamedTuple):
    """A finished run: its jobs, and files with their sha256."""

    jobs: dict[Path, Settings]  # by the path of their record
    given: dict[Path, str]  # read by jobs, written by none
    results: dict[Path, str]  # for people, with their records


def write_crate(options: argparse.Namespace) -> None:
    """Write the crate of a finished run: the command `crate`.

    `options`: configfile (a list) and output. Raises InputError if the run is not finished, or if a
    file or a record has a mismatch.
    """
    config, lineage = read_config(options.configfile), read_lineage()
    run = _run_of_preset(config["preset"], lineage)
    _refuse_unfinished(config, run)
    _refuse_mismatch(run, lineage, Configs(options.configfile))
    write_json(_crate(config, options.configfile, run), options.output)


def _run_of_preset(preset: str, lineage: Lineage) -> Run:
    """The jobs of a preset; InputError for a broken record, or a file of the run without one."""
    folder = f"runs/{preset}/"
    for record, problem in lineage.broken.items():
        if record.startswith(folder):
            raise _unfinished(record, problem, "a whole record")
    records = sorted((name for name in lineage.records if name.startswith(folder)), key=Path)
    inputs = {path: digest for name in records for path, digest in lineage.inputs(name).items()}
    inputs_only = {path: inputs[path] for path in inputs if path not in lineage.record_of}
    for path in inputs_only:
        if path.startswith(folder):
            raise _unfinished(path, "no record of it", "one of every file that a job read")
    jobs = {Path(name): lineage.records[name] for name in records}
    return Run(
        jobs, {Path(path): digest for path, digest in inputs_only.items()}, _results(folder, jobs)
    )


def _results(folder: str, jobs: dict[Path, Settings]) -> dict[Path, str]:
    """The preset's results for people, with their records."""
    found: dict[Path, str] = {}
    for record, job in jobs.items():
        names = [name for name in job["files"] if name.endswith(PUBLISHED)]
        if record.parent == Path(folder, "results") and names:
            found |= {record.with_name(name): job["files"][name] for name in names}
            found[record] = sha256(record)
    return dict(sorted(found.items()))


def _refuse_unfinished(config: Settings, run: Run) -> None:
    """Refuse a run that lacks a result of its configuration."""
    folder = Path("runs", config["preset"], "results")
    records = [folder / f"{job.rule}.record.json" for job in jobs(config) if job.phase == "results"]
    for path in (*records, *run.results):
        if not path.is_file():
            raise _unfinished(path, "no such file", "a result")


def _refuse_mismatch(run: Run, lineage: Lineage, configs: Configs) -> None:
    """Refuse existing files and records with a mismatch; absent ones are allowed."""
    outputs = [path for record in run.jobs for path in lineage.outputs(str(record))]
    files = [path for path in outputs if Path(path).is_file()]
    with hashing("recorded files", files) as sums:
        evidence = Evidence(lineage, NO_LOCK, sums, configs)
        findings = audit(evidence, files, map(str, run.jobs))
    for finding in findings:
        if finding.kind == "mismatch":
            raise _unfinished(finding.path, finding.text, "what is recorded")


def _unfinished(where: object, found: str, expected: str) -> InputError:
    fix = "`snakemake ... all` finishes a run, `rm-robustness verify` says how to repair one"
    return InputError(where, found, expected, fix)


def _crate(config: Settings, configfiles: list[Path], run: Run) -> Settings:
    """The JSON-LD of the crate of a run in the working directory; equal runs give equal ones.

    The whole run and each job is a CreateAction. Nobody is named as their agent, which the profiles
    recommend: the records do not say who started them.
    """
    crate = ROCrate(version="1.1")
    crate.metadata.extra_contexts.append(TERMS)
    newest = max(run.jobs.values(), key=_ended)
    workflow = _workflow(crate, newest)
    tools = _tools(crate, run)
    workflow["hasPart"] = list(tools.values())
    whole = add_action(
        crate,
        f"#run-{config['preset']}",
        workflow,
        f"Run of the preset {config['preset']}",
        f"snakemake --configfile {shlex.join(map(str, configfiles))} -- all",
        (min(map(_started, run.jobs.values())), _ended(newest)),
        [*(add_file(crate, path) for path in configfiles), *add_files(crate, run.given)],
        add_files(crate, run.results),
    )
    root = crate.root_dataset
    _describe(crate, config)
    root["datePublished"] = _ended(newest)
    root["mentions"] = [whole, *(_job(crate, path, job, tools) for path, job in run.jobs.items())]
    return dict(crate.metadata.generate())


def _describe(crate: ROCrate, config: Settings) -> None:
    """Describe the crate: the authors of the software, its license, and the paper."""
    citation = read_mapping(Path("CITATION.cff"), "a citation file")
    paper = citation["preferred-citation"]
    summary = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    preset, license = config["preset"], citation["license"]
    state(
        crate.root_dataset,
        name=f"{citation['title']}: run of the preset {preset}",
        description=f"{summary['description']} The preset {preset}: {config['note']}",
        conformsTo=[
            add(crate, url, "CreativeWork", name=name, version=url.rpartition("/")[2])
            for url, name in PROFILES.items()
        ],
        license=add(
            crate,
            f"https://spdx.org/licenses/{license}",
            "CreativeWork",
            name=license,
            description="see the file LICENSE",
        ),
        author=[
            add(crate, f"#{quote(author['name'])}", "Organization", name=author["name"])
            for author in citation["authors"]
        ],
        citation=add(
            crate,
            paper["url"],
            "ScholarlyArticle",
            name=paper["title"],
            datePublished=str(paper["year"]),
        ),
    )


def _workflow(crate: ROCrate, newest: Settings) -> Entity:
    """The Snakefile, its rules, and the other files of the repository that a rerun needs."""
    workflow = crate.add_workflow(
        "Snakefile",
        "Snakefile",
        main=True,
        lang="snakemake",
        lang_version=newest["packages"]["snakemake"],
        properties={"version": _version(newest), **file_facts(Path("Snakefile"))},
    )
    for path in (*map(Path, PARTS), *sorted(Path("workflow/rules").glob("*.smk"))):
        add_file(crate, path)
    add_file(crate, Path("README.md"))["about"] = crate.root_dataset
    crate.add_dataset(
        "src/rm_robustness", "src/rm_robustness/", properties={"name": "the package rm_robustness"}
    )
    return workflow


def _tools(crate: ROCrate, run: Run) -> dict[str, Entity]:
    """The commands that were run, with the versions of the code and of packages."""
    tools = {}
    for verb in sorted({verb_of(job) for job in run.jobs.values()}):
        jobs_of = [job for job in run.jobs.values() if verb_of(job) == verb]
        versions = sorted({pair for job in jobs_of for pair in job["packages"].items()})
        tools[verb] = add(
            crate,
            f"#rm-robustness-{verb}",
            "SoftwareApplication",
            name=f"rm-robustness {verb}",
            softwareVersion=sorted({_version(job) for job in jobs_of}),
            softwareRequirements=[add_package(crate, *pair) for pair in versions],
        )
    return tools


def _job(crate: ROCrate, record: Path, job: Settings, tools: dict[str, Entity]) -> Entity:
    """One job: its command, inputs and outputs; the rest is in its record."""
    name = str(record).removesuffix("record.json").rstrip("./")
    inputs = {Path(entry["path"]): entry["sha256"] for entry in job["inputs"].values()}
    action = add_action(
        crate,
        f"#job/{quote(name)}",
        tools[verb_of(job)],
        f"{verb_of(job)}: {name}",
        job["command"],
        (_started(job), _ended(job)),
        add_files(crate, inputs),
        add_files(crate, {record.with_name(file): digest for file, digest in job["files"].items()}),
    )
    action["subjectOf"] = add_file(crate, record)
    return action


def _version(job: Settings) -> str:
    """The commit of a job's code; if it is unknown, the hash of the code."""
    commit, dirty = job["git"]["commit"], job["git"]["dirty"]
    return f"{commit}{' with changes' if dirty else ''}" if commit else f"sha256 {job['code']}"


def _started(job: Settings) -> str:
    return str(job["started"])


def _ended(job: Settings) -> str:
    end = datetime.fromisoformat(job["started"]) + timedelta(seconds=job["wall_seconds"])
    return end.isoformat(timespec="seconds")
