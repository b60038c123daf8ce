"""A command of `rm-robustness`: its arguments stand above its body, its docstring is its help.

    @command(path("--model", "folder of the reward model"), ...)
    def score(options: argparse.Namespace) -> None: ...

Heavy libraries are imported inside the bodies, so that `--help` and the small commands start at
once.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..experiment.config import read_settings

Body = Callable[[argparse.Namespace], None]
Argument = tuple[str, dict[str, Any]]  # what argparse's `add_argument` takes


class Command(NamedTuple):
    """A command `rm-robustness NAME`: its function and its arguments.

    `online`: it needs the internet, so its rule is a localrule. No other command may use the
    internet: on a compute node it would hang or fail.
    `for_people`: it is meant for interactive use; the others are called by rules.
    `forwards`: the body parses the rest of the command line itself, `options.rest`.
    """

    name: str
    body: Body
    description: str
    arguments: tuple[Argument, ...]
    online: bool
    for_people: bool
    forwards: bool

    @property
    def summary(self) -> str:
        """The first line of the description, as `rm-robustness --help` shows it."""
        return self.description.partition("\n")[0]


def command(
    *arguments: Argument,
    name: str = "",
    online: bool = False,
    for_people: bool = False,
    forwards: bool = False,
) -> Callable[[Body], Command]:
    """Decorator that makes a function a command, named like it unless `name` is given."""

    def make(body: Body) -> Command:
        text = body.__doc__ or ""
        called = name or body.__name__
        return Command(called, body, text, arguments, online, for_people, forwards)

    return make


def option(name: str, text: str = "", **keywords: Any) -> Argument:
    """An argument with argparse's own keywords."""
    return name, {"help": text, **keywords}


def path(name: str, text: str) -> Argument:
    """A required file or folder."""
    return option(name, text, required=True, type=Path)


def paths(name: str, text: str) -> Argument:
    """One file or more."""
    return option(name, text, required=True, type=Path, nargs="+")


def settings(section: str) -> Argument:
    """The option `--settings`: the part of the configuration on which the job depends."""
    text = f"{section} (keys: config/README.md)"
    return option("--settings", text, required=True, type=read_settings, metavar="JSON|FILE")


def manifests_of(model: str | None) -> list[Path]:
    """The manifest of a downloaded model, an input for its record; none without such a model."""
    manifest = Path(model or "").parent / "manifest.json"
    return [manifest] if manifest.is_file() else []


def configfile(text: str, *default: str) -> Argument:
    """The option `--configfile`: configuration files, as Snakemake takes them."""
    files = [Path(name) for name in default]
    return option("--configfile", text, type=Path, nargs="+", default=files)
