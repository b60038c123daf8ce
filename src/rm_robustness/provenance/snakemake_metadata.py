"""What Snakemake knows of how files were made, kept beside the files so that it travels with them.

Snakemake keeps it in `.snakemake/metadata`, a file for each output, which it overwrites in place:
neither git nor a linked cache of DVC can hold it. Without it, files that `dvc pull` brought would
all be made again.
"""

import gzip
import json
from base64 import urlsafe_b64decode
from pathlib import Path

from ..files import atomic_write, sha256, write_text

METADATA = Path(".snakemake/metadata")


def kept(run: Path) -> Path:
    """Where the history of a run folder is kept."""
    return run / "snakemake.json.gz"


def pack(run: Path) -> Path:
    """Write the history of every output of a run, and of its copies in results/, with its sha256.

    Equal histories give equal bytes.
    """
    found = {}
    for path in sorted(METADATA.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(METADATA)
            output = Path(output_of(name))
            if output.is_file() and (run in output.parents or output.parts[0] == "results"):
                found[str(name)] = {"sha256": sha256(output), "text": path.read_text()}
    with atomic_write(kept(run)) as draft:
        draft.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))
    return kept(run)


def unpack(run: Path) -> None:
    """Tell Snakemake of files that came with their history; do nothing where none is kept.

    What it knows already is younger than the file and the history. If not, one of them was brought
    since, and where the file has the bytes of the history, that is what Snakemake is told. Of
    files that are absent (a remote need not hold all) it is told how they were made.
    """
    if not kept(run).is_file():
        return
    # Snakemake takes metadata without this folder for those of an older version.
    METADATA.with_name("incomplete").mkdir(parents=True, exist_ok=True)
    brought = _age(kept(run))
    for name, entry in json.loads(gzip.decompress(kept(run).read_bytes())).items():
        output, known = Path(output_of(Path(name))), METADATA / name
        here = output.is_file()
        if known.is_file() and _age(known) >= max(brought, _age(output) if here else 0.0):
            continue
        if not here or sha256(output) == entry["sha256"]:
            write_text(entry["text"], known)


def _age(path: Path) -> float:
    """When a file came to where it is; of a link, when the link did."""
    return path.lstat().st_mtime


def output_of(name: Path) -> str:
    """The output that a metadata file is about: its name is the path in base64, cut where long."""
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in name.parts)).decode()
