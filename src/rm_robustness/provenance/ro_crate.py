"""A finished run as an RO-Crate: what made which file from what, in terms that other tools read.

The repository's folder is the crate: only ro-crate-metadata.json is written, and nothing is copied.
"""

import argparse
import shlex
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model import ContextEntity, Entity
from rocrate.rocrate import ROCrate

from ..experiment.checks import read_config
from ..experiment.config import Settings, read_mapping
from ..files import sha256, write_json
from .finished import Run, finished

TERMS = "https://w3id.org/ro/terms/workflow-run/context"  # for sha256
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
PARTS = ("CITATION.cff", "LICENSE", "environment.yml", "pyproject.toml", "requirements.lock")
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


def run(options: argparse.Namespace) -> None:
    """Write the crate of a finished run: what the verb `crate` does.

    `options`: configfile (a list) and output.
    """
    config = read_config(options.configfile)
    write_json(crate(config, options.configfile, finished(config)), options.output)


def crate(config: Settings, configfiles: list[Path], found: Run) -> Settings:
    """The JSON-LD of the crate of a run in the working directory; equal runs give equal ones.

    The whole run and each job is a CreateAction. Nobody is named as their agent, which the profiles
    recommend: the records do not say who started them.
    """
    made = ROCrate(version="1.1")
    made.metadata.extra_contexts.append(TERMS)
    newest = max(found.jobs.values(), key=_ended)
    workflow = _workflow(made, newest)
    tools = _tools(made, found)
    workflow["hasPart"] = list(tools.values())
    whole = _action(
        made,
        f"#run-{config['preset']}",
        workflow,
        f"Run of the preset {config['preset']}",
        f"snakemake --configfile {shlex.join(map(str, configfiles))} -- all",
        (min(map(_started, found.jobs.values())), _ended(newest)),
        [*(_file(made, path) for path in configfiles), *_files(made, found.given)],
        _files(made, found.results),
    )
    root = made.root_dataset
    _describe(made, config)
    root["datePublished"] = _ended(newest)
    root["mentions"] = [whole, *(_job(made, path, job, tools) for path, job in found.jobs.items())]
    return dict(made.metadata.generate())


def _describe(made: ROCrate, config: Settings) -> None:
    """Say what the crate is, who made the software, under which license, after which paper."""
    citation = read_mapping(Path("CITATION.cff"), "a citation file")
    summary = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    preset, license = config["preset"], citation["license"]
    _state(
        made.root_dataset,
        name=f"{citation['title']}: run of the preset {preset}",
        description=f"{summary['description']} The preset {preset}: {config['note']}",
        conformsTo=[
            _add(made, url, "CreativeWork", name=name, version=url.rpartition("/")[2])
            for url, name in PROFILES.items()
        ],
        license=_add(
            made,
            f"https://spdx.org/licenses/{license}",
            "CreativeWork",
            name=license,
            description="see the file LICENSE",
        ),
        author=[
            _add(made, f"#{quote(author['name'])}", "Organization", name=author["name"])
            for author in citation["authors"]
        ],
        citation=[
            _add(
                made,
                work["url"],
                "ScholarlyArticle",
                name=work["title"],
                datePublished=str(work["year"]),
            )
            for work in citation["references"]
        ],
    )


def _workflow(made: ROCrate, newest: Settings) -> Entity:
    """The Snakefile, its rules and what else the repository holds for whoever runs it again."""
    workflow = made.add_workflow(
        "Snakefile",
        "Snakefile",
        main=True,
        lang="snakemake",
        lang_version=newest["packages"]["snakemake"],
        properties={"version": _version(newest), **_facts(Path("Snakefile"))},
    )
    for path in (*map(Path, PARTS), *sorted(Path("workflow/rules").glob("*.smk"))):
        _file(made, path)
    _file(made, Path("README.md"))["about"] = made.root_dataset
    made.add_dataset(
        "src/rm_robustness", "src/rm_robustness/", properties={"name": "the package rm_robustness"}
    )
    return workflow


def _tools(made: ROCrate, found: Run) -> dict[str, Entity]:
    """The verbs that were run, with the versions of the code and of the packages they ran with."""
    tools = {}
    for verb in sorted({_verb(job) for job in found.jobs.values()}):
        own = [job for job in found.jobs.values() if _verb(job) == verb]
        versions = sorted({pair for job in own for pair in job["packages"].items()})
        tools[verb] = _add(
            made,
            f"#rm-robustness-{verb}",
            "SoftwareApplication",
            name=f"rm-robustness {verb}",
            softwareVersion=sorted({_version(job) for job in own}),
            softwareRequirements=[_package(made, *pair) for pair in versions],
        )
    return tools


def _package(made: ROCrate, name: str, version: str) -> Entity:
    python = name == "python"
    home = "https://www.python.org/ftp/python/" if python else f"https://pypi.org/project/{name}/"
    return _add(
        made,
        f"{home}{quote(version)}/",
        "SoftwareApplication",
        name=name,
        url=home,
        softwareVersion=version,
    )


def _job(made: ROCrate, record: Path, job: Settings, tools: dict[str, Entity]) -> Entity:
    """One job: a command, what it read and what it made; the rest is in its record."""
    name = str(record).removesuffix("record.json").rstrip("./")
    action = _action(
        made,
        f"#job/{quote(name)}",
        tools[_verb(job)],
        f"{_verb(job)}: {name}",
        job["command"],
        (_started(job), _ended(job)),
        _files(made, {Path(each["path"]): each["sha256"] for each in job["inputs"].values()}),
        _files(made, {record.with_name(file): digest for file, digest in job["files"].items()}),
    )
    action["subjectOf"] = _file(made, record)
    return action


def _action(
    made: ROCrate,
    key: str,
    tool: Entity,
    name: str,
    command: str,
    times: tuple[str, str],
    inputs: list[Entity],
    outputs: list[Entity],
) -> Entity:
    return _add(
        made,
        key,
        "CreateAction",
        name=name,
        instrument=tool,
        description=command,
        startTime=times[0],
        endTime=times[1],
        object=inputs,
        result=outputs,
    )


def _files(made: ROCrate, digests: dict[Path, str]) -> list[Entity]:
    return [_file(made, path, digest) for path, digest in digests.items()]


def _file(made: ROCrate, path: Path, digest: str = "") -> Entity:
    """A file of the repository; one that is elsewhere or not here is named, with its hash."""
    name = str(path)
    outside = path.is_absolute() or ".." in path.parts
    if outside or not path.is_file():
        return _add(
            made,
            f"#absent/{quote(name)}",
            "CreativeWork",
            name=name,
            description="Recorded, and not in this crate: not released, or outside the repository.",
            sha256=digest or sha256(path),
        )
    known = made.get(quote(name))
    if known:
        return known
    return made.add_file(path, path, properties={"name": name, **_facts(path, digest)})


def _facts(path: Path, digest: str = "") -> dict[str, str]:
    return {
        "sha256": digest or sha256(path),
        "contentSize": str(path.stat().st_size),
        "encodingFormat": FORMATS.get(path.suffix, "text/plain"),
    }


def _add(made: ROCrate, key: str, kind: str, **facts: Any) -> Entity:
    """A thing that is no file of the crate, added once."""
    known = made.get(key)
    if known:
        return known
    entity = made.add(ContextEntity(made, key, properties={"@type": kind}))
    _state(entity, **facts)
    return entity


def _state(entity: Entity, **facts: Any) -> None:
    """Say something of an entity; a list of one is written as the one, an empty one not at all."""
    for term, value in facts.items():
        if value != []:
            entity[term] = value[0] if isinstance(value, list) and len(value) == 1 else value


def _verb(job: Settings) -> str:
    return shlex.split(job["command"])[1]


def _version(job: Settings) -> str:
    """The commit that ran; where none is known, the hash of the code."""
    commit, dirty = job["git"]["commit"], job["git"]["dirty"]
    return f"{commit}{' with changes' if dirty else ''}" if commit else f"sha256 {job['code']}"


def _started(job: Settings) -> str:
    return str(job["started"])


def _ended(job: Settings) -> str:
    end = datetime.fromisoformat(job["started"]) + timedelta(seconds=job["wall_seconds"])
    return end.isoformat(timespec="seconds")
