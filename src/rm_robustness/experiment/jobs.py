"""Every job that Snakemake makes of a preset in an empty folder, read from the config alone.

The rules decide what is run; this counts it for `plan`, and tests/cluster/test_plan.py holds it
against `snakemake -n`.
"""

from itertools import product
from typing import NamedTuple

from .artifacts import backbone_of, released, rule
from .config import Settings, asks_elsewhere, generating, policies, reward_model_batches


class Job(NamedTuple):
    """One job: where it stands, its rule, and what `needs` is asked about it."""

    phase: str
    rule: str
    name: str
    kind: str = ""  # of `needs`; "" for what runs where Snakemake runs and computes little
    seeds: int = 1


Model = tuple[str, str, int]  # backbone, objective or another's name, seed


def jobs(config: Settings) -> list[Job]:
    """All jobs of the target `all`, in the order in which data flow."""
    return [
        *_data(config),
        *_labels(config),
        *_backbones(config),
        *_trained(config),
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
    for name, policy in policies(config).items():
        for seed, model in policy["reward_models"].items():
            if f"policies/{name}/seed-{seed}" not in released(config):
                backbone, objective, own = model.split("/")
                found.append((backbone, objective, int(own.removeprefix("seed-"))))
    return list(dict.fromkeys(found))


def folder(model: Model) -> str:
    """Where a reward model is, under runs/PRESET."""
    return "reward_models/{}/{}/seed-{}".format(*model)


def backbones(config: Settings) -> list[str]:
    """The backbones that a training starts from, or that AlpacaEval asks as `sft`."""
    fetched, judged = released(config), config["alpaca_eval"]
    trained = [model[0] for model in reward_models(config) if folder(model) not in fetched]
    tuned = [
        policy["policy"]
        for name, policy in policies(config).items()
        if any(f"policies/{name}/seed-{seed}" not in fetched for seed in policy["reward_models"])
    ]
    tuned += [config["rloo"]["runs"][judged["run"]]["policy"]] if judged else []
    return list(dict.fromkeys([*trained, *tuned]))


def _needed(config: Settings) -> list[str]:
    """The models that are there in the end, by their folders."""
    asked = [folder(model) for model in reward_models(config)]
    asked += [
        f"policies/{name}/seed-{seed}"
        for name, policy in policies(config).items()
        for seed in policy["reward_models"]
    ]
    return [*(f"backbones/{name}" for name in backbones(config)), *asked]


def _made(config: Settings, kind: str) -> list[str]:
    """The models of a kind that are trained here."""
    fetched = released(config)
    return [name for name in _needed(config) if name.startswith(kind) and name not in fetched]


def _fetched(config: Settings, kind: str) -> list[Job]:
    """Models of a kind that are fetched: each is brought into the form of ours."""
    return [
        Job("released", rule(config, name), name, "released")
        for name in _needed(config)
        if name.startswith(kind) and name in released(config)
    ]


def _data(config: Settings) -> list[Job]:
    """Sources and models, fetched where Snakemake runs."""
    sections, splits = config["backbones"], released(config, "splits/")
    started = [name.partition("/")[2] for name in _made(config, "backbones/")]
    trained = [backbone_of(config, name) for name in _made(config, "reward_models/")]
    chats = dict.fromkeys(sections[name]["sft"] for name in started)
    pairs = dict.fromkeys(sections[name]["reward_models"]["preferences"] for name in trained)
    models = [name for name in started if sections[name]["init"]["kind"] != "config"]
    models += [*splits, *(name for name in _needed(config) if name in released(config))]
    judges = config["gold"]["kind"] == "model" and (config["rloo"] or not splits)
    models += ["gold"] if judges else []
    models += generating(config) if not splits and not asks_elsewhere(config) else []
    found = [("responses", config["responses"]["source"])] if not splits else []
    found += [("chats", name) for name in chats if name]
    found += [("preferences", name) for name in pairs if name]
    found += [("rm_bench", config["rm_bench"]["source"])] if config["rm_bench"] else []
    found += [("instructions", config["alpaca_eval"]["source"])] if config["alpaca_eval"] else []
    found += [("pretrained", name) for name in models]
    return [Job("downloads", rule, name) for rule, name in found]


def _labels(config: Settings) -> list[Job]:
    """Responses, their gold and the splits."""
    found = [Job("splits", "splits", "", "")]
    if released(config, "splits/"):
        return found
    kind = "" if asks_elsewhere(config) else "generate"
    asked = [Job("responses", "generate", name, kind) for name in generating(config)]
    return [*asked, Job("gold", "gold", "", "gold"), *found]


def _backbones(config: Settings) -> list[Job]:
    """Backbones: initialised and tuned, or fetched."""
    names = [name.partition("/")[2] for name in _made(config, "backbones/")]
    made = [Job("backbones", "backbone", name, "backbone") for name in names]
    return [*made, *_fetched(config, "backbones/")]


def _trained(config: Settings) -> list[Job]:
    """A training for every backbone, objective and batch of seeds of which one is asked for."""
    batches, fetched = reward_model_batches(config), released(config)
    found: dict[tuple[str, str, int], Job] = {}
    for model in reward_models(config):
        if folder(model) not in fetched:
            backbone, objective, seed = model
            batch = next(batch for batch in batches if seed in batch)
            found[backbone, objective, batch[0]] = Job(
                "reward models", f"reward_models_{batch[0]}", backbone, "reward_model", len(batch)
            )
    return [*found.values(), *_fetched(config, "reward_models/")]


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
    names = [name.split("/")[1] for name in _made(config, "policies/")]
    found = [Job("policies", "rloo", name, "rloo") for name in names]
    found += _fetched(config, "policies/")
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
