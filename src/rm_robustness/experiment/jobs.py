"""Jobs of a preset: what `snakemake -n all` lists without any outputs, from the config alone.

The rules decide what runs; `plan` counts jobs from this list, and tests/cluster/test_plan.py
compares it with `snakemake -n`.
"""

from itertools import product
from typing import NamedTuple

from .artifacts import adopting_rule
from .catalog import results
from .config import Settings
from .grid import (
    backbone_of,
    benchmarks,
    generated_models,
    judge_kind,
    judged_policies,
    measurements,
    models,
    policies,
    policy_batches,
    released,
    reward_model_batches,
    reward_model_folder,
    reward_models,
    samples_gold,
    trained,
    uses_external_server,
)


class Job(NamedTuple):
    """A job: its phase, its rule, and its arguments of `cluster.resources.resources_of`."""

    phase: str
    rule: str
    name: str
    kind: str = ""  # of `resources_of`; "" for a local rule that computes little
    seeds: int = 1


def jobs(config: Settings) -> list[Job]:
    """All jobs of the target `all`, in topological order."""
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


def _fetched(config: Settings, kind: str) -> list[Job]:
    """Conversions of downloaded models of a kind to this repository's checkpoint layout."""
    return [
        Job("released", adopting_rule(config, name), name, "released")
        for name in models(config)
        if name.startswith(kind) and name in released(config)
    ]


def _data(config: Settings) -> list[Job]:
    """Downloads of sources and models: local rules."""
    sources = [("responses", config["responses"]["source"])]
    sources = [] if released(config, "splits/") else sources
    tuned = [backbone_of(config, name) for name in trained(config, "backbones/")]
    chats = [config["backbones"][name]["sft"] for name in tuned]
    # Effective ranks are measured on the pairs of downloaded models too.
    scored = [config["rm_bench"]["backbone"]] if config["ranks"] else []
    scored += [backbone_of(config, name) for name in trained(config, "reward_models/")]
    pairs = [config["backbones"][name]["reward_models"]["preferences"] for name in scored]
    for rule, names in (("chats", chats), ("preferences", pairs)):
        sources += [(rule, name) for name in dict.fromkeys(names) if name]
    sources += [(name, config[name]["source"]) for name in benchmarks(config)]
    judged = config["alpaca_eval"]
    sources += [("instructions", judged["source"])] if judged else []
    sources += [("pretrained", name) for name in _downloads(config)]
    return [Job("downloads", rule, name) for rule, name in sources]


def _downloads(config: Settings) -> list[str]:
    """Models and splits that are downloaded."""
    splits = released(config, "splits/")
    names = [name.partition("/")[2] for name in trained(config, "backbones/")]
    names = [name for name in names if config["backbones"][name]["init"]["kind"] != "config"]
    names += [*splits, *(name for name in models(config) if name in released(config))]
    samples = config["rloo"] and not samples_gold(config)
    if config["gold"]["kind"] == "model" and (samples or not splits):
        names.append("gold")
    if judge_kind(config) == "vllm":
        names.append("judge")
    return names + (
        generated_models(config) if not splits and not uses_external_server(config) else []
    )


def _labels(config: Settings) -> list[Job]:
    """Responses, their gold and the splits."""
    splits = Job("splits", "splits", "")
    if released(config, "splits/"):
        return [splits]
    kind = "" if uses_external_server(config) else "generate"
    generated = [Job("responses", "generate", name, kind) for name in generated_models(config)]
    return [*generated, Job("gold", "gold", "", "gold"), splits]


def _backbones(config: Settings) -> list[Job]:
    """Backbones: initialised and fine-tuned, or downloaded."""
    names = [name.partition("/")[2] for name in trained(config, "backbones/")]
    tuned = [Job("backbones", "backbone", name, "backbone") for name in names]
    return [*tuned, *_fetched(config, "backbones/")]


def _trained(config: Settings) -> list[Job]:
    """A training for every backbone, objective and batch of seeds with at least one in use."""
    batches, fetched = reward_model_batches(config), released(config)
    trainings: dict[tuple[str, str, int], Job] = {}
    for model in reward_models(config):
        if reward_model_folder(model) not in fetched:
            backbone, objective, seed = model
            batch = next(batch for batch in batches if seed in batch)
            trainings[backbone, objective, batch[0]] = Job(
                "reward models", f"reward_models_{batch[0]}", backbone, "reward_model", len(batch)
            )
    return [*trainings.values(), *_fetched(config, "reward_models/")]


def _scored(config: Settings) -> list[Job]:
    """Scores of the grid and of benchmarks, and effective ranks: a job measures all of a model."""
    scored = []
    for each, names in measurements(config).items():
        phase = " + ".join(each.what).replace("_", " ")
        backbones = [name.partition("/")[0] for name in names]
        scored += [Job(phase, each.rule, name, each.kind, len(each.seeds)) for name in backbones]
    return scored


def _policies(config: Settings) -> list[Job]:
    """RLOO, and gold rewards of the samples of its evaluations."""
    trainings = []
    for name, batch in product(policies(config), policy_batches(config)):
        if f"policies/{name}/seed-{batch[0]}" not in released(config):
            trainings.append(Job("policies", f"rloo_{batch[0]}", name, "rloo", len(batch)))
    return [
        *trainings,
        *_fetched(config, "policies/"),
        *(
            Job("policy gold", "policy_gold", name, "policy_gold", len(config["rloo"]["seeds"]))
            for name in policies(config)
        ),
    ]


def _judged(config: Settings) -> list[Job]:
    """Answers to AlpacaEval, and the judge."""
    section = config["alpaca_eval"]
    if not section:
        return []
    names = [name for name in judged_policies(config) for _ in section["seeds"]]
    jobs = [Job("answers", "answers", name, "answers") for name in [*names, "sft"]]
    if section["judge"]:
        jobs.append(Job("judge", "judge", "", "" if judge_kind(config) == "hosted" else "judge"))
    return jobs


def _results(config: Settings) -> list[Job]:
    """Tables, figures and claims."""
    return [Job("results", rule, "") for rule in (*results(config), "metrics", "index")]
