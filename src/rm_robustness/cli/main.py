"""`rm-robustness COMMAND`: the command line, called by every rule and usable without Snakemake."""

import argparse
import errno
import importlib.metadata
import io
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ..errors import InputError, StoppedError, refuse
from ..experiment.config import nearest
from . import data, evaluation, planning, provenance, results, training
from .command import Command

STOPPED = 75  # sysexits.h: try again
UNREAD = 128 + signal.SIGPIPE  # standard output is a closed pipe

PHASES = (evaluation, training, planning, provenance, data, results)  # the order of --help
COMMANDS: dict[str, Command] = {c.name: c for phase in PHASES for c in phase.COMMANDS}


def main(arguments: list[str] | None = None) -> None:
    """Execute one command; a user's mistake ends with one line and exit status 2."""
    # On SIGTERM, open work is put in order; the shell around ignores the signal (rules).
    previous = signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):  # a terminal that is not UTF-8 shows `?` for the rest
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        _refuse_mistakes(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        if not _is_unread():
            raise
        sys.exit(UNREAD)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _refuse_mistakes(arguments: list[str]) -> None:
    try:
        _execute(arguments)
    except InputError as error:
        _leave_process_group()
        refuse(error)
    except StoppedError as stop:
        print(f"rm-robustness: stopped: {stop}; the same command resumes it", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception as error:
        unwritable = _unwritable(error)
        if unwritable is None:
            raise
        refuse(f"{unwritable}; nothing was left half-written")


def _execute(arguments: list[str]) -> None:
    try:
        options = _parse(arguments)
        _set_environment(options.command)
        options.command.body(options)
        _leave_process_group()
    finally:
        sys.stdout.flush()  # or a closed pipe would be noticed only as Python ends
    print(f"rm-robustness: done, {time.process_time():.1f} s of CPU", file=sys.stderr)


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; InputError with the nearest name for an unknown command or option."""
    name = arguments[0] if arguments else "--help"
    if name.startswith("-"):
        return parser(listed=name.startswith("--print-completion")).parse_args(arguments)
    if name not in COMMANDS:
        raise InputError("COMMAND", f"'{name}'", "a known one", nearest(name, list(COMMANDS)))
    command = COMMANDS[name]
    if command.forwards and not {"-h", "--help"} & {*arguments}:
        return argparse.Namespace(command=command, rest=arguments[1:])
    known = ["--help", *(option for option, _ in command.arguments if option.startswith("--"))]
    for argument in arguments[1:]:
        option = argument.partition("=")[0]
        if option.startswith("--") and option not in ("--", *known):
            raise InputError(name, f"'{option}'", "a known option", nearest(option, known))
    return parser().parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    """Argparse whose errors are one line."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            where = "/".join(action.option_strings) or str(action.metavar)
            names = [str(choice) for choice in action.choices]
            raise InputError(where, f"'{value}'", "a known value", nearest(str(value), names))

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; {self.prog} --help describes what there is")


def _set_environment(command: Command) -> None:
    """Set environment variables that libraries read on import and child processes inherit."""
    # One thread a job unless the environment says otherwise: sums then have one order (bits).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not command.online:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("DO_NOT_TRACK", "1")


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)


def _leave_process_group() -> None:
    """Leave the process group of a training, after all of its processes have finished.

    A torch thread that still runs while Python exits would abort the process (SIGABRT).
    """
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _is_unread() -> bool:
    """Whether an output is a closed pipe, as after `| head -1`; if so, silence it."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    closed = [number for number, _ in poll.poll(0)]
    for number in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # Python flushes at its end
    return bool(closed)


def _unwritable(error: Exception) -> str | None:
    """Message for an error of a full or read-only disk, whichever library raised it; else None."""
    codes = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in codes:
        where = error.filename2 or error.filename or "the output"
        return f"{where}: {os.strerror(error.errno)}"
    text = str(error).splitlines()[0] if str(error) else ""
    # safetensors has an error class of its own; torch's zip writer only finds its file too short.
    if "No space left" in text or "inline_container" in text:
        return f"the output: cannot write, is the disk full? ({text[:120]})"
    return None


def parser(listed: bool = False) -> argparse.ArgumentParser:
    """The parser of the whole command line; with its commands `listed`, as shtab wants them."""
    import shtab

    top = _Parser(
        prog="rm-robustness",
        usage="%(prog)s [--help] [--version] COMMAND ...",
        description="Train reward models and measure how robust they are.",
        epilog=_listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    shtab.add_argument_to(top, help="print what completes commands, options and paths")
    # The listing names the commands, in groups, which argparse cannot.
    subparsers = top.add_subparsers(
        prog=top.prog, required=True, metavar="COMMAND", help=None if listed else argparse.SUPPRESS
    )
    for command in COMMANDS.values():
        sub = subparsers.add_parser(
            command.name, help=command.summary, description=command.description, allow_abbrev=False
        )
        sub.set_defaults(command=command)
        for name, keywords in command.arguments:
            action = sub.add_argument(name, **keywords)
            if keywords.get("type") is Path or keywords.get("metavar") == "MODEL":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return top


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(parser.prog, importlib.metadata.version("rm-robustness"))
        parser.exit()


def _listing() -> str:
    """Every command with its summary, those for people first."""
    people = [_line(command) for command in COMMANDS.values() if command.for_people]
    rules = [_line(command) for command in COMMANDS.values() if not command.for_people]
    return "\n".join(
        [
            "commands:",
            *people,
            "\ncommands that the workflow's rules call:",
            *rules,
            "\nrm-robustness COMMAND --help describes a command.",
        ]
    )


def _line(command: Command) -> str:
    return f"  {command.name:<14}{command.summary}"
