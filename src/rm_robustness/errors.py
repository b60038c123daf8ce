"""The exceptions that the command line turns into one line: wrong input, and a request to stop."""

import sys
from collections.abc import Mapping
from typing import NoReturn, TypeVar

Row = TypeVar("Row", int, str)


class InputError(ValueError):
    """An error in a config, a data file or a checkpoint that the user can fix.

    The message is one line: where it is (file, key or row), what was found, what was expected
    and what to do. `rm-robustness` prints it without a traceback and exits with status 2.
    """

    def __init__(self, where: object, found: str, expected: str, fix: str = "") -> None:
        self.where, self.found, self.expected, self.fix = str(where), found, expected, fix
        line = f"{where}: found {found}; expected {expected}"
        super().__init__(line + (f"; {fix}" if fix else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        """Keep the four parts across a process boundary (exceptions pickle only their message)."""
        return type(self), (self.where, self.found, self.expected, self.fix)


class StoppedError(BaseException):
    """The process received SIGTERM; the same command resumes where possible.

    No Exception, as KeyboardInterrupt: code that catches whatever a library raises lets it pass.
    """


def refuse(error: object) -> NoReturn:
    """Print an error in one line and exit with status 2."""
    print(f"rm-robustness: error: {error}", file=sys.stderr)
    sys.exit(2)


def limit_left_out(
    left_out: Mapping[Row, InputError], total: int, share: float, key: str
) -> dict[Row, str]:
    """Return why rows are left out, in words; raise the first error if they are too many.

    `left_out` has an error that was not raised for each row, `share` the largest share of the
    `total` that may be left out: the value of the configuration's `key`, 0 where none may.
    """
    if len(left_out) > share * total:
        first = next(iter(left_out.values()))
        more = f", and {len(left_out) - 1} more of {total}" if len(left_out) > 1 else ""
        fix = f"{key} is the share that may be left out, {share:g}"
        fix = f"{first.fix}; {fix}" if first.fix else fix
        raise InputError(first.where, f"{first.found}{more}", first.expected, fix)
    return {
        row: f"found {error.found}; expected {error.expected}" for row, error in left_out.items()
    }
