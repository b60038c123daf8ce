"""All queries to git, and the hash of the package's code, now and in a commit.

git may have no answer: the working directory is no repository (an unpacked archive), the
program is absent, or it refuses (a checkout that another account owns). `refusal` says which.
"""

import functools
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path, PurePath
from typing import Any

PACKAGE = "src/rm_robustness"
CODE = ("src/", "workflow/", "Snakefile")
NO_REPOSITORY = "not a git repository"


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git, its messages untranslated, without writing; a program that is absent has failed."""
    command = ["git", *arguments]
    environment = os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(command, capture_output=True, check=False, env=environment)
    except OSError as error:
        reason = f"the program git cannot be run ({error.strerror}); install it, or correct PATH"
        return subprocess.CompletedProcess(command, 127, b"", reason.encode())


def refusal() -> str | None:
    """Why git cannot answer queries: NO_REPOSITORY, or git's message, which names the fix.

    None where it can.
    """
    answer = _git("rev-parse", "--git-dir")
    if answer.returncode == 0:
        return None
    message = " ".join(answer.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
    return NO_REPOSITORY if message.startswith(NO_REPOSITORY) else message


@functools.cache
def revision() -> dict[str, Any]:
    """The commit of the working directory, whether it is dirty, and why where neither is known.

    Dirty: a tracked file differs, but for what DVC keeps there, or there is new code. Keys `commit`
    and `dirty`, None where they are unknown, and then `reason`. Read once a process.
    """
    head = _git("rev-parse", "--verify", "HEAD")
    if head.returncode:
        return {"commit": None, "dirty": None, "reason": refusal() or "no commit yet"}
    status = _git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!dvcstore")
    lines = status.stdout.decode(errors="replace").splitlines()
    changes = [line for line in lines if line[:2] != "??" or line[3:].startswith(CODE)]
    dirty = bool(changes) if status.returncode == 0 else None
    return {"commit": head.stdout.decode().strip(), "dirty": dirty}


@functools.cache
def known(commit: str) -> bool:
    """Whether this clone has a commit."""
    return _git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


@functools.cache
def file_at(commit: str, path: str) -> bytes | None:
    """A file's bytes in a commit; None where it has no such file."""
    answer = _git("cat-file", "blob", f"{commit}:{path}")
    return answer.stdout if answer.returncode == 0 else None


@functools.cache
def files_at(commit: str, folder: str) -> dict[str, bytes]:
    """The files of a folder in a commit, by their path in the folder; empty without that folder."""
    # The bytes that are committed, whatever line ends a checkout of this machine has.
    answer = _git("-c", "core.autocrlf=false", "archive", "--format=tar", commit, "--", folder)
    if answer.returncode:
        return {}
    with tarfile.open(fileobj=io.BytesIO(answer.stdout)) as archive:
        return {
            member.name.removeprefix(f"{folder}/"): archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }


@functools.cache
def code() -> str:
    """Hash this package's source files, committed or not: their paths and bytes."""
    folder = Path(__file__).parents[1]
    paths = folder.rglob("*.py")
    return _hash({PurePath(path.relative_to(folder)): path.read_bytes() for path in paths})


@functools.cache
def code_at(commit: str) -> str | None:
    """Value of `code()` in a clean tree of a commit; None where the commit has no package."""
    files = files_at(commit, PACKAGE)
    sources = {PurePath(name): files[name] for name in files if name.endswith(".py")}
    return _hash(sources) if sources else None


def _hash(sources: dict[PurePath, bytes]) -> str:
    """sha256 of files in the order of their paths: path, size and bytes of each."""
    digest = hashlib.sha256()
    for path, content in sorted(sources.items()):
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
