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
    """Add an entity that is not a file of the crate, once."""
    existing = crate.get(key)
    if existing:
        return existing
    entity = crate.add(ContextEntity(crate, key, properties={"@type": kind}))
    state(entity, **facts)
    return entity


def state(entity: Entity, **facts: Any) -> None:
    """Set properties of an entity; a list of one becomes that value, an empty list is omitted."""
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
    """Add a CreateAction: a tool that read and wrote files; `times` are its start and end."""
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
    """Add a version of a package, or of Python."""
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
    """Add files of the repository, by path and sha256."""
    return [add_file(crate, path, digest) for path, digest in digests.items()]


def add_file(crate: ROCrate, path: Path, digest: str = "") -> Entity:
    """Add a file of the repository; one that is outside or absent is listed by name and hash."""
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
    existing = crate.get(quote(name))
    if existing:
        return existing
    return crate.add_file(path, path, properties={"name": name, **file_facts(path, digest)})


def file_facts(path: Path, digest: str = "") -> dict[str, str]:
    """Hash, size and format of a file."""
    return {
        "sha256": digest or sha256(path),
        "contentSize": str(path.stat().st_size),
        "encodingFormat": FORMATS.get(path.suffix, "text/plain"),
    }
