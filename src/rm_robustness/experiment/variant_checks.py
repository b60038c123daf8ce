"""Validation of the section `sensitivity`: each variant is one training, of one name."""

from ..errors import InputError
from .config import Settings, nearest
from .grid import check_divisor, check_objective, objective_parts, objective_settings, reward_models


def check_sensitivity(config: Settings, where: str) -> None:
    """Raise InputError where a reference does not resolve, or two names have one training.

    Backbone and seeds must be the grid's, whose reference the variants are compared with.
    """
    section, grid = config["sensitivity"], config["grid"]
    if section is None:
        return
    backbone = section["backbone"]
    if backbone not in grid["backbones"]:
        fix = nearest(backbone, grid["backbones"])
        raise InputError(f"{where}.backbone", f"'{backbone}'", "a backbone of grid.backbones", fix)
    for seed in section["seeds"]:
        if seed not in grid["seeds"]:
            raise InputError(f"{where}.seeds", f"{seed}", "a seed of grid.seeds")
    for name, changes in section["variants"].items():
        if changes:
            _check_variant(config["reward_models"], name, changes, f"{where}.variants.{name}")
        else:
            check_objective(config, name, f"{where}.variants")
    names = [*_objectives(config), *section["variants"]]
    trainings = {name: objective_settings(config, name) for name in names}
    for name in section["variants"]:
        for other in names:
            if other != name and trainings[other] == trainings[name]:
                expected = f"a training of its own: `{other}` is the same one"
                raise InputError(f"{where}.variants", f"'{name}'", expected)


def _check_variant(shared: Settings, name: str, changes: Settings, where: str) -> None:
    """A variant has a name of its own, an objective of the preset, and options of that."""
    objectives = shared["objectives"]
    if "@" in name or name in objectives:
        expected = "{}, as an objective's name says it all, or another name"
        raise InputError(where, "settings", expected)
    if "objective" not in changes:
        raise InputError(where, "no key 'objective'", f"one of {', '.join(objectives)}")
    objective = changes["objective"]
    if objective not in objectives:
        expected, fix = "a key of reward_models.objectives", nearest(objective, list(objectives))
        raise InputError(f"{where}.objective", f"'{objective}'", expected, fix)
    for option in changes:
        if option not in ("objective", "micro_batch", *objectives[objective]):
            takes = ", ".join(objectives[objective]) or "no option"
            raise InputError(where, f"'{option}'", f"an option of '{objective}': {takes}")
    batch = changes.get("micro_batch", 1)
    check_divisor(shared, batch, f"{where}.micro_batch", f"{batch}")


def _objectives(config: Settings) -> list[str]:
    """The objectives that `all` trains, other than a third party's models."""
    known = config["reward_models"]["objectives"]
    names = [name for _, name, _ in reward_models(config)]
    return [name for name in dict.fromkeys(names) if objective_parts(name)[0] in known]
