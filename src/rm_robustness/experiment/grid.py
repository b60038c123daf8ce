"""Models of a preset: backbones, reward models and policies, trained or downloaded.

Models are named by their folder under runs/PRESET: `backbones/NAME`,
`reward_models/BACKBONE/OBJECTIVE/seed-N`, `policies/NAME/seed-N`.
"""

import re
from collections.abc import Container, Iterable, Sequence
from itertools import pairwise, product
from math import comb
from typing import NamedTuple

from ..errors import InputError
from .config import Settings, nearest
from .paths import location
from .scenarios import BENCHMARKS, GOLD_TRAIN, SPLITS

BT, BSR = "bt", "bt-bsr"  # the two objectives that the paper compares throughout
Model = tuple[str, str, int]  # backbone, objective (or the name of a third-party model), seed


def objective_parts(name: str) -> tuple[str, str]:
    """Split an objective's name into its objective and its variant; "" for none.

    Variants are of BSR: another weight, `bt-bsr@1e-2`, or another micro-batch, `bt-bsr@b4`.
    """
    objective, _, variant = name.partition("@")
    return objective, variant


def bsr_weight(name: str, default: float) -> float | None:
    """Read lambda from a name (`bt-bsr@1e-2`), the default without one, None if not BSR."""
    objective, weight = objective_parts(name)
    if objective != BSR:
        return None
    return float(weight) if weight and not bsr_batch(name) else float(default)


def bsr_batch(name: str) -> int | None:
    """Read the micro-batch from a name (`bt-bsr@b4`); None without one (D1, D2)."""
    batch = re.fullmatch(r"b([1-9]\d*)", objective_parts(name)[1])
    return int(batch[1]) if batch else None


def variants(config: Settings) -> dict[str, Settings]:
    """The trainings of `sensitivity.variants` that no objective's name says: their settings."""
    # A part of a configuration, as in dvc.lock, may lack the section.
    section = config.get("sensitivity") or {"variants": {}}
    return {name: changes for name, changes in section["variants"].items() if changes}


def objective_settings(config: Settings, name: str) -> Settings:
    """What an objective's or variant's name stands for: `objective`, its `options`, `micro_batch`.

    All that the name does not say is as in `reward_models`.
    """
    shared = config["reward_models"]
    objective, variant = objective_parts(name)
    changes = {"objective": objective, **variants(config).get(name, {})}
    if batch := bsr_batch(name):
        changes["micro_batch"] = batch
    elif variant:
        changes["weight"] = float(variant)
    objective, batch = changes.pop("objective"), changes.pop("micro_batch", shared["micro_batch"])
    options = shared["objectives"][objective] | changes
    return {"objective": objective, "options": options, "micro_batch": batch}


def check_backbone(config: Settings, name: str, where: str) -> None:
    """Raise InputError for a backbone that the preset does not define."""
    if name not in config["backbones"]:
        raise InputError(
            where,
            f"backbone '{name}'",
            f"one of preset '{config['preset']}'",
            nearest(name, list(config["backbones"])),
        )


def check_objective(config: Settings, name: str, where: str) -> None:
    """Raise InputError for an unknown objective; BSR may have a variant (`objective_parts`)."""
    objective, weight = objective_parts(name)
    known = list(config["reward_models"]["objectives"])
    if objective not in known:
        raise InputError(where, f"objective '{name}'", "a known one", nearest(objective, known))
    if "@" in name:
        positive = re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", weight) and float(weight) > 0
        batch = bsr_batch(name)
        if objective != BSR or not (positive or batch):
            expected = (
                "a positive weight after 'bt-bsr@', such as bt-bsr@1e-2, or a micro-batch, "
                "such as bt-bsr@b4"
            )
            raise InputError(where, f"objective '{name}'", expected)
        if batch:
            check_divisor(config["reward_models"], batch, where, f"objective '{name}'")


def check_divisor(reward_models: Settings, batch: int, where: str, found: str) -> None:
    """Raise InputError for a micro-batch that does not divide `reward_models.global_batch`."""
    if (total := reward_models["global_batch"]) % batch:
        expected = f"a divisor of reward_models.global_batch, which is {total}"
        raise InputError(where, found, expected)


def check_reward_model(config: Settings, name: str, where: str) -> None:
    """Raise InputError for a model `backbone/objective` that is neither trainable nor released."""
    backbone, _, objective = name.partition("/")
    check_backbone(config, backbone, where)
    if not any(artifact.startswith(f"reward_models/{name}/") for artifact in config["artifacts"]):
        check_objective(config, objective, where)


def released(config: Settings, kind: str = "") -> list[str]:
    """The artifacts that are downloaded, of one kind (`splits/`, `backbones/`, ...) or of all."""
    return [
        name
        for name, section in config["artifacts"].items()
        if section["source"] == "released" and name.startswith(kind)
    ]


def policies(config: Settings) -> dict[str, Settings]:
    """The policies that RLOO trains, by name: `standard-bt`, `standard-bt-bsr`, `large-bt`, ...

    Each has its backbone (`policy`), its reward model (`backbone/objective/seed-N`) for every one
    of its seeds, in turn where there are fewer (D17), and its learning rate.
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


def judged_policies(config: Settings) -> list[str]:
    """The policies of the RLOO run whose answers AlpacaEval judges; none without AlpacaEval."""
    judged = config["alpaca_eval"]
    return [f"{judged['run']}-{objective}" for objective in (BT, BSR)] if judged else []


def judge_kind(config: Settings) -> str:
    """The kind of AlpacaEval's judge: `gold`, `vllm` or `hosted`; "" without one."""
    judge = config["alpaca_eval"] and config["alpaca_eval"]["judge"]
    return str(judge["kind"]) if judge else ""


def backbone_of(config: Settings, name: str) -> str:
    """The backbone of a model that is named by its folder."""
    kind, first, *_ = name.split("/")
    return str(policies(config)[first]["policy"]) if kind == "policies" else first


def samples_gold(config: Settings) -> Settings | None:
    """The section `rloo.gold` (D51); None where the preset's `gold` labels policies' samples."""
    rloo: Settings = config.get("rloo") or {}  # older records and parts of a config lack it
    return rloo.get("gold")


def gold_name(gold: Settings) -> str:
    """The name of the reward models of `rloo.gold`: `backbone/objective`."""
    return f"{gold['backbone']}/{gold['objective']}"


def gold_models(config: Settings) -> list[Model]:
    """The reward models that label the samples of policies, and nothing else; none without."""
    gold = samples_gold(config)
    return [(gold["backbone"], gold["objective"], seed) for seed in gold["seeds"]] if gold else []


def _is_gold(config: Settings, backbone: str) -> bool:
    return any(backbone == model[0] for model in gold_models(config))


def split_names(config: Settings) -> list[str]:
    """The files of the rule `splits`."""
    return [*SPLITS, *([GOLD_TRAIN] if samples_gold(config) else [])]


def held_out_split(config: Settings, backbone: str) -> str:
    """The split whose pairs evaluate a backbone's reward models during training.

    A gold is trained on all prompts and response models of in-domain.
    """
    return "prompt_disjoint" if _is_gold(config, backbone) else "in_domain"


def training_pairs(config: Settings, backbone: str) -> str:
    """The pairs that a backbone's reward models are trained on, as a path under runs/PRESET."""
    if _is_gold(config, backbone):
        return location("split", split=GOLD_TRAIN)
    source = config["backbones"][backbone]["reward_models"]["preferences"]
    return location("preferences", source=source) if source else location("split", split="train")


def pairs_per_prompt(config: Settings) -> int:
    """The pairs of a prompt of the train split: one, or all of its responses, if none is equal."""
    every = config["reward_models"]["pairs"] == "all"
    return comb(config["splits"]["train_responses"], 2) if every else 1


def seed_batches(seeds: list[int], size: int) -> list[list[int]]:
    """Cut seeds into batches of `size`; a batch is trained in one process."""
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def benchmarks(config: Settings) -> list[str]:
    """The benchmarks of a preset."""
    return [name for name in BENCHMARKS if config.get(name)]


def reward_model_batches(config: Settings) -> list[list[int]]:
    """Batches of reward-model seeds: the grid's, then those that only benchmarks or RLOO use."""
    grid, rloo = config["grid"]["seeds"], config["rloo"]
    others = {seed for name in benchmarks(config) for seed in config[name]["seeds"]}
    for run in rloo["runs"].values() if rloo else []:
        others |= set(run["reward_model_seeds"])
    others |= {seed for _, _, seed in gold_models(config)}
    size = config["reward_models"]["seeds_per_job"]
    return seed_batches(grid, size) + seed_batches(sorted(others - set(grid)), size)


def neighbouring_sizes(
    families: Iterable[Sequence[str]], trained: Container[str]
) -> list[tuple[str, str]]:
    """Pairs of a trained backbone and the next larger one of its family (small ones first)."""
    there = ([name for name in family if name in trained] for family in families)
    return [pair for family in there for pair in pairwise(family)]


def policy_batches(config: Settings) -> list[list[int]]:
    """Batches of the policies' seeds; none without RLOO."""
    rloo = config["rloo"]
    return seed_batches(rloo["seeds"], rloo["seeds_per_job"]) if rloo else []


def generated_models(config: Settings) -> list[str]:
    """The response models whose responses are generated here."""
    generate = config["responses"]["generate"]
    return sorted(generate["models"]) if generate else []


def uses_external_server(config: Settings) -> bool:
    """Whether responses come from an already running server, so no model is downloaded."""
    generate = config["responses"]["generate"]
    options = generate["options"] if generate else {"kind": "transformers"}
    return options["kind"] == "vllm" and not options.get("serve", False)


def benchmark_seeds(config: Settings, benchmark: str, objective: str) -> list[int]:
    """The seeds of an objective's reward models on a benchmark: all of them if it is trained here.

    Of a third party's model there are those seeds that `artifacts` downloads.
    """
    section, fetched = config[benchmark], released(config)
    if objective_parts(objective)[0] in config["reward_models"]["objectives"]:
        return list(section["seeds"])
    model = section["backbone"], objective
    return [seed for seed in section["seeds"] if reward_model_folder((*model, seed)) in fetched]


def benchmark_models(
    config: Settings, benchmark: str, objectives: list[str] | None = None
) -> list[Model]:
    """The reward models that a benchmark scores, or those of other objectives in their place."""
    section = config[benchmark]
    return [
        (section["backbone"], name, seed)
        for name in (section["objectives"] if objectives is None else objectives)
        for seed in benchmark_seeds(config, benchmark, name)
    ]


def reward_models(config: Settings) -> list[Model]:
    """The reward models that the preset's tables, figures and policies use."""
    grid = config["grid"]
    models: list[Model] = list(product(grid["backbones"], grid["objectives"], grid["seeds"]))
    for name in benchmarks(config):
        models += benchmark_models(config, name)
    if config["ranks"]:
        models += benchmark_models(config, "rm_bench", config["ranks"]["objectives"])
    for name, policy in policies(config).items():
        for seed, model in policy["reward_models"].items():
            if f"policies/{name}/seed-{seed}" not in released(config):
                backbone, objective, own_seed = model.split("/")
                models.append((backbone, objective, int(own_seed.removeprefix("seed-"))))
    return list(dict.fromkeys([*models, *gold_models(config)]))


def sensitivity_models(config: Settings) -> list[Model]:
    """The reward models of the result `sensitivity`: the reference and the variants."""
    section = config["sensitivity"]
    if section is None:
        return []
    names = dict.fromkeys([config["statistics"]["reference"], *section["variants"]])
    return list(product([section["backbone"]], names, section["seeds"]))


class Measurement(NamedTuple):
    """What one job measures of a reward model: `scenarios`, benchmarks by name, `ranks`."""

    what: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def kind(self) -> str:
        """Its kind of job, for `cluster.resources`: what is measured, joined by +."""
        return "+".join(self.what)

    @property
    def rule(self) -> str:
        """The name of its rule."""
        return "_".join(["measure", *self.what, *map(str, self.seeds)])


def measured(config: Settings, model: Model) -> tuple[str, ...]:
    """What the preset measures of a reward model; nothing of one that only RLOO uses."""
    grid, ranks = config["grid"], config["ranks"]
    of_grid = product(grid["backbones"], grid["objectives"], grid["seeds"])
    # One job measures all of a model, so also what only the result on request needs.
    found = ["scenarios"] if model in [*of_grid, *sensitivity_models(config)] else []
    found += [name for name in benchmarks(config) if model in benchmark_models(config, name)]
    if ranks and model in benchmark_models(config, "rm_bench", ranks["objectives"]):
        found.append("ranks")
    return tuple(found)


def measurements(config: Settings) -> dict[Measurement, list[str]]:
    """The jobs that measure reward models: of each the models, as `backbone/objective`.

    A job takes those seeds of a batch of which the same is measured.
    """
    jobs: dict[Measurement, list[str]] = {}
    models = dict.fromkeys(model[:2] for model in reward_models(config))
    for batch, (backbone, objective) in product(reward_model_batches(config), models):
        seeds: dict[tuple[str, ...], list[int]] = {}
        for seed in batch:
            if what := measured(config, (backbone, objective, seed)):
                seeds.setdefault(what, []).append(seed)
        for what, some in seeds.items():
            jobs.setdefault(Measurement(what, tuple(some)), []).append(f"{backbone}/{objective}")
    return jobs


def reward_model_folder(model: Model) -> str:
    """Folder of a reward model under runs/PRESET."""
    return "reward_models/{}/{}/seed-{}".format(*model)


def backbones(config: Settings) -> list[str]:
    """The backbones that a training starts from, or that AlpacaEval evaluates as `sft`."""
    fetched, judged = released(config), config["alpaca_eval"]
    trained = [
        model[0] for model in reward_models(config) if reward_model_folder(model) not in fetched
    ]
    tuned = [
        policy["policy"]
        for name, policy in policies(config).items()
        if any(f"policies/{name}/seed-{seed}" not in fetched for seed in policy["reward_models"])
    ]
    tuned += [config["rloo"]["runs"][judged["run"]]["policy"]] if judged else []
    return list(dict.fromkeys([*trained, *tuned]))


def models(config: Settings) -> list[str]:
    """All models of the preset, trained or downloaded, by their folders."""
    named = [f"backbones/{name}" for name in backbones(config)]
    named += [reward_model_folder(model) for model in reward_models(config)]
    return named + [
        f"policies/{name}/seed-{seed}"
        for name, policy in policies(config).items()
        for seed in policy["reward_models"]
    ]


def trained(config: Settings, kind: str) -> list[str]:
    """The models of a kind (`backbones/`, `reward_models/`, `policies/`) that are trained here."""
    fetched = released(config)
    return [name for name in models(config) if name.startswith(kind) and name not in fetched]
