"""Runs whose measurements are drawn, so that the truth of each claim is known."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from support.paths import PUBLISHED

from rm_robustness.ratios import relative_change
from rm_robustness.results.measurements import RunResults
from rm_robustness.results.tables import read_published

SEEDS, PROMPTS = 6, 80
SETTINGS = {
    "preset": "drawn",
    "backbones": {name: {"paper_model": None} for name in ("a-1", "a-3", "b-1", "b-3")},
    "objectives": ["bt", "bt-hinge", "bt-norm", "bt-dr", "bt-bsr"],
    "seeds": list(range(SEEDS)),
    "families": [["a-1", "a-3"], ["b-1", "b-3"]],
    "reference": "bt",
    "seed_variance": "own",
    "bsr": {"weight": 1e-3, "reduction": "release"},
    "micro_batch": 16,
    "pairs_per_prompt": 1,
    "paper_values": PUBLISHED,
    "rm_bench": {
        "backbone": "a-3",
        "objectives": ["bt", "bt-bsr@1e-4", "bt-bsr", "bt-bsr@1e-2"],
        "seeds": list(range(SEEDS)),
        "paper_model": None,
    },
    "ranks": {"objectives": ["bt", "bt-bsr"]},
    "rloo": {"runs": {"standard": {}}, "gold": None},
    "alpaca_eval": {"run": "large", "judge": {"kind": "gold"}, "paper_model": None},
}
WORLDS = {"holds": 1.0, "boundary": 0.0, "fails": -1.0}


class DrawnRun(RunResults):
    """Measurements around a truth: every claim holds clearly, is at its boundary, or fails."""

    def __init__(self, rng: np.random.Generator, world: str) -> None:
        super().__init__(Path("nowhere"), SETTINGS, read_published(PUBLISHED))
        object.__setattr__(self, "rng", rng)
        object.__setattr__(self, "effect", WORLDS[world])
        object.__setattr__(self, "prompts", rng.normal(0, 0.1, size=(1, PROMPTS)))

    def drawn(self, mean: float, seed_sd: float, noise_sd: float, prompts: int = PROMPTS):
        seeds = self.rng.normal(mean, seed_sd, size=(SEEDS, 1))
        return seeds + self.rng.normal(0, noise_sd, size=(SEEDS, prompts))

    def values(self, backbone, method, metric):
        mean = {"bt-bsr": 0.06, "bt-norm": -0.06, "bt-dr": -0.06}.get(method, 0.0) * self.effect
        if method == "bt-bsr" and backbone.endswith("3"):
            mean *= 2  # C13: the gap of the larger size is twice that of the smaller one
        loss = 0.1 + 0.1 * self.effect if metric == "mutual_disjoint_tau" else 0.0
        values = mean + 0.7 * (1 - loss) + self.prompts + self.drawn(0, 0.008, 0.06)
        return pd.DataFrame(values, columns=[f"p{i}" for i in range(PROMPTS)])

    def probes(self, backbone, column):
        if column == "weight_norm":  # near 1, at the bound, far from it
            ratio = {1: 1.0, 0: 1.1, -1: 1.3}[int(self.effect)]
            return np.ones((SEEDS, 1)), self.drawn(ratio, 0.01, 0.0, 1)
        first = self.rng.normal(5, 1, size=(SEEDS, 256))
        last = (first - 5) * (1 + 0.5 * self.effect) + 5 + self.drawn(self.effect, 0.1, 0.3, 256)
        if not self.effect:  # no growth in either: noise would be growth of the spread
            last = self.rng.normal(5, 1, size=(SEEDS, 256)) + self.drawn(0, 0.1, 0.0, 256)
        return first, last

    def hidden_norms(self, backbone, method):
        bsr = method == "bt-bsr"
        spread = 1 - 0.3 * self.effect * bsr
        # The range of BSR's means is at most its bound, half of it, or beyond it.
        offsets = {1: 0.01, 0: 0.05, -1: 0.12}[int(self.effect)] if bsr else 0.05
        means = 10 * (1 + offsets * np.array([-1, 1, -1, 1]))
        return [
            [self.rng.normal(mean + shift, spread, size=200) for mean in means]
            for shift in self.rng.normal(0, 0.05, size=SEEDS)
        ]

    def gold_halves(self, policy):
        # Gains of the two halves with BT and with BSR; a third of the first is C8's boundary.
        third = 0.4 / 3
        gains = {
            1: {"bt": (0.4, third - 0.2), "bsr": (0.4, 0.4)},
            0: {"bt": (0.4, third), "bsr": (0.0, third)},
            -1: {"bt": (0.4, 0.4), "bsr": (0.4, -0.4)},
        }
        early, late = gains[int(self.effect)][policy.rpartition("-")[2]]
        parts = (self.drawn(mean, 0.02, 0.2) for mean in (early, late))
        return tuple(pd.DataFrame(part) for part in parts)

    def rank_growth(self, method):
        mean = {"bt": 6.0 * self.effect, "bt-bsr": 0.0}[method]
        return self.drawn(mean, 1.0, 0.0, 1)

    def hard_accuracy(self, method):
        level = self.settings["rm_bench"]["objectives"].index(method)
        return 50 + 3 * level * self.effect + 100 * self.prompts + self.drawn(0, 0.5, 8)

    @cached_property
    def answers(self):
        sft = self.rng.uniform(80, 120, size=PROMPTS)
        bsr = {1: 0.55, 0: 0.7975, -1: 1.3}[int(self.effect)]
        bt = {1: 1.0, 0: 0.7975, -1: 0.9}[int(self.effect)]
        noise = {m: self.drawn(1, 0.01, 0.1) for m in ("rloo-bt", "rloo-bt-bsr")}
        lengths = {"rloo-bt": bt * sft * noise["rloo-bt"]}
        lengths["rloo-bt-bsr"] = bsr * sft * noise["rloo-bt-bsr"]
        change = relative_change(lengths["rloo-bt-bsr"], sft)
        wins = {m: 10 + self.drawn(0, 0.3, 8) for m in lengths}
        return {
            **{(m, "avg_length_chars"): values for m, values in lengths.items()},
            ("rloo-bt-bsr", "length_change_from_sft"): change,
            ("rloo-bt", "lc_win_rate"): wins["rloo-bt"],
            ("rloo-bt-bsr", "lc_win_rate"): wins["rloo-bt-bsr"] + 6 * self.effect,
        }
