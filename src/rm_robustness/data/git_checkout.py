"""A public git repository's files at one commit: an existing folder, or a sparse, shallow clone."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import atomic_write
from .patience import UnavailableError

# What git says when a server does not answer, or cannot now.
NO_ANSWER = re.compile(
    r"Could not resolve|Failed to connect|Couldn't connect|Connection (reset|refused|timed out)"
    r"|timed out|early EOF|hung up|Empty reply|returned error: (429|5\d\d)"
)


def require_commit(revision: object, where: object) -> str:
    """Return `revision` if it is a full commit hash (40 hex digits), which cannot move.

    Raises `InputError` at `where` for a branch, a tag, a short hash or nothing.
    """
    if not isinstance(revision, str) or not re.fullmatch("[0-9a-f]{40}", revision):
        raise InputError(
            where,
            f"revision {revision!r}",
            "a commit of 40 hex digits",
            "pin the commit: a branch or tag can move",
        )
    return revision


def checkout(settings: dict[str, Any], folder: Path) -> Path:
    """Return a folder with a repository's files at one commit, cloning into `folder` if needed.

    `settings` has `path` (an existing checkout, which is returned as it is), or `repository` (url),
    `commit` (40 hex digits) and `files` (sparse-checkout patterns in the syntax of .gitignore).
    Only the blobs of `files` at `commit` are fetched. `folder` is whole or absent; one that already
    has that commit and those patterns is reused. Raises `InputError` when `path` is not a folder,
    `folder` has other contents, or git fails; UnavailableError when the server does not answer.
    """
    if settings.get("path"):
        path = Path(settings["path"])
        if not path.is_dir():
            raise InputError(path, "no such folder", "a checkout", "correct `path` or remove it")
        return path
    repository, files = settings["repository"], list(settings["files"])
    commit = require_commit(settings["commit"], repository)
    if folder.exists():
        _require_same(folder, commit, files)
        return folder
    with atomic_write(folder) as draft:
        # In a container the process that was killed in the middle had the same number.
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        _git(draft, "init", "--quiet")
        _git(draft, "remote", "add", "origin", repository)
        _git(draft, "sparse-checkout", "set", "--no-cone", "--stdin", stdin="\n".join(files))
        fetch = ("fetch", "--quiet", "--depth=1", "--filter=blob:none", "origin", commit)
        _git(draft, *fetch, where=f"{repository} at {commit}")
        # The blobs are fetched only now, so this step needs the network too.
        switch = ("checkout", "--quiet", "--detach", commit)
        _git(draft, *switch, where=f"{repository} at {commit}")
        _require_files(draft, repository, commit, files)
    return folder


def only(settings: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The source with those files alone that have one of `names` in the place of a `*`."""
    files = [pattern.replace("*", name) for pattern in settings.get("files", []) for name in names]
    return settings | {"files": list(dict.fromkeys(files))}


def _require_same(folder: Path, commit: str, files: list[str]) -> None:
    """Refuse a folder with another checkout, instead of deleting its contents."""
    fix = "remove the folder to clone again"
    if not (folder / ".git").is_dir():
        raise InputError(folder, "a folder that is no git checkout", f"commit {commit}", fix)
    head = _git(folder, "rev-parse", "HEAD").strip()
    patterns = _git(folder, "sparse-checkout", "list").split("\n")[:-1]
    if head != commit:
        raise InputError(folder, f"commit {head}", f"commit {commit}", fix)
    if patterns != files:
        raise InputError(folder, f"the patterns {patterns}", f"the patterns {files}", fix)


def _require_files(draft: Path, repository: str, commit: str, files: list[str]) -> None:
    """Refuse patterns that match no file: they are misspelt."""
    if all(child.name == ".git" for child in draft.iterdir()):
        raise InputError(
            f"{repository} at {commit}", f"no file for {files}", "at least one", "correct `files`"
        )


def _git(folder: Path, *words: str, stdin: str = "", where: object = None) -> str:
    """Run git in `folder` and return its output; its last line of stderr becomes the error."""
    try:
        git = subprocess.run(
            ["git", "-C", str(folder), *words],
            # A private or misspelt address must fail instead of waiting for a password.
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise InputError("git", "no such program", "git on PATH", "install git") from error
    if git.returncode:
        reason = (git.stderr.strip().splitlines() or ["no message"])[-1]
        raise (UnavailableError if NO_ANSWER.search(git.stderr) else InputError)(
            where or folder,
            f"`git {words[0]}` failing ({reason})",
            "that commit, fetched",
            "check the network, the address and the commit, or set `path` to a checkout",
        )
    return git.stdout
