"""The cheapest run of a preset that can decide some of the claims: an override, and its cost.

`claim_designs.CLAIMS` says what a claim needs. Seeds are the fewest that find an effect of the
paper's size; whatever the claims do not need is left out, or as small as the schema allows.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import yaml

from ..errors import InputError
from ..experiment.checks import SCHEMA, check
from ..experiment.config import Settings, nearest
from .claim_designs import (
    AVERAGED,
    CLAIMS,
    MOST_SEEDS,
    SEED_SD,
    finds,
    lacks,
    n_seeds,
    paper_effects,
)
from .model_cost import parameters, shape_of
from .plan import plan
from .resources import Cluster

SCENARIOS_OF = {*AVERAGED, "C3", "C7"}  # the claims about the four scenarios
JUDGED = {"C11", "C12"}


def claims_of(text: str) -> list[str]:
    """The claims of a list such as C4,C9; raises InputError for one that there is not."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in CLAIMS:
            fix = nearest(name, list(CLAIMS))
            raise InputError("--claims", f"'{name}'", "claims of C1 to C13, as C4,C9", fix)
    return names


def fewest_seeds(config: Settings, name: str, seed_sd: float | None) -> int | None:
    """The fewest seeds, 2 to 16, that find an effect of the paper's size; None where none do."""
    effects, factor = paper_effects(), (seed_sd or SEED_SD) / SEED_SD
    if name not in effects.size:
        return None
    counts = range(2, MOST_SEEDS + 1)
    return next((n for n in counts if finds(config, name, n, factor, effects)), None)


def fewest_of(
    config: Settings, names: Sequence[str], seed_sd: float | None = None
) -> dict[str, int | None]:
    """The `fewest_seeds` of each of these claims; None also where the preset has no section."""
    return {
        name: None if _impossible(config, name) else fewest_seeds(config, name, seed_sd)
        for name in names
    }


def override(config: Settings, fewest: Mapping[str, int | None]) -> Settings:
    """The override of a preset that makes what the claims of `fewest_of` need, and no more.

    A claim that no number of seeds decides, or that the paper has a figure for alone, has the
    preset's own seeds.
    """
    possible = [name for name in fewest if not _impossible(config, name)]
    seeds: dict[str, int] = {}
    for name in possible:
        section = CLAIMS[name].section
        count = fewest[name] or max(2, n_seeds(config, name))
        seeds[section] = max(count, seeds.get(section, 0))
    changes: Settings = {"preset": "-".join([config["preset"], *fewest])}
    changes["grid"] = _grid(config, possible, seeds.get("grid", 1))
    if not (SCENARIOS_OF | {"C8"} | JUDGED) & set(possible):
        # The probes have pairs of in-domain, some of which are ties; nothing else reads prompts.
        cap, pairs = config["splits"]["evaluation_prompts"], config["reward_models"]["probe_pairs"]
        changes["splits"] = {"evaluation_prompts": min(cap or 2 * pairs, 2 * pairs)}
    changes["rm_bench"] = changes["ranks"] = None
    if "rm_bench" in seeds:
        needed = _objectives(config["rm_bench"]["objectives"], possible, "rm_bench")
        listed = _seeds(config["rm_bench"]["seeds"], seeds["rm_bench"])
        changes["rm_bench"] = {"objectives": needed, "seeds": listed}
        if "C9" in possible:
            changes["ranks"] = {"objectives": list(CLAIMS["C9"].objectives)}
    changes["rloo"] = changes["alpaca_eval"] = None
    if {"C8", *JUDGED} & set(possible):
        changes |= _policies(config, possible, seeds)
    return changes


def _impossible(config: Settings, name: str) -> bool:
    """Whether a preset lacks the section that a claim needs, which an override cannot invent."""
    section = config[CLAIMS[name].section]
    return not section or (name == "C9" and not config["ranks"])


def _objectives(listed: list[str], names: Sequence[str], section: str) -> list[str]:
    """The objectives that claims need, in the order of the configuration, new ones last."""
    needed = dict.fromkeys(
        each
        for name in names
        if CLAIMS[name].section == section
        for each in CLAIMS[name].objectives
    )
    return [each for each in dict.fromkeys([*listed, *needed]) if each in needed]


def _seeds(listed: list[int], count: int) -> list[int]:
    """The first `count` seeds of a list, and the numbers after its largest."""
    more = range(max(listed) + 1, max(listed) + 1 + count)
    return [*listed, *more][:count]


def _grid(config: Settings, names: Sequence[str], count: int) -> Settings:
    """The section `grid`; without a claim about it one model, the smallest, as it must have one."""
    grid = config["grid"]
    seeds = _seeds(grid["seeds"], count)
    if any(CLAIMS[name].section == "grid" for name in names):
        return {"objectives": _objectives(grid["objectives"], names, "grid"), "seeds": seeds}
    smallest = min(grid["backbones"], key=lambda name: parameters(shape_of(config, name)))
    reference = config["statistics"]["reference"]
    return {"backbones": [smallest], "objectives": [reference], "seeds": seeds}


def _policies(config: Settings, names: Sequence[str], seeds: dict[str, int]) -> Settings:
    """The sections `rloo` and `alpaca_eval`.

    The schema wants both runs and the claims read the run `standard`. Where one run is needed,
    `standard` and `large` are both that one, and `large` is not trained for the claims.
    """
    judged, rloo = config["alpaca_eval"], config["rloo"]
    used = ["standard"] * ("C8" in names) + [judged["run"]] * bool(JUDGED & set(names))
    listed = _seeds(rloo["seeds"], max(seeds.get("rloo", 0), seeds.get("alpaca_eval", 0)))
    changes: Settings = {"rloo": {"seeds": listed}, "alpaca_eval": None}
    if len(set(used)) == 1:
        run = deepcopy(rloo["runs"][used[0]])
        changes["rloo"]["runs"] = {"standard": run, "large": deepcopy(run)}
    if JUDGED & set(names):
        run_name = judged["run"] if len(set(used)) == 2 else "standard"
        changes["alpaca_eval"] = {"run": run_name, "seeds": list(listed)}
    return changes


def gpu_hours(config: Settings, cluster: Cluster) -> float:
    """GPU hours of results/claims.csv: the plan's, less a run of RLOO that it never reads."""
    unread = "" if (config["alpaca_eval"] or {}).get("run") == "large" else "large-"
    phases = ("policies", "policy gold")
    return sum(
        row.gpu_hours
        for row in plan(config, cluster)
        if not (unread and row.phase in phases and row.name.startswith(unread))
    )


def as_yaml(
    config: Settings,
    files: Sequence[Path],
    names: Sequence[str],
    cluster: Cluster,
    seed_sd: float | None = None,
) -> str:
    """The override as a file, with its cost and the command in comments."""
    from snakemake.utils import update_config  # type: ignore[import-untyped]

    fewest, merged = fewest_of(config, names, seed_sd), deepcopy(config)
    changes = override(config, fewest)
    update_config(merged, changes)
    merged = check(merged, SCHEMA, "--claims")
    hours, whole = gpu_hours(merged, cluster), sum(r.gpu_hours for r in plan(config, cluster))
    listed = " ".join(map(str, files))
    lines = [
        f"The cheapest run of preset {config['preset']} for {', '.join(names)}: {hours:.0f} of the "
        f"preset's {whole:.0f} GPU-hours, an estimate.",
        *(f"{name}: {_reached(config, merged, name, fewest[name])}" for name in names),
        f"rm-robustness plan --configfile {listed} --claims {','.join(names)} > mine.yaml",
        f"snakemake --configfile {listed} mine.yaml -- results/claims.csv",
    ]
    text = yaml.safe_dump(changes, sort_keys=False, default_flow_style=None, width=100)
    return "".join(f"# {line}\n" for line in lines) + text


def _reached(config: Settings, merged: Settings, name: str, fewest: int | None) -> str:
    """What the sub-run can do about a claim."""
    if reason := lacks(config if _impossible(config, name) else merged, name):
        return f"cannot: {reason}"
    seeds, compared = n_seeds(merged, name), CLAIMS[name].compared
    if name not in paper_effects().size:
        return f"{compared}, {seeds} seeds; the paper has a figure alone, to which none are fitted"
    if fewest is None:
        return f"{compared}: {MOST_SEEDS} seeds do not find the paper's effect; {seeds} are listed"
    return f"{compared}, {seeds} seeds find the paper's effect with 80%"
