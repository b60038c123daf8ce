"""Commits of this repository: the files of one, and the hash of the package's code in it."""

import functools
import hashlib
import io
import subprocess
import tarfile
from pathlib import PurePath

PACKAGE = "src/rm_robustness"


def _git(*arguments: str) -> bytes | None:
    answer = subprocess.run(["git", *arguments], capture_output=True, check=False)
    return answer.stdout if answer.returncode == 0 else None


@functools.cache
def known(commit: str) -> bool:
    """Tell whether this clone has a commit."""
    return _git("cat-file", "-e", f"{commit}^{{commit}}") is not None


@functools.cache
def file_at(commit: str, path: str) -> bytes | None:
    """A file's bytes in a commit; None where it has no such file."""
    return _git("show", f"{commit}:{path}")


@functools.cache
def code_at(commit: str) -> str | None:
    """What `record.code()` was in a clean tree of a commit; None where it has no package."""
    packed = _git("archive", "--format=tar", commit, "--", PACKAGE)
    if packed is None:
        return None
    digest = hashlib.sha256()
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        sources = {PurePath(each.name): each for each in files if each.name.endswith(".py")}
        for path in sorted(sources):
            digest.update(f"{path.relative_to(PACKAGE)}\0{sources[path].size}\0".encode())
            digest.update(files.extractfile(sources[path]).read())  # type: ignore[union-attr]
    return digest.hexdigest()
