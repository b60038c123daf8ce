"""Measurements of a finished run that the claims use, and the paper's numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.policy_curves import read_evaluations
from ..evaluation.probes import read_probes
from ..evaluation.rm_bench import domain_masks, metric_percent, read_scores
from ..evaluation.rm_bench import per_prompt as bench_per_prompt
from ..evaluation.scenarios import METRICS, prompt_values, score_path
from ..experiment.grid import bsr_weight
from ..experiment.paths import location
from ..experiment.scenarios import SCENARIOS
from ..frames import read_frame
from ..pivot import Array
from ..ratios import stratified_mean
from ..statistics import Estimate, seed_mean
from .table1_effective_rank import read_ranks
from .table3_alpaca_eval import measured_values
from .tables import paper_value


@dataclass(frozen=True)
class RunResults:
    """A run folder, its settings and the paper's published numbers.

    `settings` are those of `table5_scenarios.table5`, the sections rm_bench, ranks, rloo and
    alpaca_eval (None where the preset lacks one), and `families`, lists of backbones from small to
    large. What several claims are judged by is measured once.
    """

    folder: Path
    settings: Mapping[str, Any]
    published: pd.DataFrame
    _values: dict[tuple[str, str, str], pd.DataFrame] = field(default_factory=dict, init=False)

    def estimate(self, values: Array | pd.DataFrame) -> Estimate:
        """Mean over seeds (rows) and prompts (columns) with its interval."""
        return seed_mean(np.asarray(values))

    def lacks(self, *objectives: str) -> str:
        """Describe which of the given objectives the preset does not train; "" for none."""
        missing = [name for name in objectives if name not in self.settings["objectives"]]
        return f"the preset does not train {' and '.join(missing)}" if missing else ""

    def values(self, backbone: str, method: str, metric: str) -> pd.DataFrame:
        """Accuracy or tau of every seed (row) and prompt (column, named by its id)."""
        key = backbone, method, metric
        if key not in self._values:
            seeds, split = self.settings["seeds"], METRICS[metric]
            paths = [score_path(self.folder, backbone, method, seed, split) for seed in seeds]
            self._values[key] = prompt_values(metric, paths)[0].set_axis(seeds)
        return self._values[key]

    def gap(self, backbone: str, metric: str, method: str, reference: str) -> pd.DataFrame:
        """One objective minus another, paired by seed and prompt; empty if one is not trained."""
        if self.lacks(method, reference):
            return pd.DataFrame()
        return self.values(backbone, method, metric) - self.values(backbone, reference, metric)

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

    def probes(self, backbone: str, column: str) -> tuple[Array, Array]:
        """A column of the BT probes at the first and the last evaluation, (seeds, pairs) each."""
        probes = read_probes(self.folder, backbone, self.settings["seeds"])
        steps, seeds = probes["step"], len(self.settings["seeds"])
        first, last = (
            probes.loc[steps == step, column].to_numpy(np.float64).reshape(seeds, -1)
            for step in (steps.min(), steps.max())
        )
        return first, last

    def hidden_norms(self, backbone: str, method: str) -> list[list[Array]]:
        """||h|| of every response, (responses,): a list a seed, of one array a scenario."""
        return [
            [
                read_frame(score_path(self.folder, backbone, method, seed, split), ["hidden_norm"])[
                    "hidden_norm"
                ].to_numpy(np.float64)
                for split in SCENARIOS
            ]
            for seed in self.settings["seeds"]
        ]

    def gold_halves(self, policy: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Gain in gold of a policy in the two halves of training, seeds x prompts each.

        The middle evaluation is the one nearest to half of the updates, the earlier of two.
        """
        evaluations = read_evaluations(self.folder, policy)
        table = evaluations.pivot(index="seed", columns=["update", "example_id"], values="gold")
        updates = sorted(evaluations["update"].unique())
        middle = min(updates, key=lambda update: abs(2 * update - updates[0] - updates[-1]))
        first, half, last = (table[update] for update in (updates[0], middle, updates[-1]))
        return half - first, last - half

    def rank_growth(self, method: str) -> Array:
        """Growth of the effective rank from training set to RM-Bench at the largest N, (seeds, 1).

        Empty, (0, 0), where table 1 does not have the method.
        """
        if method not in self.settings["ranks"]["objectives"]:
            return np.empty((0, 0))
        bench = self.settings["rm_bench"]
        ranks = read_ranks(self.folder, bench["backbone"], {method: bench["seeds"][method]})
        largest = ranks[ranks["n"] == ranks["n"].max()]
        return np.asarray(largest[["erank_delta"]], np.float64)

    def hard_accuracy(self, method: str) -> Array:
        """RM-Bench's hard accuracy in percent, (seeds, prompts), whose mean is table 2's number."""
        bench_settings = self.settings["rm_bench"]
        columns = ["prompt_id", "response_id", "domain", "style", "kind"]
        bench = read_frame(self.folder / location("benchmark", benchmark="rm_bench"), columns)
        folder = self.folder, bench_settings["backbone"], method
        paths = [score_path(*folder, seed, "rm_bench") for seed in bench_settings["seeds"][method]]
        frames = [bench_per_prompt(bench, read_scores(path, bench)) for path in paths]
        values = np.stack([metric_percent(frame, "hard") for frame in frames])
        return stratified_mean(values, domain_masks("hard", frames[0]["domain"]))

    @cached_property
    def answers(self) -> Mapping[tuple[str, str], Array]:
        """Table 3's values, (seeds, instructions), by method and metric."""
        return measured_values(self.folder, self.settings).values
