"""Commands of provenance: trace, verify, release, crate and history."""

import argparse
from pathlib import Path

from .command import command, configfile, option, path

OF_THE_PRESET = configfile("as Snakemake's; config/PRESET.yaml if not given")


@command(
    option("path", "a file under results/ or runs/", type=Path),
    option("--row", "rows of its csv", nargs="+", default=[], metavar="KEY=VALUE"),
    option("--commands", "also the command of each job", action="store_true"),
    option("--json", "print everything, as JSON", action="store_true"),
    OF_THE_PRESET,
    for_people=True,
)
def trace(options: argparse.Namespace) -> None:
    """Print the lineage of a file, or of one row of a table."""
    from ..provenance.trace import print_trace

    print_trace(options)


@command(
    option("paths", "files or folders; all if none is given", type=Path, nargs="*"),
    OF_THE_PRESET,
    for_people=True,
)
def verify(options: argparse.Namespace) -> None:
    """Check all files against their records, DVC and git."""
    from ..provenance.verify import verify_files

    verify_files(options)


@command(path("--runs", "folder runs/PRESET"), for_people=True)
def release(options: argparse.Namespace) -> None:
    """Check a run, record it with DVC and push it to dvcstore/."""
    from ..provenance.release import release_run

    release_run(options)


@command(
    configfile("those that the run was started with", "config/demo.yaml"),
    option("--output", type=Path, default=Path("ro-crate-metadata.json")),
    for_people=True,
)
def crate(options: argparse.Namespace) -> None:
    """Describe a finished run as an RO-Crate, for other tools."""
    from ..provenance.ro_crate import write_crate

    write_crate(options)


@command(path("--runs", "folder runs/PRESET"), for_people=True)
def history(options: argparse.Namespace) -> None:
    """Store Snakemake's metadata of a run beside it, for `dvc pull`.

    With it nothing is computed again in a clone that pulled the run.
    """
    from ..provenance.snakemake_metadata import pack

    pack(options.runs)


COMMANDS = [trace, verify, release, crate, history]
