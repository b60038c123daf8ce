"""Measurements of a finished run that the claims use, and the paper's numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluation.scenarios import METRICS, average, per_prompt, read_rewards, score_path
from ..experiment.grid import bsr_weight
from ..experiment.paths import location
from ..frames import read_csv, read_frame
from ..statistics import NO_ESTIMATE, Estimate, seed_mean
from .tables import paper_value


@dataclass(frozen=True)
class RunResults:
    """A run folder, its settings and the paper's published numbers.

    `settings` are those of `table5_scenarios.table5`, the sections rm_bench, ranks, rloo and
    alpaca_eval (None where the preset lacks one), and `families`, lists of backbones from small to
    large.
    """

    folder: Path
    settings: Mapping[str, Any]
    published: pd.DataFrame

    def estimate(self, values: NDArray[np.float64] | pd.DataFrame) -> Estimate:
        """Mean over seeds (rows) and prompts (columns) with its interval."""
        return seed_mean(np.asarray(values))

    def lacks(self, *objectives: str) -> str:
        """Describe which of the given objectives the preset does not train; "" for none."""
        missing = [name for name in objectives if name not in self.settings["objectives"]]
        return f"the preset does not train {' and '.join(missing)}" if missing else ""

    def values(self, backbone: str, method: str, metric: str) -> pd.DataFrame:
        """Accuracy or tau of every seed (row) and prompt (column, named by its id)."""
        seeds, split = self.settings["seeds"], METRICS[metric]
        paths = [score_path(self.folder, backbone, method, seed, split) for seed in seeds]
        scores = zip(*read_rewards(paths), paths, strict=True)
        rows = [per_prompt(metric, rewards, gold, path) for rewards, gold, path in scores]
        prompts = read_frame(paths[0], ["prompt_id"])["prompt_id"].unique()
        return pd.DataFrame(np.stack(rows), index=seeds, columns=prompts)

    def gap(self, backbone: str, metric: str, method: str, reference: str) -> pd.DataFrame:
        """One objective minus another, paired by seed and prompt; empty if one is not trained."""
        if self.lacks(method, reference):
            return pd.DataFrame()
        return self.values(backbone, method, metric) - self.values(backbone, reference, metric)

    def average(self, gaps: Mapping[str, Sequence[pd.DataFrame]]) -> Estimate:
        """Mean over backbones and scenarios of gaps (seeds x prompts), one list a backbone."""
        return average(gaps)

    def paper(self, artifact: str, backbone: str, method: str, metric: str) -> float:
        """Look up a published number; tables 1 to 3 of the paper have one model each."""
        if artifact == "table5":
            model = self.settings["backbones"][backbone]["paper_model"]
        else:
            model = self.published.loc[self.published["artifact"] == artifact, "model"].iloc[0]
        weight = bsr_weight(method, self.settings["bsr"]["weight"])
        return paper_value(self.published, artifact, model, method, weight, metric)

    def paper_gap(
        self, artifact: str, backbone: str, metric: str, method: str, reference: str
    ) -> float:
        """One published number minus another."""
        value, reference_value = (
            self.paper(artifact, backbone, m, metric) for m in (method, reference)
        )
        return value - reference_value

    def read_estimate(self, table: str, method: str, metric: str, kind: str) -> Estimate:
        """Read a cell of a table: its `value`, or its paired `difference` from the reference.

        The first row of a method and metric is read: in table 1 it has the largest n.
        """
        frame = read_csv(self.folder / location("result", name=table))
        rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
        if rows.empty or pd.isna(rows.iloc[0][kind]):
            return NO_ESTIMATE
        row, ends = rows.iloc[0], "ci" if kind == "value" else kind
        value, low, high = (float(row[name]) for name in (kind, f"{ends}_low", f"{ends}_high"))
        return Estimate(value, low, high, float(row["p_value"]), int(row["n_seeds"]), 0)
