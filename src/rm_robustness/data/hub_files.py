"""Files of data sets in the cache of the Hugging Face hub, fetched at a commit, checked by sum.

huggingface_hub compares sizes alone. The name of a file in its cache is the sum that the hub
publishes: sha256 of a large file, git's sha1 of another.
"""

import hashlib
from pathlib import Path

from ..errors import InputError
from ..files import sha256


def fetch_file(repo: str, revision: str, name: str) -> Path:
    """Return a data set's file in the cache on this machine, fetched if it is not there."""
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(repo, name, repo_type="dataset", revision=revision))
    require_sum(path, f"{repo} at {revision}: {name}")
    return path


def require_sum(path: Path, where: str) -> None:
    """Refuse a file of the cache that has another sum, and remove it, or it would stay for good."""
    published = path.readlink().name if path.is_symlink() else ""
    if len(published) not in (40, 64):  # a cache without links, or a mirror with other names
        return
    actual = sha256(path) if len(published) == 64 else _git_sha1(path)
    if actual != published:
        path.resolve().unlink()
        path.unlink()
        fix = "a damaged download, now removed: the same command fetches it again"
        raise InputError(where, f"sum {actual}", f"sum {published}", fix)


def _git_sha1(path: Path) -> str:
    """The id that git gives to a file's content."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
