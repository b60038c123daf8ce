"""The section `artifacts`: what is fetched instead of made, by its folder under runs/PRESET.

`splits/train`, `backbones/NAME`, `reward_models/BACKBONE/OBJECTIVE/seed-N`, `policies/NAME/seed-N`.
What is not listed, or has another source than `released`, is made here.
"""

from .config import Settings, policies


def released(config: Settings, kind: str = "") -> list[str]:
    """The artifacts that are fetched, of one kind (`splits`, `backbones`, ...) or of all."""
    return [
        name
        for name, section in config["artifacts"].items()
        if section["source"] == "released" and name.startswith(kind)
    ]


def backbone_of(config: Settings, name: str) -> str:
    """The backbone that a model has or was made from."""
    kind, first, *_ = name.split("/")
    return str(policies(config)[first]["policy"]) if kind == "policies" else first


def looked_at(config: Settings, name: str) -> list[str]:
    """The files of a training that figures read: of bt in the grid, and of every policy."""
    kind, *parts = name.split("/")
    grid, reference = config["grid"], config["statistics"]["reference"]
    if kind == "policies":
        return ["looks.parquet"]
    if kind == "reward_models" and parts[0] in grid["backbones"] and parts[1] == reference:
        return ["probes.parquet"] if int(parts[2].removeprefix("seed-")) in grid["seeds"] else []
    return []


def rule(config: Settings, name: str) -> str:
    """The rule that adopts a model: there is one for each file that comes with it."""
    return "_".join(["released", *(file.partition(".")[0] for file in looked_at(config, name))])


def origin(config: Settings, name: str) -> Settings:
    """What the verb `pretrained` is told: the repository, its commit, known sums, what it needs."""
    section = config["artifacts"][name]
    asked = {key: section[key] for key in ("repo", "revision", "sha256")}
    kind = "dataset" if name.startswith("splits/") else "hub"
    return {"kind": kind, **asked, "needs": looked_at(config, name)}


def adoption(config: Settings, name: str) -> Settings:
    """What the verb `adopt` is told of a model; null as chat format is that of its backbone."""
    own = config["artifacts"][name].get("chat")
    chat = own or config["backbones"][backbone_of(config, name)]["chat"]
    return {"kind": name.split("/")[0], "chat": chat, "needs": looked_at(config, name)}
