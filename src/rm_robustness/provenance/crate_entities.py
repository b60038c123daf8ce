"""Entities of an RO-Crate: files, software, actions; each is added once."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model import ContextEntity, Entity
from rocrate.rocrate import ROCrate

from ..files import sha256

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


def add(crate: ROCrate, key: str, kind: str, **facts: Any) -> Entity:
    """A thing that is no file of the crate, added once."""
    known = crate.get(key)
    if known:
        return known
    entity = crate.add(ContextEntity(crate, key, properties={"@type": kind}))
    state(entity, **facts)
    return entity


def state(entity: Entity, **facts: Any) -> None:
    """Say something of an entity; a list of one is written as the one, an empty one not at all."""
    for term, value in facts.items():
        if value != []:
            entity[term] = value[0] if isinstance(value, list) and len(value) == 1 else value


def add_action(
    crate: ROCrate,
    key: str,
    tool: Entity,
    name: str,
    command: str,
    times: tuple[str, str],
    inputs: list[Entity],
    outputs: list[Entity],
) -> Entity:
    """A CreateAction: a tool that read some files and wrote others; start and end in `times`."""
    return add(
        crate,
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


def add_package(crate: ROCrate, name: str, version: str) -> Entity:
    """A package, or Python itself, of a version."""
    python = name == "python"
    home = "https://www.python.org/ftp/python/" if python else f"https://pypi.org/project/{name}/"
    return add(
        crate,
        f"{home}{quote(version)}/",
        "SoftwareApplication",
        name=name,
        url=home,
        softwareVersion=version,
    )


def add_files(crate: ROCrate, digests: dict[Path, str]) -> list[Entity]:
    """Files of the repository, by path and sha256."""
    return [add_file(crate, path, digest) for path, digest in digests.items()]


def add_file(crate: ROCrate, path: Path, digest: str = "") -> Entity:
    """A file of the repository; one that is outside of it or absent is named, with its hash."""
    name = str(path)
    outside = path.is_absolute() or ".." in path.parts
    if outside or not path.is_file():
        return add(
            crate,
            f"#absent/{quote(name)}",
            "CreativeWork",
            name=name,
            description="Recorded, and not in this crate: not released, or outside the repository.",
            sha256=digest or sha256(path),
        )
    known = crate.get(quote(name))
    if known:
        return known
    return crate.add_file(path, path, properties={"name": name, **file_facts(path, digest)})


def file_facts(path: Path, digest: str = "") -> dict[str, str]:
    """Hash, size and format of a file."""
    return {
        "sha256": digest or sha256(path),
        "contentSize": str(path.stat().st_size),
        "encodingFormat": FORMATS.get(path.suffix, "text/plain"),
    }
