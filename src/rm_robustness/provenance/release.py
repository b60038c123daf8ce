"""Release a finished run: check it, record it with DVC, and put it into the repository's store."""

import argparse
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import yaml

from ..errors import InputError
from ..experiment.config import Settings, read_mapping
from ..experiment.settings import differences
from .dvc_lock import read_lock
from .git import revision
from .lineage import preset_of, read_lineage
from .record import records
from .snakemake_metadata import pack
from .verify import verify_files

STORE = Path("dvcstore")
LIMIT = 32_000_000  # bytes: every clone of the repository carries them
FIX = "git commit, or git stash, what differs"


def release_run(options: argparse.Namespace) -> None:
    """Complete a run, record it with DVC and push it: the command `release`.

    Raises InputError, and restores dvc.lock, when the tree is dirty or git refuses, when dvc.lock
    has settings without a run, when Snakemake has jobs left to do, when a job ran in a dirty tree,
    or when the store would be larger than `LIMIT`. Exits as `verify` does if that finds a mismatch.
    """
    if reason := revision().get("reason"):
        raise InputError("git", reason, "a commit that the release is made at")
    if revision()["dirty"] is not False:
        raise InputError("git status", "a dirty tree", "that of a commit", FIX)
    file = Path(f"config/{options.runs.name}.yaml")
    if options.runs.is_dir():
        _refuse_false_lock(read_mapping(file, "a config file"))
    config = ["--configfile", str(file), "--", "all"]
    _execute("snakemake", *config)
    if "Nothing to be done" not in _execute("snakemake", "--dry-run", *config, quiet=True):
        raise InputError("snakemake -n all", "jobs left to do", "nothing to be done")
    _refuse_dirty(options.runs)
    pack(options.runs)
    before = Path("dvc.lock").read_bytes() if Path("dvc.lock").is_file() else None
    try:
        _execute("dvc", "commit", "--force")
        verify_files(Namespace(paths=[options.runs, Path("results")], configfile=[file]))
        _execute("dvc", "push", "--remote", "released")
        objects = named(STORE, Path("dvc.lock"))
        size = sum(path.stat().st_size for path in objects)
        if size > LIMIT:
            found, expected = f"{size / 1e6:.1f} MB", f"{LIMIT / 1e6:.0f} MB or less"
            raise InputError(STORE, found, expected, "leave more out, in .dvcignore")
    except BaseException:
        if before is None:
            Path("dvc.lock").unlink(missing_ok=True)
        else:
            Path("dvc.lock").write_bytes(before)
        raise
    for path in [path for path in STORE.rglob("*") if path.is_file() and path not in objects]:
        path.unlink()  # of an earlier release
    print(
        f"released: {STORE} holds {size / 1e6:.1f} MB; now: git add dvc.lock {STORE} && git commit"
    )


def named(store: Path, lock: Path) -> set[Path]:
    """The objects of a store that dvc.lock names; raises InputError when the store lacks one."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].values()
    objects = {_object(store, out["md5"]) for stage in stages for out in stage["outs"]}
    for path in [path for path in objects if path.suffix == ".dir"]:
        objects |= {_object(store, entry["md5"]) for entry in json.loads(path.read_text())}
    return objects


def _object(store: Path, name: str) -> Path:
    path = store / "files" / "md5" / name[:2] / name[2:]
    if not path.is_file():
        raise InputError(path, "no such file", "an object that dvc.lock names", "dvc push")
    return path


def _refuse_false_lock(config: Settings) -> None:
    """Refuse a lock with current settings for files made with others: recorded without a run.

    Running now would make the lock true, and hide the mistake.
    """
    lock = read_lock()
    for path, record in read_lineage().records.items():
        stage = lock.stage(path) if preset_of(path) else None
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
