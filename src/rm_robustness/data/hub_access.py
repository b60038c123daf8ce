"""What the Hugging Face hub says of a preset's repositories: their commits, who may read them."""

import os
import re
from typing import Any

import yaml

from ..cluster.readiness import Finding
from ..errors import InputError
from ..experiment.config import Settings
from ..experiment.downloads import Repository, repositories, unpinned


def hub_findings(config: Settings) -> list[Finding]:
    """Ask the hub for every repository of a preset: does the commit exist, may it be read?

    The repositories whose terms must be accepted are one line. None for a preset that downloads
    nothing; if the hub cannot be reached, that is the only line.
    """
    absent, gated, wanted = [], [], repositories(config)
    try:
        for repository in wanted:
            problem = _problem(repository)
            if problem == "gated":
                gated.append(repository)
            elif problem:
                absent.append(f"{'.'.join(repository.key)}: {repository.repo}, {problem}")
    except InputError as error:
        return [Finding(False, str(error))]
    found = [Finding(False, each) for each in absent]
    if gated:
        found.append(Finding(False, _terms(gated)))
    if wanted and not found:
        found.append(Finding(True, f"hub: all {len(wanted)} repositories can be read"))
    return found


def newest_commits(config: Settings) -> tuple[Settings, list[Repository]]:
    """The newest commits of the repositories without one, as a config; and these repositories."""
    pins: Settings = {}
    blank = unpinned(config)
    for repository in blank:
        section = pins
        for name in repository.key:
            section = section.setdefault(name, {})
        section["revision"] = _commit(repository)
    return pins, blank


def as_yaml(pins: Settings, files: str) -> str:
    """A config file with these commits."""
    head = f"# Commits that the hub named for {files}; on top of it (`rm-robustness pin`).\n"
    return head + yaml.safe_dump(pins, sort_keys=False, width=200)


def _problem(repository: Repository) -> str:
    """Why a repository cannot be read: `gated`, or a text; "" if it can. InputError: no answer."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        _info(repository)
    except RevisionNotFoundError:
        return f"no commit {repository.revision}; `rm-robustness pin` names the newest for a null"
    except GatedRepoError:
        return "gated"
    except RepositoryNotFoundError:
        return "no such repository, or a private one; check the name, or export HF_TOKEN"
    return ""


def _commit(repository: Repository) -> str:
    """The newest commit of a repository; its terms need not be accepted for that."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return str(_info(repository, read=False).sha)
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{'.'.join(repository.key)}: {repository.repo}",
            "no such repository, or a private one",
            "one that can be read",
            "check the name, or export HF_TOKEN",
        ) from error


def _info(repository: Repository, read: bool = True) -> Any:
    """Ask the hub for a repository at its commit, with the token of the environment alone.

    With `read` it is asked too whether the files of a gated repository may be downloaded. Raises
    huggingface_hub's errors for what it refuses, InputError if it does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import httpx

    api, kind = HfApi(token=os.environ.get("HF_TOKEN") or False), repository.kind
    try:
        info = api.repo_info(
            repository.repo, repo_type=kind, revision=repository.revision, timeout=30
        )
        if read and info.gated:
            api.auth_check(repository.repo, repo_type=kind)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (OSError, httpx.HTTPError) as error:
        reason = re.sub(r"\?\S*", "", " ".join(str(error).split()))[:160]
        fix = "check the network and HF_ENDPOINT"
        raise InputError(
            f"hub: {api.endpoint}", f"it cannot be reached ({reason})", "an answer", fix
        ) from error
    return info


def _terms(gated: list[Repository]) -> str:
    """The one line about repositories with terms."""
    from huggingface_hub import constants

    pages = " ".join(f"{constants.ENDPOINT}/{repository.page}" for repository in gated)
    token = (
        "with the account of HF_TOKEN"
        if os.environ.get("HF_TOKEN")
        else "and export HF_TOKEN, which is unset"
    )
    return f"hub: gated, accept the terms {token}: {pages}"
