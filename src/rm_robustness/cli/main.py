"""`rm-robustness COMMAND`: the command line, called by every rule and usable without Snakemake."""

import argparse
import errno
import importlib.metadata
import os
import select
import signal
import sys
import time
from types import FrameType

from ..errors import InputError, StoppedError, refuse
from ..experiment.config import nearest
from . import data, evaluation, planning, provenance, results, training
from .command import Command

STOPPED = 75  # sysexits.h: try again
UNREAD = 128 + signal.SIGPIPE  # standard output is a closed pipe

PHASES = (data, training, evaluation, results, planning, provenance)
COMMANDS: dict[str, Command] = {c.name: c for phase in PHASES for c in phase.COMMANDS}


def main(arguments: list[str] | None = None) -> None:
    """Execute one command; a user's mistake ends with one line and exit status 2."""
    # On SIGTERM, open work is put in order; the shell around ignores the signal (rules).
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        _execute(sys.argv[1:] if arguments is None else arguments)
    except InputError as error:
        _leave_process_group()
        refuse(error)
    except StoppedError as stop:
        print(f"rm-robustness: stopped: {stop}; the same command resumes it", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            sys.exit(UNREAD)
        unwritable = _unwritable(error)
        if unwritable is None:
            raise
        refuse(f"{unwritable}; nothing was left half-written")
    finally:
        signal.signal(signal.SIGTERM, previous)


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
    """Parse the command line; InputError with the nearest name for an unknown command."""
    name = arguments[0] if arguments else "--help"
    if not name.startswith("-") and name not in COMMANDS:
        raise InputError("COMMAND", f"'{name}'", "a known one", nearest(name, list(COMMANDS)))
    return parser().parse_args(arguments)


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
    """Whether standard output is a closed pipe, as after `| head -1`; if so, silence it."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
    return True


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


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="rm-robustness",
        usage="%(prog)s [--help] [--version] COMMAND ...",
        description="Train reward models and measure how robust they are.",
        epilog=_listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    # The listing names the commands, in groups, which argparse cannot.
    subparsers = top.add_subparsers(
        prog=top.prog, required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    for command in COMMANDS.values():
        sub = subparsers.add_parser(command.name, description=command.description)
        sub.set_defaults(command=command)
        for name, keywords in command.arguments:
            sub.add_argument(name, **keywords)
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
