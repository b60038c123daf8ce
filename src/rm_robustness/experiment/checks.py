"""Validation of a configuration: the JSON schema, then consistency between keys."""

from itertools import chain
from pathlib import Path

import yaml

from ..errors import InputError
from .config import Settings, merged, nearest
from .grid import (
    benchmark_seeds,
    benchmarks,
    check_backbone,
    check_objective,
    check_reward_model,
    generated_models,
    gold_name,
    judge_kind,
    objective_parts,
    policies,
    policy_batches,
    released,
    reward_model_batches,
    reward_model_folder,
    reward_models,
)
from .hosted_judge import check_judge
from .package_files import package_file
from .scenarios import BENCHMARKS
from .schema_errors import explain
from .schema_types import as_schema_types
from .variant_checks import check_sensitivity

SCHEMA = package_file("workflow/schemas/config.schema.yaml")


def read_config(files: list[Path]) -> Settings:
    """Read, merge and check config files as a run does; later files override earlier ones."""
    return check(merged(files), SCHEMA, ", ".join(map(str, files)))


def check(config: Settings, schema_path: Path, where: str = "config") -> Settings:
    """Validate a configuration and return it with the schema's types.

    Raises InputError for the first error, with the nearest valid name.
    Beyond the schema, references between keys must resolve, and whatever would fail only after
    hours of training is rejected here.
    """
    import jsonschema

    schema = yaml.safe_load(schema_path.read_text(encoding="utf-8"))
    config = as_schema_types(config, schema)
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(config))
    if errors:
        raise explain(errors, where)
    _check_sources(config, where)
    _check_responses(config["responses"], where)
    _check_training(config, where)
    _check_downloads(config, where)
    _check_sizes(config, where)
    _check_evaluation(config, where)
    for backbone in config["grid"]["backbones"]:
        check_backbone(config, backbone, f"{where}: grid.backbones")
    for objective in config["grid"]["objectives"]:
        check_objective(config, objective, f"{where}: grid.objectives")
    _check_artifacts(config, f"{where}: artifacts")
    for backbone in chain.from_iterable(config["grid"]["families"]):
        check_backbone(config, backbone, f"{where}: grid.families")
    check_sensitivity(config, f"{where}: sensitivity")
    return config


# The kinds of source that each part of a preset can read.
_KINDS = {
    "responses": ("synthetic", "local", "hub"),
    "chats": ("synthetic", "hub"),
    "preferences": ("hub",),
    "alpaca_eval": ("synthetic", "hub"),
    **{name: benchmark.source_kinds for name, benchmark in BENCHMARKS.items()},
}


def _named_sources(config: Settings) -> list[tuple[str, str, str]]:
    """References to sources, as (part that reads it, config key, source)."""
    sections = ["responses", *benchmarks(config)]
    sections += ["alpaca_eval"] if config["alpaca_eval"] else []
    named = [(part, f"{part}.source", config[part]["source"]) for part in sections]
    for name, backbone in config["backbones"].items():
        pairs = backbone["reward_models"]["preferences"]
        named += [("chats", f"backbones.{name}.sft", backbone["sft"])]
        named += [("preferences", f"backbones.{name}.reward_models.preferences", pairs)]
    return [reference for reference in named if reference[2] is not None]


def _check_sources(config: Settings, where: str) -> None:
    """Referenced sources must exist and be of a kind that their reader supports."""
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
    """Train and valid response models must be disjoint, and enough of them on both sides."""
    where = f"{where}: responses"
    overlap = set(responses["train_models"]) & set(responses["valid_models"])
    if overlap:
        raise InputError(
            where,
            f"{sorted(overlap)} in train_models and in valid_models",
            "no response model on both sides",
        )
    n_responses = responses["responses_per_prompt"]
    for side in ("train_models", "valid_models"):
        if len(responses[side]) < n_responses:
            raise InputError(
                f"{where}.{side}",
                f"{len(responses[side])} models",
                f"{n_responses} or more (responses.responses_per_prompt)",
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
    """Micro-batches must divide batches, and every backbone must be pretrained or get SFT."""
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


def _inference_models(config: Settings) -> list[str]:
    """Models downloaded for inference alone: response models, gold reward model and judge."""
    names = generated_models(config) + (["gold"] if config["gold"]["kind"] == "model" else [])
    return names + (["judge"] if judge_kind(config) == "vllm" else [])


def _check_downloads(config: Settings, where: str) -> None:
    """Downloaded models must have distinct names, which name their folders."""
    names = [*config["backbones"], *_inference_models(config)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{where}: backbones, responses.generate.models",
                f"'{name}' for two models",
                "distinct names",
                f"'{name}' is reserved" if name in ("gold", "judge") else "",
            )


def _check_sizes(config: Settings, where: str) -> None:
    """Every download in use needs an entry in `sizes`, for `plan` and Slurm requests."""
    used = {
        "backbones": [n for n, b in config["backbones"].items() if b["init"]["kind"] != "config"],
        "models": _inference_models(config),
        "sources": list(dict.fromkeys(source for _, _, source in _named_sources(config))),
    }
    for part, names in used.items():
        for name in names:
            if name not in config["sizes"][part]:
                raise InputError(
                    f"{where}: sizes.{part}",
                    f"no '{name}'",
                    "an entry for everything in use",
                    "see config/README.md, Sizes",
                )
    for name in used["sources"]:
        has_rows = config["sizes"]["sources"][name]["rows"] is not None
        if not has_rows and config["sources"][name]["kind"] != "synthetic":
            raise InputError(
                f"{where}: sizes.sources.{name}.rows",
                "null",
                "a number (only a synthetic source sets it itself)",
            )


def _check_evaluation(config: Settings, where: str) -> None:
    """References of RM-Bench, ranks, RLOO and AlpacaEval to models, runs and seeds must resolve."""
    ranks, rloo, judged = (config[part] for part in ("ranks", "rloo", "alpaca_eval"))
    if ranks and not config["rm_bench"]:
        raise InputError(f"{where}: ranks", "a section", "null, as rm_bench is null")
    measured = {name: (name, config[name]["objectives"]) for name in benchmarks(config)}
    if ranks:
        measured["ranks"] = "rm_bench", ranks["objectives"]
    for name, (benchmark, objectives) in measured.items():
        backbone, seeds = config[benchmark]["backbone"], config[benchmark]["seeds"]
        for objective in objectives:
            check_reward_model(config, f"{backbone}/{objective}", f"{where}: {name}")
            if not benchmark_seeds(config, benchmark, objective):
                folder = reward_model_folder((backbone, objective, seeds[0]))
                expected = f"an entry for one of {benchmark}.seeds, {seeds}, or more"
                raise InputError(f"{where}: artifacts", f"no {folder}", expected)
    for name in ("grid", *measured):
        objectives, reference = config[name]["objectives"], config["statistics"]["reference"]
        if reference not in objectives:
            expected = f"also the reference {reference}"
            raise InputError(f"{where}: {name}.objectives", f"{objectives}", expected)
    if rloo:
        _check_rloo(config, rloo, where)
    if judged:
        if not rloo:
            raise InputError(f"{where}: alpaca_eval", "a section", "null, as rloo is null")
        for seed in judged["seeds"]:
            if seed not in rloo["seeds"]:
                raise InputError(f"{where}: alpaca_eval.seeds", f"{seed}", "a seed of rloo.seeds")
        if judge_kind(config) == "hosted":
            check_judge(judged["judge"], f"{where}: alpaca_eval.judge")
        if judge_kind(config) == "gold" and config["gold"]["kind"] != "programmatic":
            raise InputError(
                f"{where}: alpaca_eval.judge.kind",
                f"'gold' with a gold of kind '{config['gold']['kind']}'",
                "'vllm' or 'hosted'",
                "the local judge has a formula alone for the answers to its questions",
            )


def _check_rloo(config: Settings, rloo: Settings, where: str) -> None:
    """References to policies and reward models must resolve, and batches divide."""
    for run, section in rloo["runs"].items():
        check_backbone(config, section["policy"], f"{where}: rloo.runs.{run}.policy")
        for model in section["reward_models"].values():
            check_reward_model(config, model, f"{where}: rloo.runs.{run}.reward_models")
    if rloo["generation"] == "vllm" and rloo["seeds_per_job"] > 1:
        raise InputError(
            f"{where}: rloo.seeds_per_job",
            f"{rloo['seeds_per_job']}",
            "1, as rloo.generation is vllm",
            "a process keeps vLLM's share of the GPU until it ends",
        )
    completions = rloo["prompts_per_update"] * rloo["k"]
    if completions % rloo["mini_batches"]:
        raise InputError(
            f"{where}: rloo.mini_batches",
            f"{rloo['mini_batches']}",
            f"a divisor of prompts_per_update x k, which is {completions}",
        )
    cut = not released(config, "splits/")  # downloaded splits are read whole
    prompts = config["splits"]["evaluation_prompts"] if cut else None
    if prompts is not None and prompts < rloo["prompts_per_update"]:
        raise InputError(
            f"{where}: rloo.prompts_per_update",
            f"{rloo['prompts_per_update']}",
            f"at most splits.evaluation_prompts, which is {prompts}",
        )
    _check_samples_gold(config, rloo, f"{where}: rloo.gold")


def _check_samples_gold(config: Settings, rloo: Settings, where: str) -> None:
    """Samples of policies must have a gold, whose model is used for nothing else (D51)."""
    gold = rloo["gold"]
    if gold is None:
        if config["gold"]["kind"] == "column":
            found, fix = "null with a gold of kind 'column'", "or set rloo to null"
            raise InputError(where, found, "a reward model, as new responses have no column", fix)
        return
    backbone = gold["backbone"]
    check_reward_model(config, gold_name(gold), where)
    if released(config, "splits/"):
        raise InputError(
            where, "a section with downloaded splits", "null: they have no pairs of it"
        )
    users = {f"{name}.backbone": [config[name]["backbone"]] for name in benchmarks(config)}
    for run, section in rloo["runs"].items():
        proxies = [model.partition("/")[0] for model in section["reward_models"].values()]
        users[f"rloo.runs.{run}.reward_models"] = proxies
    for key, names in {"grid.backbones": config["grid"]["backbones"], **users}.items():
        if backbone in names:
            found = f"'{backbone}', which is in {key} too"
            raise InputError(f"{where}.backbone", found, "one for the gold alone (D51)")
    if pairs := config["backbones"][backbone]["reward_models"]["preferences"]:
        key = f"backbones.{backbone}.reward_models.preferences"
        raise InputError(f"{where}.backbone", f"'{pairs}' in {key}", "null there (D51)")


def _check_artifacts(config: Settings, where: str) -> None:
    """Downloaded artifacts must replace something of the preset, and be complete."""
    for name, section in config["artifacts"].items():
        kind, first, *rest = name.split("/")
        if kind == "policies" and first not in policies(config):
            fix = nearest(first, list(policies(config)))
            raise InputError(f"{where}.{name}", f"policy '{first}'", "one of rloo.runs", fix)
        if kind in ("backbones", "reward_models"):
            check_backbone(config, first, f"{where}.{name}")
        # A third-party model may have a name that is no objective.
        if kind == "reward_models" and (section["source"] == "train" or rest[0].startswith("bt")):
            check_objective(config, rest[0], f"{where}.{name}")
    splits = released(config, "splits/")
    if len(splits) not in (0, 5):
        raise InputError(where, f"only {', '.join(splits)} as released", "all five splits, or none")
    _check_seeds(config, where)


def _check_seeds(config: Settings, where: str) -> None:
    """Third-party models need an entry for each seed; a job downloads all of its seeds or none."""
    needed, fetched = reward_models(config), released(config)
    for model in needed:
        trainable = objective_parts(model[1])[0] in config["reward_models"]["objectives"]
        if not trainable and reward_model_folder(model) not in fetched:
            raise InputError(
                where, f"no {reward_model_folder(model)}", "an entry for each requested seed"
            )
    for backbone, objective in dict.fromkeys(model[:2] for model in needed):
        for batch in reward_model_batches(config):
            models = [(backbone, objective, seed) for seed in batch]
            batch_folders = [reward_model_folder(model) for model in models if model in needed]
            _check_batch(batch_folders, fetched, "reward_models", where)
    for name in policies(config):
        for batch in policy_batches(config):
            _check_batch([f"policies/{name}/seed-{seed}" for seed in batch], fetched, "rloo", where)


def _check_batch(folders: list[str], fetched: list[str], section: str, where: str) -> None:
    """Models that one job trains are all downloaded, or none."""
    if len({name in fetched for name in folders}) > 1:
        raise InputError(
            where,
            f"only some of {', '.join(folders)} as released",
            "all of them, or none",
            f"one job trains them: with {section}.seeds_per_job 1 each has its own",
        )
