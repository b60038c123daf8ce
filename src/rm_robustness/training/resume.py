"""Work folders: resuming a training that was killed or preempted, and publishing its result.

Checkpoints live in a work folder outside the rule's outputs, because Snakemake deletes the outputs
of a job that it restarts. A finished folder is renamed into place at the very end.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..cluster.lease import hold_lease
from ..errors import InputError, StoppedError
from ..experiment.config import Settings
from ..files import atomic_write, read_json, sha256, write_json, write_text
from ..models.model_card import card
from ..provenance.git import code, revision
from ..provenance.record import record, versions
from .distributed import is_rank_0, on_main_process, wait_for_all
from .preemption import Attempts

COMPLETE = "complete"  # an empty file in every checkpoint that was written to its end


@contextmanager
def hold_leases(works: list[Path]) -> Iterator[None]:
    """Hold the leases of these work folders on rank 0, so that no other job writes them."""
    with ExitStack() as leases:

        def acquire() -> None:
            for work in works:
                leases.enter_context(hold_lease(work))

        on_main_process(acquire)
        try:
            yield
        except (StoppedError, InputError):
            for work in works:
                Attempts(work).end()
            raise
    wait_for_all()


def finished(work: Path, experiment: Settings, inputs: dict[str, Path]) -> bool:
    """Prepare a work folder for an attempt; return whether an earlier one has finished.

    `experiment` is what identifies the training besides the inputs: settings, seed. A finished
    folder counts when its files are intact and were made by this code with these packages. Raises
    InputError when the last attempts were killed at one step.
    """

    def prepare() -> bool:
        code(), revision()  # cached: the record has those of the start, not those of the end
        hashed = {name: {"path": str(p), "sha256": sha256(p)} for name, p in inputs.items()}
        prepare_work(work, {**experiment, "inputs": hashed})
        if _intact(work / "final"):
            return True
        shutil.rmtree(work / "final", ignore_errors=True)
        Attempts(work).begin()
        return False

    return on_main_process(prepare)


def _intact(final: Path) -> bool:
    """Whether a finished folder has the files of its record and was made by the current code."""
    if not (final / "record.json").is_file():
        return False
    recorded = read_json(final / "record.json")
    return (recorded["code"], recorded["packages"]) == (code(), versions()) and all(
        (final / name).is_file() and sha256(final / name) == digest
        for name, digest in recorded["files"].items()
    )


def prepare_work(work: Path, identity: Settings) -> None:
    """Keep a work folder only if it was begun by the same experiment (settings, inputs, seed)."""
    path = work / "identity.json"
    if work.exists() and not (path.is_file() and json.loads(path.read_text()) == identity):
        shutil.rmtree(work)
    write_json(identity, path)


def last_checkpoint(work: Path, sharded: bool = False) -> str | None:
    """The newest complete checkpoint, if there is one; incomplete ones are removed.

    A checkpoint that processes wrote in shards (`sharded`) can only be resumed as shards, and a
    whole one only whole.
    """
    complete = [
        mark.parent
        for mark in work.glob(f"checkpoint-*/{COMPLETE}")
        if (mark.parent / "pytorch_model_fsdp_0").is_dir() == sharded
    ]
    newest = max(complete, key=lambda folder: int(folder.name.split("-")[1]), default=None)
    for folder in work.glob("checkpoint-*"):
        if folder not in complete:
            shutil.rmtree(folder)
    return str(newest) if newest else None


def finalize(
    work: Path, kind: str, settings: Settings, seed: int | None, started: float, **facts: Any
) -> None:
    """Write the card and, last, the record of what is in `work/draft`; then it is `work/final`."""
    draft, readme = work / "draft", work / "draft" / "README.md"
    inputs = read_json(work / "identity.json")["inputs"]
    contents = record(settings, inputs, sorted(draft.iterdir()), seed, started, **facts)
    write_text(card(kind, contents), readme)
    contents["files"][readme.name] = sha256(readme)
    write_json(contents, draft / "record.json")
    draft.replace(work / "final")


def publish_all(finals: dict[Path, Path]) -> None:
    """On rank 0, publish every finished folder to its output, then prune the work folders."""
    if not is_rank_0():
        return
    linked = {final: publish(final, folder) for final, folder in finals.items()}
    for final in finals:
        if linked[final]:
            prune(final.parent)
        else:  # a copy takes the space twice
            shutil.rmtree(final.parent, ignore_errors=True)


def publish(final: Path, folder: Path) -> bool:
    """Publish a finished folder's files to their output atomically, replacing existing ones.

    They stay in the work folder too, hard-linked, so that a kill loses none. Returns False where
    they had to be copied.
    """
    linked = True
    for path in sorted(final.iterdir()):
        with atomic_write(folder / path.name) as draft:
            try:
                os.link(path, draft)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, draft)
                linked = False
    return linked


def prune(work: Path) -> None:
    """Remove all of a work folder but the finished folder and its identity.

    A Snakemake that was killed does not learn that its job is done: it deletes the outputs and
    runs the job again, which then finds them here.
    """
    for path in work.iterdir():
        if path.is_dir() and path.name != "final":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "identity.json":
            path.unlink()
