"""What keeps a long generation: answers on disk as they come, and a line with the progress."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError


class Answer(NamedTuple):
    """The response to prompt number `row`; `finished` is false when it was cut at the limit."""

    row: int
    response: str
    finished: bool


class Journal:
    """An append-only file of answers: a line that names the run, then a JSON line per answer."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def read(self, total: int) -> dict[int, Answer]:
        """Return the answers so far by row, after dropping a last line that was cut in half.

        Raises `InputError` when the journal belongs to other prompts or settings, or is broken
        elsewhere than at its end.
        """
        lines = whole_lines(self.path)
        if not lines:
            append_lines(self.path, [{"fingerprint": self.fingerprint}])
            return {}
        fix = f"remove {self.path} to start again"
        found: dict[int, Answer] = {}
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                if number > 1:
                    answer = Answer(entry["row"], entry["response"], entry["finished"])
            except (ValueError, KeyError, TypeError) as error:
                where = f"{self.path} line {number}"
                raise InputError(where, f"{line[:40]!r}", "an answer", fix) from error
            if number == 1 and entry != {"fingerprint": self.fingerprint}:
                raise InputError(self.path, "a run of other prompts or settings", "this run", fix)
            if number > 1:
                if not 0 <= answer.row < total:
                    expected = f"rows below {total}"
                    raise InputError(f"{self.path} line {number}", str(answer.row), expected, fix)
                found[answer.row] = answer
        return found

    def append(self, batch: list[Answer]) -> None:
        """Add answers; they are on the disk when this returns."""
        append_lines(self.path, [answer._asdict() for answer in batch])


def whole_lines(path: Path) -> list[bytes]:
    """Read the lines of a file that is appended to, after dropping a last one cut in half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return []
    whole = path.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    return whole.splitlines()


def append_lines(path: Path, entries: list[dict[str, Any]]) -> None:
    """Add a JSON line an entry; they are on the disk when this returns."""
    with path.open("ab") as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
