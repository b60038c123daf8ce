# Shared by the rules: the checked configuration, paths, and the settings of each job. A rule passes
# exactly these as `--settings`, so that an edit reruns only the jobs that depend on it.

import hashlib
import os
import re
from pathlib import Path

from rm_robustness.errors import InputError, refuse
from rm_robustness.experiment import artifacts, catalog, grid, jobs
from rm_robustness.experiment.checks import check
from rm_robustness.experiment.downloads import pinned
from rm_robustness.experiment.paths import RECORDS, filled, location
from rm_robustness.experiment.scenarios import SCENARIOS, SPLITS
from rm_robustness.experiment.settings import SETTINGS, as_json
from rm_robustness.provenance import snakemake_metadata
from rm_robustness.provenance.publish import publish
from rm_robustness.results.verdicts import read_verdicts, tally


def checked(config):
    """Check the configuration and that its run folder can be written."""
    # Without the empty file `all`, which a target without `--` names (config/README.md).
    paths = [os.path.relpath(path) for path in workflow.configfiles]
    paths = [Path(path) for path in paths if path != "all"]
    files = ", ".join(map(str, paths)) or "config"
    schema = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
    try:
        config = check(config, schema, files)
        pinned(config, paths)
        for name, source in config["sources"].items():
            path = source.get("path")
            if path and not Path(path).is_dir():
                raise InputError(
                    f"{files}: sources.{name}.path", f"'{path}'", "a folder that exists"
                )
        if Path("runs").exists() and not os.access("runs", os.W_OK):
            raise InputError(
                "runs", "a folder that cannot be written", "a writable one"
            )
    except InputError as error:
        refuse(error)
    return config


def at(kind, **wildcards):
    """The path of a file in this run; wildcards without a value stay."""
    return f"{RUN}/{location(kind, **wildcards)}"


def record(kind, **wildcards):
    """The path of the record of a kind of job in this run, as `at`."""
    return f"{RUN}/{filled(RECORDS[kind], **wildcards)}"


def settings(kind, **names):
    """The settings of a kind of job, by the wildcards of the rule, or by given names."""

    def of(wildcards):
        values = dict(wildcards.items()) | names
        # Others measure third-party models too.
        if kind == "reward_model" and values["objective"] not in grid.variants(config):
            known(grid.check_objective, values["objective"])
        return as_json(SETTINGS[kind](config, **values))

    return of


def known(check, name):
    """Exit for a target whose backbone or objective the preset does not define."""
    try:
        check(config, name, "target")
    except InputError as error:
        refuse(error)


def pairs_of(wildcards):
    """The pairs that a backbone's reward models are trained on."""
    known(grid.check_backbone, wildcards.backbone)
    return f"{RUN}/{grid.training_pairs(config, wildcards.backbone)}"


def held_out_of(wildcards):
    """The split that evaluates a backbone's reward models during training."""
    return at("split", split=grid.held_out_split(config, wildcards.backbone))


def backbone_inputs(wildcards):
    """Inputs of a backbone: the chats if it gets SFT, the pretrained model if it has one."""
    known(grid.check_backbone, wildcards.backbone)
    section, inputs = config["backbones"][wildcards.backbone], {}
    if section["sft"]:
        inputs["chats"] = at("chats", source=section["sft"])
    if section["init"]["kind"] != "config":
        inputs["pretrained"] = at("pretrained", model=wildcards.backbone)
    return inputs


def answering_model(wildcards):
    """The model that answers AlpacaEval as a policy; the backbone as `sft`."""
    if wildcards.policy == "sft":
        return at("backbone", backbone=RLOO["runs"][JUDGED["run"]]["policy"])
    return at("policy", policy=wildcards.policy, seed=wildcards.seed)


def proxy_reward_models(seeds):
    """The reward models that a policy is trained against, one for each of its seeds."""

    def of(wildcards):
        models = POLICIES[wildcards.policy]["reward_models"]
        return [
            f"{RUN}/reward_models/{models[seed]}/model.safetensors" for seed in seeds
        ]

    return of


def trained_here(kind, names="[^/]+"):
    """Constraint of a wildcard after a kind's folder that excludes downloaded models."""
    fetched = [name.removeprefix(kind) for name in grid.released(config, kind)]
    return "".join(f"(?!{re.escape(name)}/)" for name in fetched) + f"(?:{names})"


def measured_here(measurement):
    """Constraint of the wildcard before an objective: the models of which just this is measured.

    Of any other model, also of one that the preset does not have, the scenarios are measured.
    """
    if models := MEASUREMENTS[measurement]:
        return "(?=" + "|".join(re.escape(f"{name}/") for name in models) + ")[^/]+"
    others = {
        name
        for other, models in MEASUREMENTS.items()
        for name in models
        if set(other.seeds) & set(measurement.seeds)
    }
    return "".join(f"(?!{re.escape(name)}/)" for name in sorted(others)) + "[^/]+"


def code(*parts):
    """The hash of some folders and files of the package."""
    folder, digest = Path("src/rm_robustness"), hashlib.sha256()
    for path in sorted(
        path
        for part in parts
        for path in [folder / part, *(folder / part).rglob("*.py")]
        if path.suffix == ".py"
    ):
        digest.update(path.as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def inputs_of(name):
    """What a result is made from; nothing where the preset does not make it."""
    if name not in [*RESULTS, *ON_REQUEST]:
        return []
    return catalog.EVERY_RESULT[name].inputs(config)


def requested(wildcards):
    """The files of a result on request; exits where the preset has no section for it."""
    name = wildcards.requested
    section = catalog.ON_REQUEST[name].requires
    if config[section] is None:
        refuse(
            InputError(
                f"results/{name}",
                f"null as {section} of preset '{config['preset']}'",
                "a section",
                "config/README.md explains its keys",
            )
        )
    return multiext(
        f"{RUN}/results/{name}", ".csv", ".md", ".png", ".pdf", ".record.json"
    )


def shown(name):
    """The settings of a result, as JSON."""
    return as_json(SETTINGS["result"](config, name))


def in_report(name):
    """Where the report shows a result: its caption, section and title."""
    result = catalog.EVERY_RESULT[name]
    return {
        "caption": f"../report/{name}.rst",
        "category": result.section,
        "labels": {"result": result.title},
    }


config = checked(config)

RUN = f"runs/{config['preset']}"
snakemake_metadata.unpack(Path(RUN))
RLOO, JUDGED = config["rloo"], config["alpaca_eval"]
BENCHMARKS = grid.benchmarks(config)
GOLD_MODEL = (
    [at("pretrained", model="gold")] if config["gold"]["kind"] == "model" else []
)
SAMPLES_GOLD = [
    f"{RUN}/{grid.reward_model_folder(model)}/model.safetensors"
    for model in grid.gold_models(config)
] or GOLD_MODEL
POLICIES = grid.policies(config)
REWARD_MODELS = grid.reward_models(config)
BACKBONES = grid.backbones(config)
SEED_BATCHES = grid.reward_model_batches(config)
POLICY_BATCHES = grid.policy_batches(config)
# Of models that are measured otherwise or that the preset does not have: their scenarios, if named.
MEASUREMENTS = grid.measurements(config) | {
    grid.Measurement(("scenarios",), tuple(batch)): [] for batch in SEED_BATCHES
}
RESULTS = catalog.results(config)
ON_REQUEST = [
    name for name, made in catalog.ON_REQUEST.items() if config[made.requires]
]
# Downloaded artifacts: the models of each rule that adopts some, and whether the splits are.
RELEASED = {}
for name in grid.released(config):
    if not name.startswith("splits/"):
        rule_name = artifacts.adopting_rule(config, name)
        RELEASED.setdefault(rule_name, []).append(name)
SPLITS_RELEASED = grid.released(config, "splits/")


wildcard_constraints:
    backbone="[^/]+",
    objective="[^/]+",
    source="[^/]+",
    policy="|".join(POLICIES) or "none",
    table=r"table\d|claims",
    figure=r"figure\d",
    requested="|".join(catalog.ON_REQUEST),
