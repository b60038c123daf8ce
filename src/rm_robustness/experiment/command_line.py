"""Check of Snakemake's command line: its configuration files, before Snakemake reads them."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError, refuse
from .config import read_mapping

OPTIONS = ("--configfile", "--configfiles")


def refuse_wrong_config_files(words: list[str]) -> None:
    """Exit with status 2 and one line where Snakemake would end in a traceback of its own.

    `--configfile` takes every word up to the next option, so that a target without `--` before it
    is read as a file. profiles/default calls this.
    """
    for word in config_files(words):
        try:
            read_mapping(Path(word), "a configuration file")
        except InputError as error:
            fix = "`--` before the targets ends the files: --configfile FILE -- TARGET"
            refuse(InputError(f"--configfile {word}", error.found, error.expected, fix))


def config_files(words: list[str]) -> Iterator[str]:
    """The files that a command line names: `--configfile A B`, `--configfile=A`."""
    taking = False
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            taking = name in OPTIONS and not equals
            if name in OPTIONS and equals:
                yield value
        elif taking:
            yield word
