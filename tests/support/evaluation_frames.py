"""Results of `evaluate` as the card and the hub's metadata get them, made up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = [
    *("preset", "set", "title", "statistic", "metric", "kind", "name", "against"),
    *("transformation", "value", "ci_low", "ci_high", "p_value", "mdd80", "seed_std", "n_seeds"),
    *("n_prompts", "n_left_out", "n_undefined", "n_ties", "contains_model", "source"),
]
OTHERS = (
    "the answers of 4 other models (OpenHermes-2.5-Mistral-7B, Qwen-14B-Chat, gemma-2b-it, ...)"
)
REAL = {  # as `evaluation.sets.real_sets` names them
    "in_domain": ("GPT-4's preference: pairs of 17 models' answers to 601 instructions", 601),
    "prompt_disjoint": ("GPT-4's preference: 4 answers of 17 models to 195 instructions", 195),
    "response_disjoint": (f"GPT-4's preference: {OTHERS} to 601 instructions", 601),
    "mutual_disjoint": (f"GPT-4's preference: {OTHERS} to 195 instructions", 195),
}
BENCH = ("RM-Bench: subtle errors in three styles, 1,327 prompts", 1327)
BENCH_METRICS = {
    **{"chat": 66.0, "math": 58.0, "code": 53.0, "safety": 88.0},
    **{"hard": 45.0, "normal": 68.0, "easy": 83.0, "overall": 66.0, "style_gap": 38.0},
}
TRANSFORMATIONS = ("whitespace", "punctuation", "typos", "lower_case", "markdown", "no_op")


def evaluation(
    models: Sequence[str] = ("runs/demo/llama/bt", "org/Reward-8B"),
    *,
    sets: dict[str, tuple[str, int]] = REAL,
    bench: bool = True,
    published: bool = True,
    transformations: bool = True,
    references: Sequence[str] = (),
    preset: str = "",
) -> pd.DataFrame:
    """A frame with a number of everything, different for each model, and differences of models."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []

    def add(of: str, title: str, prompts: int, statistic: str, value: float, **more: Any) -> None:
        width = (4.0 if of == "rm_bench" else 0.06) if more["kind"] != "published" else np.nan
        rows.append(
            {
                "preset": preset,
                "set": of,
                "title": title,
                "statistic": statistic,
                "metric": statistic if of == "rm_bench" else f"{of}_{statistic}",
                "value": value,
                "ci_low": value - width,
                "ci_high": value + width,
                "n_seeds": 1,
                "n_prompts": prompts,
                "n_left_out": 0,
                "n_undefined": 0,
                "n_ties": 0,
                "against": "",
                "transformation": "",
                "source": "",
            }
            | more
        )

    everyone = [(name, "model") for name in models]
    everyone += [("length", "baseline"), *((name, "reference") for name in references)]
    shift = {name: 0.12 * rng.random() for name, _ in everyone}
    for name, (title, prompts) in sets.items():
        pairs = name == "in_domain"
        for who, kind in everyone:
            better = shift[who] - 0.1 * (kind == "baseline")
            own = {"accuracy": 0.62 + better}
            if not pairs:
                own["tau"] = 0.25 + better
            if kind == "model":
                own |= {"length_tau": 0.35 - better, "length_controlled_tau": 0.17 + better}
            for statistic, value in own.items():
                add(name, title, prompts, statistic, value, kind=kind, name=who)
    if bench:
        for who, kind in everyone:
            for metric, value in BENCH_METRICS.items():
                more = 100 * shift[who] * (1 if metric != "style_gap" else -2)
                add("rm_bench", *BENCH, metric, value + more, kind=kind, name=who)
        if published:
            for n in range(20):
                source = "paper, table 2" if n % 5 == 0 else "RM-Bench's leaderboard"
                other = {"kind": "published", "name": f"Published-{n}-8B", "source": source}
                for metric, value in BENCH_METRICS.items():
                    add("rm_bench", *BENCH, metric, value + rng.normal(4, 5), **other)
    for name, of_set in [*sets.items(), *([("rm_bench", BENCH)] if bench else [])]:
        unit = 100 if name == "rm_bench" else 1
        statistics = ["overall", "hard", "style_gap"] if name == "rm_bench" else ["accuracy", "tau"]
        for i, first in enumerate(models):
            for second in [*models[:i], *references]:
                for statistic in statistics[: 1 if name == "in_domain" else 3]:
                    gap = unit * (shift[first] - shift[second])
                    more = {"kind": "difference", "name": first, "against": second}
                    more |= {"p_value": 0.01 if abs(gap) > 0.05 * unit else 0.4}
                    add(name, *of_set, statistic, gap, mdd80=0.07 * unit, **more)
    if transformations:
        for name, of_set in list(sets.items())[:1]:
            for who in models:
                for n, change in enumerate(TRANSFORMATIONS):
                    for statistic, value in (
                        ("accuracy_drop", 0.02 * n + shift[who] / 3),
                        ("flips", 0.05 + 0.04 * n + shift[who]),
                        ("changed", 0.9),
                    ):
                        more = {"kind": "model", "name": who, "transformation": change}
                        add(name, *of_set, statistic, value, **more)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    counts = ["n_seeds", "n_prompts", "n_left_out", "n_undefined", "n_ties"]
    return frame.astype(dict.fromkeys(counts, "Int64"))
