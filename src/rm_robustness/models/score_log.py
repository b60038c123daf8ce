"""Append-only file of a job's scores, written while it runs, from which a killed job goes on.

Floats are exact in it, and a whole batch is in it or none of it: a resumed job computes the other
batches as they would have been, so its output has the same bits.
"""

import hashlib
import json
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..experiment.config import Settings
from ..files import hashes, sha256
from ..provenance.git import code
from ..provenance.record import versions
from .answer_log import append_entries, read_entries, values_of

EVERY = 30.0  # seconds between two writes: a shorter job leaves no file


class ScoreLog:
    """The scores so far of one output, beside it with the ending .jsonl.

    The first line has a hash of all that scores depend on: settings, input files, the model's
    files, code and packages. The log of anything else is removed. A block `with log:` that ends in
    an exception, SIGTERM's too, writes what is left.
    """

    def __init__(
        self, output: Path, settings: Settings, inputs: list[Path], model: Path | None
    ) -> None:
        """Read the scores of an earlier attempt, if there was one, into `done`: values by row."""
        self.path = output.with_suffix(".jsonl")
        self.depends_on = (settings, inputs, model)
        self.done: dict[int, list[float]] = self._read() if self.path.is_file() else {}
        self.waiting: dict[int, list[float]] = {}
        self.size = self.path.stat().st_size if self.done else 0
        self.written = time.monotonic()

    def restore(self, values: np.ndarray) -> Collection[int]:
        """Put the scores of an earlier attempt into their rows of `values` (n, k); these rows."""
        for row, scores in self.done.items():
            values[row] = scores
        return self.done.keys()

    def add(self, rows: list[int], values: np.ndarray) -> None:
        """Add a batch's values (len(rows), k); they are on the disk after `EVERY` s at most."""
        self.waiting.update(zip(rows, np.asarray(values, np.float64).tolist(), strict=True))
        if time.monotonic() - self.written >= EVERY:
            self.write()

    def write(self) -> None:
        """Write what `add` has collected."""
        if not self.waiting:
            return
        if self.size:
            with self.path.open("rb+") as file:  # what an interrupted write left
                file.truncate(self.size)
        else:
            self.path.unlink(missing_ok=True)
            append_entries(self.path, [{"fingerprint": self._fingerprint()}])
        rows = list(self.waiting)
        append_entries(self.path, [{"rows": rows, "scores": [self.waiting[row] for row in rows]}])
        self.size, self.written = self.path.stat().st_size, time.monotonic()
        self.waiting = {}

    def remove(self) -> None:
        """Remove the file, once the job has finished, and forget what is not written yet."""
        self.path.unlink(missing_ok=True)
        self.size, self.waiting = 0, {}

    def __enter__(self) -> "ScoreLog":
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Write what is left if the job is stopped, or has taken long enough to write before."""
        if error is not None or self.size:
            self.write()

    def _read(self) -> dict[int, list[float]]:
        """Read the values by row; none if they belong to anything else."""
        fix = f"remove {self.path} to start again"
        entries = read_entries(self.path, fix)
        _, header = next(entries, ("", None))
        if header != {"fingerprint": self._fingerprint()}:
            print(f"{self.path}: of other inputs, settings or code, removed", file=sys.stderr)
            self.path.unlink()
            return {}
        done: dict[int, list[float]] = {}
        for where, entry in entries:
            rows, scores = values_of(entry, ("rows", "scores"), where, fix)
            done.update(zip(rows, scores, strict=True))
        return done

    def _fingerprint(self) -> str:
        settings, inputs, model = self.depends_on
        parts: list[Any] = [settings, [sha256(path) for path in inputs]]
        parts.append(hashes(model) if model else {})
        whole = json.dumps([*parts, code(), versions()], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()
