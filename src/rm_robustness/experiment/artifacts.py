"""The section `artifacts`: models and splits that are fetched instead of made.

What is not listed, or has another source than `released`, is made by the run.
"""

from .config import Settings
from .grid import backbone_of


def files_needed(config: Settings, name: str) -> list[str]:
    """The files of a training that figures read: of bt in the grid, and of every policy."""
    kind, *parts = name.split("/")
    grid, reference = config["grid"], config["statistics"]["reference"]
    if kind == "policies":
        return ["samples.parquet"]
    if kind == "reward_models" and parts[0] in grid["backbones"] and parts[1] == reference:
        return ["probes.parquet"] if int(parts[2].removeprefix("seed-")) in grid["seeds"] else []
    return []


def adopting_rule(config: Settings, name: str) -> str:
    """The rule that converts a fetched model: there is one for each file that comes with it."""
    files = files_needed(config, name)
    return "_".join(["released", *(file.partition(".")[0] for file in files)])


def origin(config: Settings, name: str) -> Settings:
    """Where an artifact is downloaded from: repository, commit, known sums, files it needs."""
    section = config["artifacts"][name]
    place = {key: section[key] for key in ("repo", "revision", "sha256")}
    kind = "dataset" if name.startswith("splits/") else "hub"
    return {"kind": kind, **place, "needs": files_needed(config, name)}


def adoption(config: Settings, name: str) -> Settings:
    """How a fetched model is converted; null as chat format is that of its backbone."""
    section = config["artifacts"][name]
    chat = section.get("chat") or config["backbones"][backbone_of(config, name)]["chat"]
    return {"kind": name.split("/")[0], "chat": chat, "needs": files_needed(config, name)}
