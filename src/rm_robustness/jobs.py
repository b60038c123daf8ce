"""Every job that Snakemake makes of a preset in an empty folder, read from the config alone.

The rules decide what is run; this counts it for `plan`, and tests/test_plan.py holds it against
`snakemake -n`.
"""

from itertools import product
from typing import NamedTuple

from .config import (
    Settings,
    asks_elsewhere,
    generating,
    policies,
    reward_model_batches,
)


class Job(NamedTuple):
    """One job: where it stands, its rule, and what `needs` is asked about it."""

    phase: str
    rule: str
    name: str
    kind: str = ""  # of `needs`; "" for what runs where Snakemake runs and computes little
    seeds: int = 1


Model = tuple[str, str, int]  # backbone, objective or released name, seed


def jobs(config: Settings) -> list[Job]:
    """All jobs of the target `all`, in the order in which data flow."""
    asked = reward_models(config)
    return [
        *_data(config, asked),
        *_labels(config),
        *(Job("backbones", "backbone", name, "backbone") for name in backbones(config)),
        *_trained(config, asked),
        *_scored(config),
        *_policies(config),
        *_judged(config),
        *_results(config),
    ]


def reward_models(config: Settings) -> list[Model]:
    """The reward models that anything asks for."""
    grid, bench, ranks = config["grid"], config["rm_bench"], config["ranks"]
    found = [
        (b, o, s) for b in grid["backbones"] for o in grid["objectives"] for s in grid["seeds"]
    ]
    if bench:
        names = [*bench["objectives"], *(ranks["objectives"] if ranks else [])]
        found += product([bench["backbone"]], names, bench["seeds"])
    for policy in policies(config).values():
        for model in policy["reward_models"].values():
            backbone, objective, seed = model.split("/")
            found.append((backbone, objective, int(seed.removeprefix("seed-"))))
    return list(dict.fromkeys(found))


def backbones(config: Settings) -> list[str]:
    """The backbones that a training starts from."""
    asked = reward_models(config)
    trained = [backbone for backbone, objective, _ in asked if objective not in config["released"]]
    tuned = [policy["policy"] for policy in policies(config).values()]
    return list(dict.fromkeys([*trained, *tuned]))


def _data(config: Settings, asked: list[Model]) -> list[Job]:
    """Sources and models, fetched where Snakemake runs."""
    sections, started = config["backbones"], backbones(config)
    chats = dict.fromkeys(sections[name]["sft"] for name in started)
    trained = [backbone for backbone, objective, _ in asked if objective not in config["released"]]
    pairs = dict.fromkeys(sections[name]["reward_models"]["preferences"] for name in trained)
    models = [name for name in started if sections[name]["init"]["kind"] != "config"]
    models += dict.fromkeys(name for _, name, _ in asked if name in config["released"])
    models += ["gold"] if config["gold"]["kind"] == "model" else []
    models += generating(config) if not asks_elsewhere(config) else []
    found = [("responses", config["responses"]["source"])]
    found += [("chats", name) for name in chats if name]
    found += [("preferences", name) for name in pairs if name]
    found += [("rm_bench", config["rm_bench"]["source"])] if config["rm_bench"] else []
    found += [("instructions", config["alpaca_eval"]["source"])] if config["alpaca_eval"] else []
    found += [("pretrained", name) for name in models]
    return [Job("downloads", rule, name) for rule, name in found]


def _labels(config: Settings) -> list[Job]:
    """Responses, their gold and the splits."""
    kind = "" if asks_elsewhere(config) else "generate"
    return [
        *(Job("responses", "generate", name, kind) for name in generating(config)),
        Job("gold", "gold", "", "gold"),
        Job("splits", "splits", "", ""),
    ]


def _trained(config: Settings, asked: list[Model]) -> list[Job]:
    """A training for every backbone, objective and batch of seeds of which one is asked for."""
    batches = reward_model_batches(config)
    found: dict[tuple[str, str, int], Job] = {}
    for backbone, objective, seed in asked:
        if objective in config["released"]:
            found[backbone, objective, seed] = Job("released", objective, backbone, "released")
            continue
        batch = next(batch for batch in batches if seed in batch)
        found[backbone, objective, batch[0]] = Job(
            "reward models", f"reward_models_{batch[0]}", backbone, "reward_model", len(batch)
        )
    return sorted(found.values(), key=lambda job: job.phase != "reward models")


def _scored(config: Settings) -> list[Job]:
    """Scores of the grid, of RM-Bench, and effective ranks."""
    grid, bench, ranks = config["grid"], config["rm_bench"], config["ranks"]
    found = [
        Job("scores", "score", backbone, "scores")
        for backbone in grid["backbones"]
        for _ in product(grid["objectives"], grid["seeds"])
    ]
    for kind, objectives in (
        ("rm_bench_scores", bench["objectives"] if bench else []),
        ("ranks", ranks["objectives"] if ranks else []),
    ):
        found += [
            Job(kind.replace("_", " "), kind, bench["backbone"], kind)
            for _ in product(objectives, bench["seeds"] if bench else [])
        ]
    return found


def _policies(config: Settings) -> list[Job]:
    """RLOO and the gold of its looks."""
    rloo = config["rloo"]
    found = [
        Job("policies", "rloo", name, "rloo")
        for name, policy in policies(config).items()
        for _ in policy["reward_models"]
    ]
    return found + [
        Job("looks", "looks", name, "looks", len(rloo["seeds"])) for name in policies(config)
    ]


def _judged(config: Settings) -> list[Job]:
    """Answers to AlpacaEval, and the judge."""
    judged = config["alpaca_eval"]
    if not judged:
        return []
    names = [f"{judged['run']}-{objective}" for objective in ("bt", "bt-bsr")]
    names = [name for name in names for _ in judged["seeds"]]
    found = [Job("answers", "answers", name, "answers") for name in [*names, "sft"]]
    if judged["judge"]:
        found.append(Job("judge", "judge", "", "judge" if judged["judge"]["serve"] else ""))
    return found


def _results(config: Settings) -> list[Job]:
    """Tables, figures and claims, and their copies in results/."""
    texts, drawn = ["table5", "claims"], [f"figure{number}" for number in range(1, 5)]
    texts += ["table2"] if config["rm_bench"] else []
    texts += ["table1"] if config["ranks"] else []
    texts += ["table4"] if config["rloo"] else []
    texts += ["table3"] if config["alpaca_eval"] else []
    drawn += ["figure5", "figure6"] if config["rloo"] else []
    rules = [
        *texts,
        *drawn,
        "metrics",
        *["publish_table"] * len(texts),
        *["publish_figure"] * len(drawn),
    ]
    return [Job("results", rule, "") for rule in rules]
