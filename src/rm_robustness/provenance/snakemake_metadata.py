"""Snakemake's metadata of outputs, packed into a file of the run so that DVC can store them.

Snakemake keeps a file for each output in `.snakemake/metadata` and overwrites it in place, so
neither git nor a linked DVC cache can store it. Without the metadata, Snakemake would make files
that `dvc pull` restored again. A packed file has an entry for each output: metadata and sha256.
"""

import gzip
import json
import os
import shlex
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

from ..experiment.config import Settings
from ..files import atomic_write, sha256, write_text

METADATA = Path(".snakemake/metadata")
FORMAT = 6  # Snakemake's number of the format that `note` writes
Entry = dict[str, str]  # `text`: the metadata; `sha256` of the output, "" where it is not known


class Metadata:
    """Snakemake's metadata of files, local and packed; read-only."""

    def __init__(self) -> None:
        runs = [run for run in Path("runs").glob("*") if packed_path(run).is_file()]
        self.packed = {
            output_of(Path(name)): (entry, _age(packed_path(run)))
            for run in runs
            for name, entry in _entries(run).items()
        }

    def outputs(self) -> set[str]:
        """All files with metadata."""
        return {*self.packed, *map(output_of, map(Path, _local_names()))}

    def of(self, path: str) -> Settings:
        """Metadata of the job that made a file: its rule, command and more; empty if unknown."""
        local = METADATA / name_of(path)
        text = local.read_text(encoding="utf-8") if local.is_file() else ""
        if path in self.packed:
            entry, brought = self.packed[path]
            if not text or _prevails(entry, local, Path(path), brought):
                text = entry["text"]
        return dict(json.loads(text or "{}"))

    def settings(self, path: str) -> Settings:
        """The settings of the command that made a file, as far as they are known."""
        arguments = shlex.split(self.of(path).get("shellcmd") or "")
        settings_json = (
            arguments[arguments.index("--settings") + 1] if "--settings" in arguments else "{}"
        )
        return dict(json.loads(settings_json))


def packed_path(run: Path) -> Path:
    """Path of the packed metadata of a run folder."""
    return run / "snakemake.json.gz"


def pack(run: Path) -> Path:
    """Pack the metadata of the outputs of a run.

    For an absent output (a pull may be partial) the earlier packed entry stays, with the local
    metadata if the output was made here since. Equal metadata give equal bytes.
    """
    entries: dict[str, Entry] = {}
    earlier = _entries(run)
    brought = _age(packed_path(run)) if earlier else 0.0
    for name in sorted({*_local_names(), *earlier}):
        output = Path(output_of(Path(name)))
        if run in output.parents:
            entry = _entry(earlier.get(name), METADATA / name, output, brought)
            entries |= {name: entry} if entry else {}
    with atomic_write(packed_path(run)) as draft:
        draft.write_bytes(gzip.compress(json.dumps(entries).encode(), mtime=0))
    return packed_path(run)


def _entry(earlier: Entry | None, local: Path, output: Path, brought: float) -> Entry | None:
    """The entry of an output to pack; None if nothing is known about its current bytes."""
    if earlier and _prevails(earlier, local, output, brought):
        return earlier
    text = local.read_text(encoding="utf-8") if local.is_file() else ""
    if output.is_file():
        return {"sha256": sha256(output), "text": text} if text else None
    if earlier:
        return earlier if text == earlier["text"] else {"sha256": "", "text": text}
    return None


def unpack(run: Path) -> None:
    """Restore the packed metadata that prevail; does nothing without a packed file."""
    if not packed_path(run).is_file():
        return
    # Snakemake takes metadata without this folder for those of an older version.
    METADATA.with_name("incomplete").mkdir(parents=True, exist_ok=True)
    brought = _age(packed_path(run))
    for name, entry in _entries(run).items():
        if _prevails(entry, METADATA / name, Path(output_of(Path(name))), brought):
            write_text(entry["text"], METADATA / name)


def note(output: Path, inputs: list[Path]) -> None:
    """Write the metadata of a file that no job made, as if one had made it from these inputs.

    When Snakemake is asked for the file with other inputs, it makes it again.
    """
    noted = {"record_format_version": FORMAT, "input": sorted(map(str, inputs))}
    write_text(json.dumps(noted), METADATA / name_of(str(output)))


def _prevails(entry: Entry, local: Path, output: Path, brought: float) -> bool:
    """Whether a packed entry replaces the local metadata of an output.

    Local metadata that are newer than the output and the packed file are those of a job that ran
    here. Otherwise one of the two was pulled since, and the entry belongs to the output if the
    hashes agree. For an absent output (a remote may be incomplete) the entry prevails.
    """
    exists = output.is_file()
    if local.is_file() and _age(local) >= max(brought, _age(output) if exists else 0.0):
        return False
    return not exists or sha256(output) == entry["sha256"]


def _entries(run: Path) -> dict[str, Entry]:
    """The packed entries of a run, by the names of their metadata files."""
    path = packed_path(run)
    return dict(json.loads(gzip.decompress(path.read_bytes()))) if path.is_file() else {}


def _local_names() -> list[str]:
    """The names of Snakemake's metadata files, as paths below METADATA."""
    paths = [path for path in METADATA.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(METADATA)) for path in paths]


def _age(path: Path) -> float:
    """Creation time of a file at its path; of a link, that of the link."""
    return path.lstat().st_mtime


def output_of(name: Path) -> str:
    """The output that a metadata file describes: its name is the path in base64, split if long."""
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in name.parts)).decode()


def name_of(output: str) -> Path:
    """The metadata file of an output, below METADATA: what `output_of` reads."""
    coded = urlsafe_b64encode(output.encode()).decode()
    length = os.pathconf(METADATA, "PC_NAME_MAX") - 1 if METADATA.is_dir() else 254
    parts = [coded[start : start + length] for start in range(0, len(coded), length)]
    return Path(*(f"@{part}" for part in parts[:-1]), parts[-1])
