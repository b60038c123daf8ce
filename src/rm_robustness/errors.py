"""The exceptions that the command line turns into one line: wrong input, and a request to stop."""


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


class StoppedError(Exception):
    """The process received SIGTERM; the same command resumes where possible."""
