"""The hub's repositories that a preset downloads, with the config key of each commit."""

from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from .config import Settings
from .jobs import jobs
from .settings import pretrained, pretrained_key


class Repository(NamedTuple):
    """A repository of models or data sets, at the commit that the configuration names."""

    key: tuple[str, ...]  # of the section with its revision
    repo: str
    kind: str  # model or dataset
    revision: str | None

    @property
    def page(self) -> str:
        """Path of its page on the hub."""
        return f"datasets/{self.repo}" if self.kind == "dataset" else self.repo


def repositories(config: Settings) -> list[Repository]:
    """The hub's repositories that `snakemake all` downloads, in the order of the jobs."""
    found = []
    for job in jobs(config):
        if job.phase != "downloads":
            continue
        if job.rule == "pretrained":
            key, section = pretrained_key(config, job.name), pretrained(config, job.name)
        else:
            key, section = ("sources", job.name), config["sources"][job.name]
        if "repo" in section:
            data = job.rule != "pretrained" or section["kind"] == "dataset"
            kind = "dataset" if data else "model"
            found.append(Repository(key, section["repo"], kind, section["revision"]))
    return list(dict.fromkeys(found))


def unpinned(config: Settings) -> list[Repository]:
    """The repositories in use without a commit."""
    return [repository for repository in repositories(config) if repository.revision is None]


def pinned(config: Settings, files: list[Path]) -> str:
    """Say that every repository has a commit; InputError for those without one."""
    blank = unpinned(config)
    if blank:
        raise InputError(
            ", ".join(map(str, files)) or "config",
            "no revision of " + ", ".join(f"{'.'.join(each.key)} ({each.repo})" for each in blank),
            "the commit of each, 40 hex digits",
            f"`rm-robustness pin --configfile {' '.join(map(str, files))}` asks the hub and "
            "writes them into a file that goes on top",
        )
    return f"commits: all {len(repositories(config))} repositories of the hub have one"
