"""The configuration: the parts of a preset that each rule needs, and settings given to a verb."""

import difflib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError

Settings = dict[str, Any]


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant, or list them all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def known_backbone(config: Settings, name: str, where: str) -> None:
    """Refuse a backbone that the preset does not define."""
    if name not in config["backbones"]:
        raise InputError(
            where,
            f"backbone '{name}'",
            f"one of preset '{config['preset']}'",
            nearest(name, list(config["backbones"])),
        )


def objective_parts(name: str) -> tuple[str, str]:
    """Split an objective's name into its objective and its weight: `bt-bsr@1e-2`; "" for none."""
    objective, _, weight = name.partition("@")
    return objective, weight


def known_objective(config: Settings, name: str, where: str) -> None:
    """Refuse an objective that does not exist; a weight may follow: `bt-bsr@1e-2`."""
    objective, weight = objective_parts(name)
    known = list(config["reward_models"]["objectives"])
    if objective not in known:
        raise InputError(where, f"objective '{name}'", "a known one", nearest(objective, known))
    if "@" in name:
        positive = re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", weight) and float(weight) > 0
        if objective != "bt-bsr" or not positive:
            raise InputError(
                where,
                f"objective '{name}'",
                "a positive weight after 'bt-bsr@', such as bt-bsr@1e-2",
            )


def known_reward_model(config: Settings, name: str, where: str) -> None:
    """Refuse a reward model `backbone/objective` that cannot be trained or fetched here."""
    backbone, _, objective = name.partition("/")
    known_backbone(config, backbone, where)
    if not any(artifact.startswith(f"reward_models/{name}/") for artifact in config["artifacts"]):
        known_objective(config, objective, where)


def reward_model_settings(config: Settings, backbone: str, name: str) -> Settings:
    """Everything that one training of a reward model depends on, besides its data and its seed."""
    settings = {k: v for k, v in config["reward_models"].items() if k not in _GRID_ONLY}
    own = config["backbones"][backbone]["reward_models"]
    settings |= {k: v for k, v in own.items() if k != "preferences"}
    objective, weight = objective_parts(name)
    options = dict(config["reward_models"]["objectives"][objective])
    settings["objective"] = objective
    settings["options"] = options | {"weight": float(weight)} if weight else options
    return settings


def backbone_settings(config: Settings, backbone: str) -> Settings:
    """Everything that one backbone depends on, besides its data; `sft` is null without SFT."""
    section = config["backbones"][backbone]
    kept = {name: section[name] for name in ("init", "chat", "keep_layers")}
    return {**kept, "sft": config["sft"] if section["sft"] else None}


def policies(config: Settings) -> dict[str, Settings]:
    """The policies that RLOO makes, by name: `standard-bt`, `standard-bt-bsr`, `large-bt`, ...

    Each has its backbone (`policy`), its reward model (`backbone/objective`) for every one of its
    seeds, in turn where there are fewer (D17), and its learning rate.
    """
    if config["rloo"] is None:
        return {}
    return {
        f"{run}-{objective}": {
            "policy": section["policy"],
            "learning_rate": section["learning_rate"],
            "reward_models": {
                seed: f"{reward_model}/seed-{seeds[number % len(seeds)]}"
                for number, seed in enumerate(config["rloo"]["seeds"])
            },
        }
        for run, section in config["rloo"]["runs"].items()
        for seeds in [section["reward_model_seeds"]]
        for objective, reward_model in section["reward_models"].items()
    }


def policy_settings(config: Settings, policy: str) -> Settings:
    """Everything that one policy's training depends on, besides its models, prompts and seed."""
    shared = {k: v for k, v in config["rloo"].items() if k not in _RUNS_ONLY}
    return {**shared, "learning_rate": policies(config)[policy]["learning_rate"]}


def seed_batches(seeds: list[int], size: int) -> list[list[int]]:
    """Cut seeds into batches, as many together as share one process."""
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def reward_model_batches(config: Settings) -> list[list[int]]:
    """Seeds of reward models: the grid's, then those that only RM-Bench or RLOO asks for."""
    grid, bench, rloo = config["grid"]["seeds"], config["rm_bench"], config["rloo"]
    others = set(bench["seeds"] if bench else [])
    for run in rloo["runs"].values() if rloo else []:
        others |= set(run["reward_model_seeds"])
    size = config["reward_models"]["seeds_per_job"]
    return seed_batches(grid, size) + seed_batches(sorted(others - set(grid)), size)


def generating(config: Settings) -> list[str]:
    """The response models that answer the prompts anew."""
    generate = config["responses"]["generate"]
    return sorted(generate["models"]) if generate else []


def asks_elsewhere(config: Settings) -> bool:
    """Tell whether a server that runs already answers: it has its models, and may be anywhere."""
    generate = config["responses"]["generate"]
    options = generate["options"] if generate else {"kind": "transformers"}
    return options["kind"] == "vllm" and not options.get("serve", False)


_GRID_ONLY = ("objectives", "seeds_per_job")
_RUNS_ONLY = ("runs", "seeds")


def read_settings(text: str) -> Settings:
    """Read settings given as inline JSON or as the path of a YAML or JSON file."""
    if text.lstrip().startswith("{"):
        try:
            return Strict(json.loads(text, object_hook=Strict))
        except json.JSONDecodeError as error:
            raise InputError("--settings", f"broken JSON ({error})", "a JSON object") from error
    path = Path(text)
    if not path.is_file():
        raise InputError("--settings", f"'{text[:80]}'", "inline JSON or the path of a YAML file")
    found = read_mapping(path, "a YAML or JSON file")
    return Strict(json.loads(json.dumps(found, default=str), object_hook=Strict))


def read_mapping(path: Path, expected: str) -> Settings:
    """Read a YAML file of keys and values; InputError says what was `expected` where it is none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())[:160]
        raise InputError(path, f"broken YAML ({line})", expected) from error
    if not isinstance(found, dict):
        raise InputError(path, repr(found)[:80], "a file of keys and values")
    return found


class Strict(Settings):
    """A dict whose missing keys are an InputError, so that hand-written settings are judged."""

    def __missing__(self, key: str) -> Any:
        """Name the missing key."""
        raise InputError("--settings", f"no key '{key}'", "see config/README.md for what it means")
