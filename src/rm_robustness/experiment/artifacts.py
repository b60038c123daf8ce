"""The config section `artifacts`: models and splits that are downloaded instead of made.

Anything not listed there with source `released` is trained or built by the workflow.
"""

from .config import Settings
from .grid import backbone_of


def files_needed(config: Settings, name: str) -> list[str]:
    """Logs of a training that figures read: of every policy, and of the reference in the grid."""
    kind, *parts = name.split("/")
    grid, reference = config["grid"], config["statistics"]["reference"]
    if kind == "policies":
        return ["samples.parquet"]
    if kind == "reward_models" and parts[0] in grid["backbones"] and parts[1] == reference:
        return ["probes.parquet"] if int(parts[2].removeprefix("seed-")) in grid["seeds"] else []
    return []


def adopting_rule(config: Settings, name: str) -> str:
    """Name of the rule that converts a downloaded model: one rule for each set of its logs."""
    files = files_needed(config, name)
    return "_".join(["released", *(file.partition(".")[0] for file in files)])


def origin(config: Settings, name: str) -> Settings:
    """Download settings of an artifact: repository, commit, known checksums, required files."""
    section = config["artifacts"][name]
    place = {key: section[key] for key in ("repo", "revision", "sha256")}
    kind = "dataset" if name.startswith("splits/") else "hub"
    return {"kind": kind, **place, "needs": files_needed(config, name)}


def adoption(config: Settings, name: str) -> Settings:
    """Conversion settings of a downloaded model; its chat format defaults to its backbone's."""
    section = config["artifacts"][name]
    chat = section.get("chat") or config["backbones"][backbone_of(config, name)]["chat"]
    return {"kind": name.split("/")[0], "chat": chat, "needs": files_needed(config, name)}
