"""Settings of every kind of job: the part of the configuration that it depends on (`SETTINGS`).

The rules pass a job exactly these as `--settings`, so that an edit of the config reruns only the
jobs that depend on it; `verify`, `trace` and `release` compare them with the settings in its
record. Each function takes the configuration and the wildcards of the job's record
(`paths.RECORDS`); given only part of a configuration, it raises KeyError for a missing section.
"""

import json
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from typing import Any

from . import artifacts, catalog
from .config import Settings
from .grid import (
    gold_models,
    objective_settings,
    policies,
    released,
    reward_model_folder,
    samples_gold,
    uses_external_server,
)
from .paths import kind_of, location


def run_folder(config: Settings) -> str:
    """The run folder of a configuration: runs/PRESET."""
    return f"runs/{config['preset']}"


def response_options(config: Settings) -> Settings:
    """The part of `responses` that sources and splits use: response models and their number."""
    return {k: v for k, v in config["responses"].items() if k not in ("source", "generate")}


def responses(config: Settings) -> Settings:
    """The source of the responses, and the response models of the preset."""
    return {**config["sources"][config["responses"]["source"]], **response_options(config)}


def source(config: Settings, source: str) -> Settings:
    """A source of conversations or of preference pairs."""
    return dict(config["sources"][source])


def benchmark(config: Settings, benchmark: str) -> Settings:
    """The source of a benchmark, and which of its prompts are taken."""
    section = config[benchmark]
    chosen = {key: section[key] for key in ("parts", "prompts")}
    return {**config["sources"][section["source"]], **chosen}


def instructions(config: Settings) -> Settings:
    """The source of AlpacaEval's instructions."""
    return dict(config["sources"][config["alpaca_eval"]["source"]])


def pretrained(config: Settings, model: str) -> Settings:
    """Origin of a downloaded model: artifact, gold, judge, response model or backbone."""
    if model in config["artifacts"]:
        return artifacts.origin(config, model)
    key = pretrained_key(config, model)
    section: Settings = reduce(getitem, key, config)
    if key[0] == "backbones":
        return dict(section)
    return {"kind": "hub", "repo": section["repo"], "revision": section["revision"]}


def pretrained_key(config: Settings, model: str) -> tuple[str, ...]:
    """The config section with the repository of a downloaded model."""
    generate = config["responses"]["generate"]
    judge = (config["alpaca_eval"] or {}).get("judge") or {}
    if model in config["artifacts"]:
        return ("artifacts", model)
    if model == "gold" and "repo" in config["gold"]:
        return ("gold",)
    if model == "judge" and "repo" in judge:
        return ("alpaca_eval", "judge")
    if generate and model in generate["models"]:
        return ("responses", "generate", "models", model)
    return ("backbones", model, "init")


def generate(config: Settings, response_model: str) -> Settings:
    """Generation settings of a response model, with its folder, or its name on a server."""
    model = f"{run_folder(config)}/{location('pretrained_model', model=response_model)}"
    if uses_external_server(config):
        model = pretrained(config, response_model)["repo"]
    section = config["responses"]["generate"]
    identity = {"name": response_model, "model": model}
    return {**section["options"], **identity, "max_left_out": section["max_left_out"]}


def gold(config: Settings, **_: str) -> Settings:
    """The section `gold`; a gold reward model is given by its local folder, not its repository."""
    if config["gold"]["kind"] != "model":
        return dict(config["gold"])
    options = {k: v for k, v in config["gold"].items() if k not in ("repo", "revision")}
    return options | {"model": f"{run_folder(config)}/{location('pretrained_model', model='gold')}"}


def policy_gold(config: Settings, **_: str) -> Settings:
    """The reward models of `rloo.gold` by their folders (D51); without it as `gold`.

    No sample of a policy may be left out: the curves need every one.
    """
    if models := gold_models(config):
        folders = [f"{run_folder(config)}/{reward_model_folder(model)}" for model in models]
        rloo = config["rloo"]
        options = {"batch_tokens": rloo["batch_tokens"], "dtype": rloo["reward_dtype"]}
        return {"kind": "reward_models", "models": folders, **options}
    return {k: v for k, v in gold(config).items() if k != "max_left_out"}


def splits(config: Settings) -> Settings:
    """Settings of the splits; empty where they are downloaded."""
    if released(config, "splits/"):
        return {}
    gold = samples_gold(config)
    own = {"gold_responses": gold["responses"]} if gold else {}
    return {**response_options(config), **config["splits"], **own}


def backbone(config: Settings, backbone: str) -> Settings:
    """Settings of one backbone, without its data; `sft` is null without SFT."""
    if f"backbones/{backbone}" in released(config):
        return artifacts.adoption(config, f"backbones/{backbone}")
    section = config["backbones"][backbone]
    options = {name: section[name] for name in ("init", "chat", "keep_layers")}
    return {**options, "sft": config["sft"] if section["sft"] else None}


def reward_model(config: Settings, backbone: str, objective: str, seed: str = "") -> Settings:
    """Settings of one training of a reward model, without its data and its seed."""
    folder = f"reward_models/{backbone}/{objective}/seed-{seed}"
    if folder in released(config):
        return artifacts.adoption(config, folder)
    shared = config["reward_models"]
    settings = {k: v for k, v in shared.items() if k not in ("objectives", "seeds_per_job")}
    overrides = config["backbones"][backbone]["reward_models"]
    settings |= {k: v for k, v in overrides.items() if k != "preferences"}
    return settings | objective_settings(config, objective)


def policy(config: Settings, policy: str, seed: str = "") -> Settings:
    """Settings of one policy's training, without its models, prompts and seed."""
    folder = f"policies/{policy}/seed-{seed}"
    if folder in released(config):
        return artifacts.adoption(config, folder)
    shared = {
        k: v
        for k, v in config["rloo"].items()
        if k not in ("runs", "seeds", "seeds_per_job", "gold")
    }
    return {**shared, "learning_rate": policies(config)[policy]["learning_rate"]}


def scores(config: Settings, **_: str) -> Settings:
    """Settings of scoring with a reward model."""
    return dict(config["scoring"])


def ranks(config: Settings, **_: str) -> Settings:
    """Settings of effective ranks, beside those of scoring: rows, and the seed that draws them."""
    return {**config["scoring"], "ranks": {key: config["ranks"][key] for key in ("rows", "seed")}}


def answers(config: Settings, **_: str) -> Settings:
    """Generation settings of answers to AlpacaEval's instructions."""
    return dict(config["alpaca_eval"]["generation"])


def judge(config: Settings) -> Settings:
    """The judge; that of kind `gold` with the gold, that of kind `vllm` with its local folder."""
    section = dict(config["alpaca_eval"]["judge"])
    if section["kind"] == "gold":
        return section | {"model": "gold", "gold": config["gold"]}
    if section["kind"] == "vllm":
        folder = f"{run_folder(config)}/{location('pretrained_model', model='judge')}"
        return section | {"model": folder}
    return section


def result(config: Settings, name: str) -> Settings:
    """Settings of a table, a figure or the claims."""
    return catalog.EVERY_RESULT[name].settings(config)


def index(config: Settings) -> Settings:
    """Settings of the page of all results: which there are, and the preset's scope."""
    scope = ("grid", "splits", "rm_bench", "ranks", "rloo", "alpaca_eval")
    models = {
        name: {key: config["backbones"][name][key] for key in ("init", "paper_model")}
        for name in config["grid"]["backbones"]
    }
    shown = {
        "results": catalog.results(config),
        "backbones": models,
        "downloaded": released(config),
    }
    return {**shown, **{key: config[key] for key in ("preset", "note", *scope)}}


SETTINGS: dict[str, Callable[..., Settings]] = {
    "responses": responses,
    "chats": source,
    "preferences": source,
    "benchmark": benchmark,
    "instructions": instructions,
    "pretrained": pretrained,
    "generate": generate,
    "gold": gold,
    "splits": splits,
    "backbone": backbone,
    "reward_model": reward_model,
    "policy": policy,
    "policy_gold": policy_gold,
    "scores": scores,
    "ranks": ranks,
    "answers": answers,
    "judge": judge,
    "metrics": lambda config: {},
    "index": index,
    "result": result,
}


def as_json(settings: Settings) -> str:
    """Canonical JSON of settings, as the rules pass them: equal settings give equal strings."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def configured(config: Settings, record: str) -> Settings:
    """Settings that a configuration gives the job of a record runs/PRESET/...

    Raises KeyError for a missing section, and for a record that no pattern of `RECORDS` matches.
    """
    folder, _, rest = record.partition("/")
    preset, _, name = rest.partition("/")
    job = kind_of(name) if folder == "runs" else None
    if job is None:
        raise KeyError(record)
    kind, wildcards = job
    return SETTINGS[kind]({"preset": preset, **_nested(config)}, **wildcards)


def differences(recorded: Settings, config: Settings, record: str) -> str | None:
    """Describe the settings of a record that differ from a configuration; "" if none do.

    `config` may be incomplete, as in dvc.lock: None if it lacks the record's sections. Keys that
    only one side has are ignored, because a newer key has no value in an older record.
    """
    try:
        return compared(recorded, configured(config, record))
    except (KeyError, TypeError):
        return None


def compared(recorded: Settings, other: Settings) -> str:
    """Describe the settings that both sides have with different values; "" if there are none."""
    other_values = dict(_leaves(other))
    differing = [
        f"{key} {value} recorded, {other_values[key]} there"
        for key, value in _leaves(recorded)
        if key in other_values and value != other_values[key]
    ]
    return "; ".join(differing)


def _leaves(settings: Settings, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _nested(config: Settings) -> Settings:
    """Nest keys that dvc.lock writes with dots (`statistics.reference`) in their sections."""
    nested = {key: value for key, value in config.items() if "." not in key}
    for key, value in config.items():
        section, _, name = key.partition(".")
        if name:
            nested[section] = {**nested.get(section, {}), name: value}
    return nested
