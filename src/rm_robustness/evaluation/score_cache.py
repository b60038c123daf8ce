"""Scores of evaluations, kept by what they depend on: what was scored once is not scored again.

The folder is `scores` in the user's cache; a file's name is a hash of the model's files, the number
format, the tokens that were read, code and packages. An evaluation that is stopped goes on where it
was; one that is asked for again, with another output, only reads.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from ..cluster.lease import hold_lease
from ..errors import InputError
from ..frames import read_frame, write_frame
from ..models.score_log import ScoreLog
from ..models.scoring import Plan, score_plan
from ..progress import Progress
from ..provenance.git import code
from ..provenance.record import versions


class ScoreCache:
    """The scores of one model, read in one way."""

    def __init__(self, folder: Path, *read_as: Any) -> None:
        """`read_as` says what is read, and how: sums of the model's files, format, batch size."""
        self.folder, self.depends_on = folder, [*read_as, code(), versions()]

    def score(
        self, model: Any, plan: Plan, frame: pd.DataFrame, progress: Progress
    ) -> pd.DataFrame:
        """Scores of a set as `scoring.score_plan`, computed unless they are there."""
        whole = json.dumps([*self.depends_on, plan.sequences, list(frame["response_id"])])
        path = self.folder / f"{hashlib.sha256(whole.encode()).hexdigest()}.parquet"
        with hold_lease(path):
            if (stored := self._read(path, len(frame))) is not None:
                progress.skip(plan.tokens)
                return stored
            with ScoreLog(path, {"key": path.stem}, [], None) as log:
                scores = score_plan(model, plan, frame, progress, log)
                write_frame(scores, path)
            log.remove()
        return scores

    def _read(self, path: Path, rows: int) -> pd.DataFrame | None:
        """The scores in a file; None if it is absent, or damaged and so removed."""
        if not path.is_file():
            return None
        try:
            frame = read_frame(path, ["response_id", "reward"])
            if len(frame) == rows:
                return frame
        except InputError:
            pass
        print(f"{path}: damaged, removed; its set is scored again", file=sys.stderr)
        path.unlink()
        return None
