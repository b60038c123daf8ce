"""Whether a configuration can be run: what the schema says, and keys that must fit each other."""

from itertools import chain
from pathlib import Path

import yaml

from ..errors import InputError
from .artifacts import released
from .config import (
    Settings,
    generating,
    known_backbone,
    known_objective,
    known_reward_model,
    nearest,
    objective_parts,
    policies,
    read_mapping,
    reward_model_batches,
)
from .jobs import folder, reward_models
from .schema_errors import explain

SCHEMA = Path("workflow/schemas/config.schema.yaml")


def check(config: Settings, schema_path: Path, where: str = "config") -> None:
    """Refuse a configuration that the schema does not allow, naming the key and the nearest name.

    Beyond the schema, keys must fit each other: names that refer to other keys exist, and what
    would fail only after hours of computing is refused here. Raises InputError for the first
    mistake.
    """
    import jsonschema

    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if errors:
        raise explain(errors, where)
    _check_sources(config, where)
    _check_responses(config["responses"], where)
    _check_training(config, where)
    _check_downloads(config, where)
    _check_sizes(config, where)
    _check_later(config, where)
    for backbone in config["grid"]["backbones"]:
        known_backbone(config, backbone, f"{where}: grid.backbones")
    for objective in config["grid"]["objectives"]:
        known_objective(config, objective, f"{where}: grid.objectives")
    _check_artifacts(config, f"{where}: artifacts")
    for backbone in chain.from_iterable(config["grid"]["families"]):
        known_backbone(config, backbone, f"{where}: grid.families")


def read_config(files: list[Path]) -> Settings:
    """Read config files, later ones on top of earlier ones, merged and checked as in a run."""
    from snakemake.utils import update_config  # type: ignore[import-untyped]

    config: Settings = {}
    for path in files:
        try:
            update_config(config, read_mapping(path, "a config file"))
        except OSError as error:
            raise InputError(path, "no readable file", "a config file") from error
    if not SCHEMA.is_file():
        raise InputError(SCHEMA, "no such file", "the repository's root as the working directory")
    check(config, SCHEMA, ", ".join(map(str, files)))
    return config


# What each part of a preset can read its data from.
_KINDS = {
    "responses": ("synthetic", "local", "hub"),
    "chats": ("synthetic", "hub"),
    "preferences": ("hub",),
    "rm_bench": ("synthetic", "local", "hub"),
    "alpaca_eval": ("synthetic", "hub"),
}


def _named_sources(config: Settings) -> list[tuple[str, str, str]]:
    """Every source that is named: the part that reads it, the key and the source."""
    sections = [part for part in ("responses", "rm_bench", "alpaca_eval") if config[part]]
    named = [(part, f"{part}.source", config[part]["source"]) for part in sections]
    for name, backbone in config["backbones"].items():
        pairs = backbone["reward_models"]["preferences"]
        named += [("chats", f"backbones.{name}.sft", backbone["sft"])]
        named += [("preferences", f"backbones.{name}.reward_models.preferences", pairs)]
    return [each for each in named if each[2] is not None]


def _check_sources(config: Settings, where: str) -> None:
    """Sources that are named must exist, and be of a kind that their reader can read."""
    for part, key, source in _named_sources(config):
        if source not in config["sources"]:
            raise InputError(
                f"{where}: {key}",
                f"'{source}'",
                "a key of sources",
                nearest(source, list(config["sources"])),
            )
        kind = config["sources"][source]["kind"]
        if kind not in _KINDS[part]:
            raise InputError(
                f"{where}: {key}",
                f"'{source}', of kind '{kind}'",
                f"a source of kind {' or '.join(_KINDS[part])}",
            )
    kind = config["sources"][config["responses"]["source"]]["kind"]
    judged = {"programmatic": "synthetic", "column": "local"}.get(config["gold"]["kind"], kind)
    if kind != judged:
        raise InputError(
            f"{where}: gold.kind",
            f"'{config['gold']['kind']}' for a source of kind '{kind}'",
            f"a source of kind '{judged}', or gold of kind 'model'",
        )


def _check_responses(responses: Settings, where: str) -> None:
    """Response models must be on one side each, and enough of them on both."""
    where = f"{where}: responses"
    overlap = set(responses["train_models"]) & set(responses["valid_models"])
    if overlap:
        raise InputError(
            where,
            f"{sorted(overlap)} in train_models and in valid_models",
            "no response model on both sides",
        )
    wanted = responses["responses_per_prompt"]
    for side in ("train_models", "valid_models"):
        if len(responses[side]) < wanted:
            raise InputError(
                f"{where}.{side}",
                f"{len(responses[side])} models",
                f"{wanted} or more (responses.responses_per_prompt)",
            )
    for model in responses["generate"]["models"] if responses["generate"] else []:
        if model not in responses["valid_models"]:
            raise InputError(
                f"{where}.generate.models",
                f"'{model}'",
                "a model of responses.valid_models",
                nearest(model, responses["valid_models"]),
            )


def _check_training(config: Settings, where: str) -> None:
    """Batches must divide, and every backbone must have weights or a way to get them."""
    for section in ("sft", "reward_models"):
        settings = config[section]
        if settings and settings["global_batch"] % settings["micro_batch"]:
            raise InputError(
                f"{where}: {section}.global_batch",
                f"{settings['global_batch']}",
                f"a multiple of {section}.micro_batch, which is {settings['micro_batch']}",
            )
    for name, backbone in config["backbones"].items():
        key, chat = f"{where}: backbones.{name}", backbone["chat"]
        if chat["pad"] == chat["eos"]:
            raise InputError(f"{key}.chat.pad", f"'{chat['pad']}', the EOS", "another token (D22)")
        if backbone["sft"] and not config["sft"]:
            raise InputError(
                f"{key}.sft", f"'{backbone['sft']}'", "null, as the section sft is null"
            )
        if backbone["init"]["kind"] == "config" and not backbone["sft"]:
            raise InputError(
                f"{key}.sft", "null", "a source, as a model of init.kind 'config' starts untrained"
            )


def _models_that_only_answer(config: Settings) -> list[str]:
    """Models that are downloaded to answer prompts or, as the gold, to label answers."""
    return generating(config) + (["gold"] if config["gold"]["kind"] == "model" else [])


def _check_downloads(config: Settings, where: str) -> None:
    """Models that are downloaded must have a name each, that of their folder."""
    names = [*config["backbones"], *_models_that_only_answer(config)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{where}: backbones, responses.generate.models",
                f"'{name}' for two models",
                "a name of its own for each",
                "'gold' is the gold's" if name == "gold" else "",
            )


def _check_sizes(config: Settings, where: str) -> None:
    """What is used and cannot be known before it is there must have a size, to be planned."""
    used = {
        "backbones": [n for n, b in config["backbones"].items() if b["init"]["kind"] != "config"],
        "models": _models_that_only_answer(config),
        "sources": list(dict.fromkeys(source for _, _, source in _named_sources(config))),
    }
    for part, names in used.items():
        for name in names:
            if name not in config["sizes"][part]:
                raise InputError(
                    f"{where}: sizes.{part}",
                    f"no '{name}'",
                    "an entry for all that is used",
                    "see config/README.md, Sizes",
                )
    for name in used["sources"]:
        known = config["sizes"]["sources"][name]["rows"] is not None
        if not known and config["sources"][name]["kind"] != "synthetic":
            raise InputError(
                f"{where}: sizes.sources.{name}.rows",
                "null",
                "a number: only a synthetic source says it itself",
            )


def _check_later(config: Settings, where: str) -> None:
    """RM-Bench, RLOO and AlpacaEval must name models that exist, and each other's parts."""
    bench, ranks, rloo, judged = (
        config[part] for part in ("rm_bench", "ranks", "rloo", "alpaca_eval")
    )
    if bench:
        for objective in [*bench["objectives"], *(ranks["objectives"] if ranks else [])]:
            model = f"{bench['backbone']}/{objective}"
            known_reward_model(config, model, f"{where}: rm_bench or ranks")
    if ranks and not bench:
        raise InputError(f"{where}: ranks", "a section", "null, as rm_bench is null")
    if rloo:
        _check_rloo(config, rloo, where)
    if judged:
        if not rloo:
            raise InputError(f"{where}: alpaca_eval", "a section", "null, as rloo is null")
        for seed in judged["seeds"]:
            if seed not in rloo["seeds"]:
                raise InputError(f"{where}: alpaca_eval.seeds", f"{seed}", "a seed of rloo.seeds")
        if judged["judge"] and judged["judge"]["serve"] and config["gold"]["kind"] == "model":
            raise InputError(
                f"{where}: alpaca_eval.judge.serve",
                "true with a gold of kind 'model'",
                "false",
                "the judge on this machine would load the gold anew for every pair",
            )


def _check_rloo(config: Settings, rloo: Settings, where: str) -> None:
    """Policies and reward models must exist, and the batches divide."""
    for run, section in rloo["runs"].items():
        known_backbone(config, section["policy"], f"{where}: rloo.runs.{run}.policy")
        for model in section["reward_models"].values():
            known_reward_model(config, model, f"{where}: rloo.runs.{run}.reward_models")
    completions = rloo["prompts_per_update"] * rloo["k"]
    if completions % rloo["mini_batches"]:
        raise InputError(
            f"{where}: rloo.mini_batches",
            f"{rloo['mini_batches']}",
            f"a divisor of prompts_per_update x k, which is {completions}",
        )
    if config["gold"]["kind"] == "column":
        raise InputError(
            f"{where}: rloo",
            "a gold of kind 'column'",
            "one that can judge new responses",
            "set rloo and alpaca_eval to null",
        )


def _check_artifacts(config: Settings, where: str) -> None:
    """What is fetched must be what something else would be, have a commit, and be whole."""
    for name, section in config["artifacts"].items():
        kind, first, *rest = name.split("/")
        if kind == "policies" and first not in policies(config):
            known = nearest(first, list(policies(config)))
            raise InputError(f"{where}.{name}", f"policy '{first}'", "one of rloo.runs", known)
        if kind in ("backbones", "reward_models"):
            known_backbone(config, first, f"{where}.{name}")
        # Another's model may have a name of its own, which is no objective's.
        if kind == "reward_models" and (section["source"] == "train" or rest[0].startswith("bt")):
            known_objective(config, rest[0], f"{where}.{name}")
    blank = [name for name in released(config) if config["artifacts"][name]["revision"] is None]
    if blank:
        raise InputError(
            where,
            f"no revision of {', '.join(blank)}",
            "the commit to fetch, 40 hex digits",
            "its page on the hub has it; or make it here (source: train, of splits: build)",
        )
    splits = released(config, "splits/")
    if len(splits) not in (0, 5):
        raise InputError(where, f"only {', '.join(splits)} as released", "all five splits, or none")
    _check_seeds(config, where)


def _check_seeds(config: Settings, where: str) -> None:
    """Another's model must be there for each seed; seeds of one job are all fetched or none is."""
    asked, fetched = reward_models(config), released(config)
    for model in asked:
        known = objective_parts(model[1])[0] in config["reward_models"]["objectives"]
        if not known and folder(model) not in fetched:
            raise InputError(where, f"no {folder(model)}", "one for each seed that is asked for")
    for backbone, objective in dict.fromkeys(model[:2] for model in asked):
        for batch in reward_model_batches(config):
            models = [(backbone, objective, seed) for seed in batch]
            here = [folder(model) for model in models if model in asked]
            if len({name in fetched for name in here}) > 1:
                raise InputError(
                    where,
                    f"only some of {', '.join(here)} as released",
                    "all of them, or none",
                    "one job trains them: with reward_models.seeds_per_job 1 each has its own",
                )
