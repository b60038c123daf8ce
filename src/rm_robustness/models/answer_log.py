"""Append-only JSON-lines files of answers, written as they arrive, that survive a kill.

`AnswerLog` has one generation's responses by prompt number; `AnswerCache` has a judge's answers by
the hash of the request, for any number of runs. A last line that a kill cut in half is dropped.
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError


class Answer(NamedTuple):
    """The response to prompt number `row`; `finished` is false when it was cut at the limit."""

    row: int
    response: str
    finished: bool
    replaced: int = 0  # halves of surrogate pairs that the server sent, now U+FFFD
    refused: str | None = None  # why the server refuses this prompt, which then has no response


class AnswerLog:
    """The answers of one generation: a line with its fingerprint, then a line per answer."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.header = path, {"fingerprint": fingerprint}

    def read(self, total: int) -> dict[int, Answer]:
        """Return the answers so far by row, after dropping a last line that was cut in half.

        `total` is the number of prompts. Raises `InputError` when the log belongs to other prompts
        or settings, or has a broken line that is not its last.
        """
        fix = f"remove {self.path} to start again"
        entries = read_entries(self.path, fix)
        header = next(entries, None)
        if header is None:
            append_entries(self.path, [self.header])
            return {}
        if header[1] != self.header:
            raise InputError(self.path, "a run of other prompts or settings", "this run", fix)
        answers: dict[int, Answer] = {}
        for where, entry in entries:
            row, response, finished = values_of(entry, Answer._fields[:3], where, fix)
            if not isinstance(row, int) or not 0 <= row < total:
                raise InputError(where, f"row {row!r}", f"rows below {total}", fix)
            further = (entry.get("replaced", 0), entry.get("refused"))
            answers[row] = Answer(row, response, finished, *further)
        return answers

    def append(self, batch: list[Answer]) -> None:
        """Add answers; they are on the disk when this returns."""
        append_entries(self.path, [answer._asdict() for answer in batch])


class AnswerCache:
    """A judge's answers by the hash of the request; threads may share one cache."""

    def __init__(self, path: Path) -> None:
        """Read the answers so far. Raises `InputError` for a broken line that is not the last."""
        self.path, self.lock = path, threading.Lock()
        self.choices: dict[str, dict[str, Any]] = {}
        fix = "remove the line: its request is sent again"
        for where, entry in read_entries(path, fix):
            key, choice = values_of(entry, ("key", "choice"), where, fix)
            self.choices[key] = choice

    def add(self, key: str, choice: dict[str, Any]) -> None:
        """Add an answer; it is on the disk when this returns."""
        with self.lock:
            append_entries(self.path, [{"key": key, "choice": choice}])
            self.choices[key] = choice


def read_entries(path: Path, fix: str) -> Iterator[tuple[str, Any]]:
    """Yield (file and line for an error, parsed JSON) of every whole line.

    A last line that was cut in half is removed from the file first. No file has no lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    for number, line in enumerate(whole.splitlines(), start=1):
        where = f"{path} line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(where, f"{line[:40]!r}", "an answer", fix) from error
        yield where, entry


def values_of(entry: Any, names: tuple[str, ...], where: str, fix: str) -> list[Any]:
    """Return the values of an entry's keys; InputError when it is no object that has them all."""
    if not isinstance(entry, dict) or not entry.keys() >= set(names):
        expected = f"an answer, with {', '.join(names)}"
        raise InputError(where, json.dumps(entry)[:40], expected, fix)
    return [entry[name] for name in names]


def append_entries(path: Path, entries: list[dict[str, Any]]) -> None:
    """Add a JSON line per entry; they are on the disk when this returns."""
    with path.open("ab") as file:
        for entry in entries:
            file.write(json.dumps(entry).encode() + b"\n")  # ASCII: half a surrogate pair too
        file.flush()
        os.fsync(file.fileno())
