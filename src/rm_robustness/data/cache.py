"""Cache of this account: files of git repositories at a commit, fetched once, checked by sum."""

import os
import shutil
import sys
from pathlib import Path

from ..cluster.lease import hold_lease
from ..errors import InputError
from ..experiment.config import Settings
from ..files import hashes, read_json, write_json
from ..provenance import licences
from .git_checkout import checkout

MANIFEST = "manifest.json"  # what was asked for, and the sum of each file


def cache_folder() -> Path:
    """$RM_ROBUSTNESS_CACHE, or rm-robustness in $XDG_CACHE_HOME or in ~/.cache."""
    if own := os.environ.get("RM_ROBUSTNESS_CACHE"):
        return Path(own)
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # an account without a home
        raise InputError("~", str(error), "a folder", "set RM_ROBUSTNESS_CACHE to one") from error
    return Path(home) / "rm-robustness"


def cached(source: Settings, without: str) -> Path:
    """Return the folder with a source's files in the cache, fetched if they are not whole there.

    `source` has the keys of `git_checkout.checkout`. What is there needs no git. The licence is
    said when files are fetched. Another process that fetches them is waited for; what a killed one
    left is removed. Raises InputError when they cannot be fetched: `without` says what to do then.
    """
    name = source["repository"].rpartition("/")[2].removesuffix(".git")
    folder = cache_folder() / f"{name}-{source['commit'][:12]}"
    if not _damage(folder, source):
        return folder
    try:
        with hold_lease(folder):
            if damage := _damage(folder, source):  # still: no other process has fetched it
                if folder.exists():
                    print(f"{folder}: {damage}; fetching it again", file=sys.stderr, flush=True)
                _fetch(source, folder)
    except InputError as error:
        raise InputError(error.where, error.found, error.expected, without) from error
    except OSError as error:
        found = f"a cache that cannot be written ({error.strerror or error})"
        fix = "set RM_ROBUSTNESS_CACHE to another folder"
        raise InputError(error.filename or folder, found, "one that can", fix) from error
    return folder


def _damage(folder: Path, source: Settings) -> str:
    """What is wrong with a folder of the cache; "" if it has every file as it was fetched."""
    if not folder.is_dir():
        return "not there"
    try:
        manifest = read_json(folder / MANIFEST)
    except InputError as error:
        return f"a {MANIFEST} with {error.found}"
    if manifest["source"] != _identity(source):
        return "other files than are asked for"
    found = hashes(folder)
    wrong = [name for name, sha256 in manifest["sha256"].items() if found.get(name) != sha256]
    return f"{wrong[0]} is missing or damaged" if wrong else ""


def _identity(source: Settings) -> Settings:
    return {key: source[key] for key in ("repository", "commit", "files")}


def _fetch(source: Settings, folder: Path) -> None:
    """Fetch into a folder beside, then rename. Only the holder of the lease does."""
    print(f"fetching {licences.line([source['repository']])}", file=sys.stderr, flush=True)
    draft = folder.with_name(f".{folder.name}.part")
    _remove(draft)  # of a process that was killed
    draft.mkdir()
    try:
        files = checkout(source, draft / "files")
        shutil.rmtree(files / ".git")
        manifest = {"source": _identity(source), "sha256": hashes(files)}
        write_json(manifest, files / MANIFEST)
        _remove(folder)
        files.rename(folder)
    finally:
        _remove(draft)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
