"""The settings of every kind of job: the one map from a configuration to what a job depends on.

The rules give a job exactly these as `--settings`, so that an edit reruns what it touches and
nothing else; `verify`, `trace` and `release` compare them with those in its record. A function
takes the configuration and the wildcards of the job's record (`paths.RECORDS`), and raises KeyError
where a part of a configuration lacks a section that it needs.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from . import artifacts, catalog
from .config import Settings
from .grid import objective_parts, policies, released, uses_external_server
from .paths import kind_of, location


def run_folder(config: Settings) -> str:
    """The run folder of a configuration: runs/PRESET."""
    return f"runs/{config['preset']}"


def response_options(config: Settings) -> Settings:
    """What a source and the splits are told of `responses`: who answers, and how many times."""
    return {k: v for k, v in config["responses"].items() if k not in ("source", "generate")}


def responses(config: Settings) -> Settings:
    """The source of the responses, and which response models are wanted."""
    return {**config["sources"][config["responses"]["source"]], **response_options(config)}


def source(config: Settings, source: str) -> Settings:
    """A source of conversations or of preference pairs."""
    return dict(config["sources"][source])


def rm_bench(config: Settings) -> Settings:
    """The source of RM-Bench."""
    return dict(config["sources"][config["rm_bench"]["source"]])


def instructions(config: Settings) -> Settings:
    """The source of AlpacaEval's instructions."""
    return dict(config["sources"][config["alpaca_eval"]["source"]])


def pretrained(config: Settings, model: str) -> Settings:
    """Where a downloaded model comes from: an artifact, the gold, a response model, a backbone."""
    if model in config["artifacts"]:
        return artifacts.origin(config, model)
    generate = config["responses"]["generate"] or {"models": {}}
    section = {"gold": config["gold"], **generate["models"]}.get(model, {})
    if "repo" in section:
        return {"kind": "hub", "repo": section["repo"], "revision": section["revision"]}
    return dict(config["backbones"][model]["init"])


def generate(config: Settings, response_model: str) -> Settings:
    """How a response model answers: its sampling, and its folder or its name on a server."""
    model = f"{run_folder(config)}/{location('pretrained_model', model=response_model)}"
    if uses_external_server(config):
        model = pretrained(config, response_model)["repo"]
    return {**config["responses"]["generate"]["options"], "name": response_model, "model": model}


def gold(config: Settings, **_: str) -> Settings:
    """The gold; a model is in a folder here, wherever it came from."""
    if config["gold"]["kind"] != "model":
        return dict(config["gold"])
    options = {k: v for k, v in config["gold"].items() if k not in ("repo", "revision")}
    return options | {"model": f"{run_folder(config)}/{location('pretrained_model', model='gold')}"}


def splits(config: Settings) -> Settings:
    """How labelled responses are split; nothing where the splits are fetched."""
    if released(config, "splits/"):
        return {}
    return {**response_options(config), **config["splits"]}


def backbone(config: Settings, backbone: str) -> Settings:
    """Everything that one backbone depends on, besides its data; `sft` is null without SFT."""
    if f"backbones/{backbone}" in released(config):
        return artifacts.adoption(config, f"backbones/{backbone}")
    section = config["backbones"][backbone]
    options = {name: section[name] for name in ("init", "chat", "keep_layers")}
    return {**options, "sft": config["sft"] if section["sft"] else None}


def reward_model(config: Settings, backbone: str, objective: str, seed: str = "") -> Settings:
    """Everything that one training of a reward model depends on, besides its data and its seed."""
    folder = f"reward_models/{backbone}/{objective}/seed-{seed}"
    if folder in released(config):
        return artifacts.adoption(config, folder)
    shared = config["reward_models"]
    settings = {k: v for k, v in shared.items() if k not in ("objectives", "seeds_per_job")}
    overrides = config["backbones"][backbone]["reward_models"]
    settings |= {k: v for k, v in overrides.items() if k != "preferences"}
    name, weight = objective_parts(objective)
    options = dict(shared["objectives"][name])
    settings["objective"] = name
    settings["options"] = options | {"weight": float(weight)} if weight else options
    return settings


def policy(config: Settings, policy: str, seed: str = "") -> Settings:
    """Everything that one policy's training depends on, besides its models, prompts and seed."""
    folder = f"policies/{policy}/seed-{seed}"
    if folder in released(config):
        return artifacts.adoption(config, folder)
    shared = {k: v for k, v in config["rloo"].items() if k not in ("runs", "seeds")}
    return {**shared, "learning_rate": policies(config)[policy]["learning_rate"]}


def scores(config: Settings, **_: str) -> Settings:
    """How a reward model scores."""
    return dict(config["scoring"])


def ranks(config: Settings, **_: str) -> Settings:
    """How effective ranks are measured: rows, which are drawn by a seed, and scoring."""
    seed = config["statistics"]["seed"]
    return {**config["scoring"], "rows": config["ranks"]["rows"], "seed": seed}


def answers(config: Settings, **_: str) -> Settings:
    """How policies answer AlpacaEval's instructions."""
    return dict(config["alpaca_eval"]["generation"])


def judge(config: Settings) -> Settings:
    """The judge, and the gold that a judge on this machine judges by."""
    return {**config["alpaca_eval"]["judge"], "gold": config["gold"]}


def result(config: Settings, name: str) -> Settings:
    """What a table, a figure or the claims show."""
    return catalog.RESULTS[name].settings(config)


SETTINGS: dict[str, Callable[..., Settings]] = {
    "responses": responses,
    "chats": source,
    "preferences": source,
    "rm_bench": rm_bench,
    "instructions": instructions,
    "pretrained": pretrained,
    "generate": generate,
    "gold": gold,
    "splits": splits,
    "backbone": backbone,
    "reward_model": reward_model,
    "policy": policy,
    "policy_gold": gold,
    "scores": scores,
    "rm_bench_scores": scores,
    "ranks": ranks,
    "answers": answers,
    "judge": judge,
    "metrics": lambda config: {},
    "result": result,
}


def as_json(settings: Settings) -> str:
    """Settings as a rule passes them: equal settings are equal texts."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def configured(config: Settings, record: str) -> Settings:
    """What a configuration gives the job of a record runs/PRESET/...

    Raises KeyError where it lacks a section, and for a record of no kind.
    """
    _, preset, name = record.split("/", 2)
    job = kind_of(name)
    if job is None:
        raise KeyError(record)
    kind, wildcards = job
    return SETTINGS[kind]({"preset": preset, **_nested(config)}, **wildcards)


def differences(recorded: Settings, config: Settings, record: str) -> str | None:
    """Say which settings of a record are others in a configuration: "" for none.

    `config` may be a part of one, as dvc.lock has it. None where it lacks the record's sections.
    Keys of one side alone are passed over: a key that came later has no value in an older record.
    """
    try:
        return compared(recorded, configured(config, record))
    except (KeyError, TypeError):
        return None


def compared(recorded: Settings, others: Settings) -> str:
    """Say which settings have another value elsewhere, of those that both have; "" for none."""
    there = dict(_leaves(others))
    differing = [
        f"{key} {value} recorded, {there[key]} there"
        for key, value in _leaves(recorded)
        if key in there and value != there[key]
    ]
    return "; ".join(differing)


def _leaves(settings: Settings, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _nested(config: Settings) -> Settings:
    """Put keys that dvc.lock writes with dots (`statistics.seed`) into their sections."""
    nested = {key: value for key, value in config.items() if "." not in key}
    for key, value in config.items():
        section, _, name = key.partition(".")
        if name:
            nested[section] = {**nested.get(section, {}), name: value}
    return nested
