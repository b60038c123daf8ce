"""Release a finished run: check it, record it with DVC, and put it into the repository's store."""

import argparse
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import yaml

from ..errors import InputError
from ..experiment.catalog import ON_REQUEST
from ..experiment.config import Settings, read_mapping
from ..experiment.settings import differences
from .dvc_lock import read_lock
from .dvc_yaml import DVC_YAML, add_preset, stages_of
from .git import revision
from .lineage import preset_of, read_lineage
from .record import records
from .snakemake_metadata import pack
from .verify import verify_files

STORE, LOCK = Path("dvcstore"), Path("dvc.lock")
# Bytes of one preset, and of all: every clone of the repository carries them.
LIMIT, LIMIT_OF_ALL = 32_000_000, 64_000_000
FIX = "git commit, or git stash, what differs"


def release_run(options: argparse.Namespace) -> None:
    """Complete a run, record it with DVC and push it: the command `release`.

    Only the stages of its preset are recorded, which is added to dvc.yaml if it is missing there.
    A result on request is completed too where the run has it.
    Raises InputError, and restores dvc.yaml and dvc.lock, when the tree is dirty or git refuses,
    when dvc.lock has settings without a run, when Snakemake has jobs left to do, when a job ran in
    a dirty tree, or when the store would be larger than `LIMIT` or `LIMIT_OF_ALL`. Exits as
    `verify` does if that finds a mismatch.
    """
    if reason := revision().get("reason"):
        raise InputError("git", reason, "a commit that the release is made at")
    if revision()["dirty"] is not False:
        raise InputError("git status", "a dirty tree", "that of a commit", FIX)
    preset = options.runs.name
    file = Path(f"config/{preset}.yaml")
    if options.runs.is_dir():
        _refuse_false_lock(preset, read_mapping(file, "a config file"))
    tables = [options.runs / f"results/{name}.csv" for name in ON_REQUEST]
    requested = [str(path) for path in tables if path.is_file()]
    config = ["--configfile", str(file), "--", "all", *requested]
    _execute("snakemake", *config)
    if "Nothing to be done" not in _execute("snakemake", "--dry-run", *config, quiet=True):
        raise InputError("snakemake -n", "jobs left to do", "nothing to be done")
    _refuse_dirty(options.runs)
    pack(options.runs)
    before = {path: path.read_bytes() for path in (DVC_YAML, LOCK) if path.is_file()}
    try:
        add_preset(preset)
        _execute("dvc", "commit", "--force", *stages_of(preset))
        verify_files(Namespace(paths=[options.runs], configfile=[file]))
        _execute("dvc", "push", "--remote", "released", *stages_of(preset))
        size = refuse_large(STORE, LOCK, preset)
    except BaseException:
        LOCK.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)
        raise
    for path in {path for path in STORE.rglob("*") if path.is_file()} - named(STORE, LOCK):
        path.unlink()  # of an earlier release
    print(
        f"released: {STORE} holds {size / 1e6:.1f} MB;"
        f" now: git add {DVC_YAML} {LOCK} {STORE} && git commit"
    )


def refuse_large(store: Path, lock: Path, preset: str) -> int:
    """Return the bytes of a store; InputError where it, or a preset's part of it, is too large."""
    size = 0
    for of, ending, limit in (
        (preset, f"@{preset}", LIMIT),
        ("all released presets", "", LIMIT_OF_ALL),
    ):
        size = sum(path.stat().st_size for path in named(store, lock, ending))
        if size > limit:
            found, expected = f"{size / 1e6:.1f} MB of {of}", f"{limit / 1e6:.0f} MB or less"
            raise InputError(store, found, expected, "leave more out, in .dvcignore")
    return size


def named(store: Path, lock: Path, ending: str = "") -> set[Path]:
    """The objects of a store that dvc.lock names; raises InputError when the store lacks one.

    Those of all stages, or of those whose names have this ending: `@PRESET`.
    """
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].items()
    outs = [out for name, stage in stages if name.endswith(ending) for out in stage["outs"]]
    objects = {_object(store, out["md5"]) for out in outs}
    for path in [path for path in objects if path.suffix == ".dir"]:
        objects |= {_object(store, entry["md5"]) for entry in json.loads(path.read_text())}
    return objects


def _object(store: Path, name: str) -> Path:
    path = store / "files" / "md5" / name[:2] / name[2:]
    if not path.is_file():
        raise InputError(path, "no such file", "an object that dvc.lock names", "dvc push")
    return path


def _refuse_false_lock(preset: str, config: Settings) -> None:
    """Refuse a lock with current settings for files made with others: recorded without a run.

    Running now would make the lock true, and hide the mistake.
    """
    lock = read_lock()
    for path, record in read_lineage().records.items():
        stage = lock.stage(path) if preset_of(path) == preset else None
        others = differences(record["settings"], stage.params, path) if stage else ""
        if stage and others and others == differences(record["settings"], config, path):
            where = f"dvc.lock, stage {stage.name}"
            fix = "bring back the dvc.lock of the last release"
            raise InputError(where, f"settings without a run: {path} has {others}", "a run's", fix)


def _refuse_dirty(runs: Path) -> None:
    """Refuse jobs that ran in a dirty tree or without a known commit: their code is unknown."""
    dirty = [path for path, job in records(runs).items() if job["git"]["dirty"] is not False]
    if dirty:
        fix = f"make them again: rm {dirty[0].parent}/* and the others, snakemake all"
        more = f" and {len(dirty) - 1} more" if len(dirty) > 1 else ""
        where, found = f"{dirty[0]}{more}", "made in a dirty tree or at no commit"
        raise InputError(where, found, "made at a commit", fix)


def _execute(*command: str, quiet: bool = False) -> str:
    """Run a command and return its output; exit with its status if it fails."""
    print(f"$ {' '.join(command)}", flush=True)
    taken = subprocess.PIPE if quiet else None
    done = subprocess.run(command, stdout=taken, stderr=taken, text=True, check=False)
    if done.returncode:
        print((done.stdout or "") + (done.stderr or ""), file=sys.stderr)
        sys.exit(done.returncode)
    return (done.stdout or "") + (done.stderr or "")
