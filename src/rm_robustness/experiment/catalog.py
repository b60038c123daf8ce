"""Registry of results: every table, figure and the claims (`RESULTS`), and others `ON_REQUEST`.

The rules, the command line, the report, `plan` and the tests read it. Because the rules must not
import pandas, `measure` and `render` are strings module:function that name functions of the
package `results`, imported when a result is computed.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from .config import Settings
from .grid import (
    BSR,
    BT,
    Model,
    benchmark_models,
    benchmark_seeds,
    judged_policies,
    objective_settings,
    pairs_per_prompt,
    samples_gold,
    sensitivity_models,
    training_pairs,
)
from .paths import location
from .scenarios import MUTUAL_DISJOINT, PROMPT_DISJOINT, SCENARIOS

PUBLISHED = "data/paper/published_values.csv"
# Code that every result depends on besides its inputs: an edit recomputes them, in seconds.
# Trainings do not depend on code.
CODE = (
    *("results", "evaluation", "experiment"),
    *("metrics.py", "objectives.py", "pivot.py", "ratios.py", "statistics.py"),
)


class Result(NamedTuple):
    """A table, a figure, or the claims."""

    title: str
    section: str  # of the report
    requires: str  # the config section that, when null, leaves it out; "" for none
    settings: Callable[[Settings], Settings]
    inputs: Callable[[Settings], list[str]]
    measure: str  # (run folder, settings) -> frame; of a figure -> (figure, frame)
    render: str = ""  # (frame, note) -> Markdown; a figure has none
    draw: str = ""  # (frame) -> the figure beside a table; most have none


def is_figure(name: str) -> bool:
    """Whether a result is a figure (png, pdf, csv) rather than a table (csv, md, html)."""
    return name.startswith("figure")


def results(config: Settings) -> list[str]:
    """Names of a preset's results, in the order of `RESULTS`."""
    return [
        name for name, result in RESULTS.items() if not result.requires or config[result.requires]
    ]


def tables_with_metrics(config: Settings) -> list[str]:
    """Names of the tables that `dvc metrics` includes."""
    return [name for name in ("table1", "table2", "table3", "table5") if name in results(config)]


def _at(config: Settings, kind: str, **wildcards: object) -> str:
    return f"runs/{config['preset']}/{location(kind, **wildcards)}"


def score_files(config: Settings, *objectives: str) -> list[str]:
    """Score files of the given objectives, over all backbones, seeds and scenarios of the grid."""
    grid = config["grid"]
    return [
        _at(config, "scores", backbone=b, objective=o, seed=s, split=split)
        for b, o, s, split in product(grid["backbones"], objectives, grid["seeds"], SCENARIOS)
    ]


def _probes(config: Settings) -> list[str]:
    """Logs of the evaluations on held-out pairs while the reference objective was trained."""
    grid, reference = config["grid"], config["statistics"]["reference"]
    return [
        _at(config, "probes", backbone=backbone, objective=reference, seed=seed)
        for backbone, seed in product(grid["backbones"], grid["seeds"])
    ]


def _splits(config: Settings) -> list[str]:
    return [_at(config, "split", split=name) for name in SCENARIOS]


def _measured(config: Settings, kind: str, models: list[Model], **wildcards: str) -> list[str]:
    """Scores of a benchmark, or effective ranks, of some reward models."""
    return [
        _at(config, kind, backbone=backbone, objective=objective, seed=seed, **wildcards)
        for backbone, objective, seed in models
    ]


def benchmark_scores(config: Settings, benchmark: str) -> list[str]:
    """The scores of every reward model on a benchmark."""
    models = benchmark_models(config, benchmark)
    return _measured(config, "benchmark_scores", models, benchmark=benchmark)


def ranks(config: Settings) -> list[str]:
    """The effective ranks of every reward model that they are measured of."""
    models = benchmark_models(config, "rm_bench", config["ranks"]["objectives"])
    return _measured(config, "ranks", models)


def _norms(config: Settings) -> list[str]:
    return score_files(config, config["statistics"]["reference"], BSR)


def _table1(config: Settings) -> list[str]:
    return [*ranks(config), PUBLISHED]


def _table2(config: Settings) -> list[str]:
    bench = _at(config, "benchmark", benchmark="rm_bench")
    return [*benchmark_scores(config, "rm_bench"), bench, PUBLISHED]


def answer_files(config: Settings) -> list[str]:
    """Answers to AlpacaEval's instructions of the SFT model and of the policies."""
    policies = product(judged_policies(config), config["alpaca_eval"]["seeds"])
    return [
        _at(config, "answers", policy="sft", seed=0),
        *(_at(config, "answers", policy=policy, seed=seed) for policy, seed in policies),
    ]


def _table3(config: Settings) -> list[str]:
    kinds = ("annotations", "gamed_baselines") if config["alpaca_eval"]["judge"] else ()
    return [*answer_files(config), *(_at(config, kind) for kind in kinds), PUBLISHED]


def _table5(config: Settings) -> list[str]:
    return [*score_files(config, *config["grid"]["objectives"]), *_splits(config), PUBLISHED]


# Where the paper's claim is about: unseen prompts, with seen and with unseen response models.
_UNSEEN_PROMPTS = (PROMPT_DISJOINT.name, MUTUAL_DISJOINT.name)


def _sensitivity(config: Settings) -> list[str]:
    return [
        _at(config, "scores", backbone=backbone, objective=name, seed=seed, split=split)
        for (backbone, name, seed), split in product(sensitivity_models(config), _UNSEEN_PROMPTS)
    ]


def _policy_curves(run: str) -> Callable[[Settings], list[str]]:
    def inputs(config: Settings) -> list[str]:
        return [_at(config, "policy_gold", policy=f"{run}-{method}") for method in (BT, BSR)]

    return inputs


def _claims(config: Settings) -> list[str]:
    """Inputs of the tables and of figures 1 to 3 and 5, which the claims measure again."""
    names = results(config)
    inputs = [
        *_probes(config),
        *score_files(config, *config["grid"]["objectives"]),
        PUBLISHED,
        *(_table1(config) if "table1" in names else []),
        *(_table2(config) if "table2" in names else []),
        *(_table3(config) if "table3" in names else []),
        *(_policy_curves("standard")(config) if "figure5" in names else []),
    ]
    return list(dict.fromkeys(inputs))


def _shown(*sections: str) -> Callable[[Settings], Settings]:
    """Settings of a result about reward models, plus the given sections of the config."""

    def settings(config: Settings) -> Settings:
        grid, rewards = config["grid"], config["reward_models"]
        models = {
            name: {"paper_model": config["backbones"][name]["paper_model"]}
            for name in grid["backbones"]
        }
        return {
            **grid,
            **config["statistics"],
            "preset": config["preset"],
            "note": config["note"],
            "backbones": models,
            "bsr": rewards["objectives"][BSR],
            "micro_batch": rewards["micro_batch"],
            "pairs_per_prompt": pairs_per_prompt(config),
            "paper_values": PUBLISHED,
            **{section: config[section] for section in sections},
            **({"rm_bench": _rm_bench(config)} if "rm_bench" in sections else {}),
        }

    return settings


def _rm_bench(config: Settings) -> Settings | None:
    """The section `rm_bench`, with the seeds of each objective that it or `ranks` measures."""
    section, ranked = config["rm_bench"], config["ranks"]
    if not section:
        return None
    names = dict.fromkeys([*section["objectives"], *(ranked["objectives"] if ranked else [])])
    return {**section, "seeds": {n: benchmark_seeds(config, "rm_bench", n) for n in names}}


def _ranked(config: Settings) -> Settings:
    """Settings of table 1, with the pairs that its models were trained on."""
    train_set = training_pairs(config, config["rm_bench"]["backbone"])
    return {**_shown("rm_bench", "ranks")(config), "train_set": train_set}


def _preset(config: Settings) -> Settings:
    return {"preset": config["preset"]}


def _curves(config: Settings) -> Settings:
    """The preset, and `rloo.gold` where it has one (D51)."""
    gold = samples_gold(config)
    return _preset(config) | ({"gold": gold} if gold else {})


def _variants(config: Settings) -> Settings:
    """Settings of the result `sensitivity`: each training of it, and where they are compared."""
    section, names = config["sensitivity"], [name for _, name, _ in sensitivity_models(config)]
    return {
        **config["statistics"],
        "preset": config["preset"],
        "note": config["note"],
        "backbone": section["backbone"],
        "seeds": section["seeds"],
        "scenarios": list(_UNSEEN_PROMPTS),
        # A list: the rules pass settings as JSON with sorted keys, and the order is the table's.
        "methods": [
            {"name": name} | objective_settings(config, name) for name in dict.fromkeys(names)
        ],
    }


def _rloo_options(config: Settings) -> Settings:
    """The section `rloo`."""
    return {"preset": config["preset"], "note": config["note"], "rloo": config["rloo"]}


RESULTS = {
    "table5": Result(
        "Table 5: the four metrics",
        "2 Four robustness scenarios",
        "",
        _shown(),
        _table5,
        "table5_scenarios:table5",
        "table5_scenarios:table5_markdown",
    ),
    "figure1": Result(
        "Figure 1: norm of the reward head",
        "1 Why reward models fail",
        "",
        _shown(),
        _probes,
        "figures_reward_models:figure1",
    ),
    "figure2": Result(
        "Figure 2: distance of hidden states",
        "1 Why reward models fail",
        "",
        _shown(),
        _probes,
        "figures_reward_models:figure2",
    ),
    "figure3": Result(
        "Figure 3: norms in four scenarios",
        "1 Why reward models fail",
        "",
        _shown(),
        _norms,
        "figures_reward_models:figure3",
    ),
    "figure4": Result(
        "Figure 4: differences from Bradley-Terry",
        "2 Four robustness scenarios",
        "",
        _shown(),
        lambda config: [_at(config, "result", name="table5")],
        "forest_plot:figure4",
    ),
    "table2": Result(
        "Table 2: RM-Bench",
        "4 RM-Bench",
        "rm_bench",
        _shown("rm_bench"),
        _table2,
        "table2_rm_bench:table2",
        "table2_rm_bench:table2_markdown",
    ),
    "table1": Result(
        "Table 1: effective rank",
        "4 RM-Bench",
        "ranks",
        _ranked,
        _table1,
        "table1_effective_rank:table1",
        "table1_effective_rank:table1_markdown",
    ),
    "figure5": Result(
        "Figure 5: proxy reward, KL and gold",
        "3 RLOO",
        "rloo",
        _curves,
        _policy_curves("standard"),
        "figures_rloo:figure5",
    ),
    "figure6": Result(
        "Figure 6: proxy reward, large reward models",
        "3 RLOO",
        "rloo",
        _curves,
        _policy_curves("large"),
        "figures_rloo:figure6",
    ),
    "table4": Result(
        "Table 4: configuration of RLOO",
        "3 RLOO",
        "rloo",
        _rloo_options,
        lambda config: [],
        "table4_rloo:table4",
        "table4_rloo:table4_markdown",
    ),
    "table3": Result(
        "Table 3: AlpacaEval 2.0",
        "5 AlpacaEval 2.0",
        "alpaca_eval",
        _shown("alpaca_eval"),
        _table3,
        "table3_alpaca_eval:table3",
        "table3_alpaca_eval:table3_markdown",
    ),
    "claims": Result(
        "Claims C1 to C13: verdicts",
        "0 Claims and cost",
        "",
        _shown("rm_bench", "ranks", "rloo", "alpaca_eval"),
        _claims,
        "claims:claims",
        "claims_page:claims_markdown",
    ),
}

# Made only where they are asked for by name, never by `all`.
ON_REQUEST = {
    "sensitivity": Result(
        "Sensitivity: choices that the paper leaves open",
        "6 On request",
        "sensitivity",
        _variants,
        _sensitivity,
        "sensitivity:sensitivity",
        "sensitivity:sensitivity_markdown",
        "sensitivity:draw_sensitivity",
    )
}

EVERY_RESULT = RESULTS | ON_REQUEST
