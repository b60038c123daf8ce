# What the rules share: the checked configuration, and the parts of it that a rule depends on.
# Each rule gets exactly its part, as `--settings`, so that an edit reruns what it touches.

import json
import os
import re
import sys
from pathlib import Path

from rm_robustness.errors import InputError
from rm_robustness.experiment import artifacts
from rm_robustness.experiment import config as configuration
from rm_robustness.experiment import jobs
from rm_robustness.experiment.checks import check
from rm_robustness.provenance import snakemake_metadata as history


def refuse(error):
    """End with one clear line and exit status 2, before anything is written."""
    print(f"rm-robustness: error: {error}", file=sys.stderr)
    sys.exit(2)


def checked(config):
    """Check the configuration and that its run folder can be written."""
    files = ", ".join(map(str, workflow.configfiles)) or "config"
    schema = Path(workflow.basedir) / "workflow/schemas/config.schema.yaml"
    try:
        check(config, schema, files)
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


def settings(*parts, **more):
    """Merge parts of the configuration into the JSON that a verb takes as `--settings`."""
    merged = {}
    for part in parts:
        merged |= part
    return json.dumps(merged | more, sort_keys=True, separators=(",", ":"))


def backbone_section(name):
    """The section of a backbone that a target names; refuses one that does not exist."""
    try:
        configuration.known_backbone(config, name, "target")
    except InputError as error:
        refuse(error)
    return config["backbones"][name]


def backbone_of(wildcards):
    """The section of the backbone of a target's wildcards."""
    return backbone_section(wildcards.backbone)


def reward_model_of(wildcards):
    """The settings of the reward model that a target names; refuses one that does not exist."""
    backbone_of(wildcards)
    try:
        configuration.known_objective(config, wildcards.objective, "target")
    except InputError as error:
        refuse(error)
    return configuration.reward_model_settings(
        config, wildcards.backbone, wildcards.objective
    )


def pairs_of(wildcards):
    """The pairs that a backbone's reward models are trained on."""
    source = backbone_of(wildcards)["reward_models"]["preferences"]
    return (
        f"{RUN}/raw/preferences/{source}.parquet"
        if source
        else f"{RUN}/splits/train.parquet"
    )


def origin_of(model):
    """Where what is downloaded comes from: an artifact, the gold, a model that answers, any."""
    if model in config["artifacts"]:
        return artifacts.origin(config, model)
    answering = config["responses"]["generate"] or {"models": {}}
    others = {"gold": config["gold"], **answering["models"]}
    found = others.get(model, {})
    if "repo" in found:
        return {"kind": "hub", "repo": found["repo"], "revision": found["revision"]}
    return backbone_section(model)["init"]


def pretrained(model):
    """The manifest of a model that is downloaded; beside it is the folder `model`."""
    return f"{RUN}/pretrained/{model}/manifest.json"


def gold_settings():
    """What the verb `gold` is given: a model is in a folder here, wherever it came from."""
    if not GOLD_MODEL:
        return config["gold"]
    here = {k: v for k, v in config["gold"].items() if k not in ("repo", "revision")}
    return here | {"model": f"{RUN}/pretrained/gold/model"}


def answering(policy, seed):
    """The model that answers AlpacaEval as a policy; the backbone as `sft`."""
    if policy == "sft":
        backbone = RLOO["runs"][JUDGED["run"]]["policy"]
        return f"{RUN}/backbones/{backbone}/model.safetensors"
    return f"{RUN}/policies/{policy}/seed-{seed}/model.safetensors"


def reward_model_behind(policy, seed):
    """The reward model that a policy is trained against with a seed; refuses an unknown one."""
    models = POLICIES[policy]["reward_models"]
    if seed not in models:
        found, known = f"seed {seed} of {policy}", f"one of rloo.seeds, {list(models)}"
        refuse(InputError("target", found, known))
    return f"{RUN}/reward_models/{models[seed]}/model.safetensors"


def backbone_inputs(wildcards):
    """The chats when the backbone is tuned, the pretrained model when it has one."""
    backbone, inputs = backbone_of(wildcards), {}
    if backbone["sft"]:
        inputs["chats"] = f"{RUN}/raw/chats/{backbone['sft']}.parquet"
    if backbone["init"]["kind"] != "config":
        inputs["pretrained"] = pretrained(wildcards.backbone)
    return inputs


def scores_of(*objectives):
    """The scores of some objectives, over all backbones and seeds."""
    return expand(
        f"{RUN}/scores/{{backbone}}/{{objective}}/seed-{{seed}}/{{split}}.parquet",
        backbone=GRID["backbones"],
        objective=objectives,
        seed=GRID["seeds"],
        split=SCENARIOS,
    )


def probes_of(*objectives):
    """The probes of some objectives, over all backbones and seeds."""
    return expand(
        f"{RUN}/reward_models/{{backbone}}/{{objective}}/seed-{{seed}}/probes.parquet",
        backbone=GRID["backbones"],
        objective=objectives,
        seed=GRID["seeds"],
    )


def bench_files(pattern, *objectives):
    """Scores of RM-Bench, or effective ranks, of some objectives."""
    return expand(
        pattern,
        backbone=BENCH["backbone"],
        objective=objectives,
        seed=BENCH["seeds"],
    )


def made(kind, names="[^/]+"):
    """What a wildcard after a kind's folder may be for it to be made here and not fetched."""
    fetched = [name.removeprefix(kind) for name in artifacts.released(config, kind)]
    return "".join(f"(?!{re.escape(name)}/)" for name in fetched) + f"(?:{names})"


def code(*modules):
    """Modules whose edit changes a cheap result; a training is not redone for an edit of code."""
    return [f"src/rm_robustness/{module}.py" for module in modules]


config = checked(config)

RUN = f"runs/{config['preset']}"
history.unpack(Path(RUN))
GRID = config["grid"]
BENCH, RLOO, JUDGED = config["rm_bench"], config["rloo"], config["alpaca_eval"]
SCENARIOS = ["in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint"]
GOLD_MODEL = [pretrained("gold")] if config["gold"]["kind"] == "model" else []
POLICIES = configuration.policies(config)
REWARD_MODELS = [
    f"{backbone}/{objective}/seed-{seed}"
    for backbone, objective, seed in jobs.reward_models(config)
]
BACKBONES = jobs.backbones(config)
SEED_BATCHES = configuration.reward_model_batches(config)
# What is fetched: the models of each rule that adopts some, and whether the splits are.
RELEASED = {}
for name in artifacts.released(config):
    if not name.startswith("splits/"):
        RELEASED.setdefault(artifacts.rule(config, name), []).append(name)
SPLITS_RELEASED = artifacts.released(config, "splits/")
ANSWERS = (
    [
        f"{RUN}/alpaca_eval/outputs/sft/seed-0.parquet",
        *expand(
            f"{RUN}/alpaca_eval/outputs/{JUDGED['run']}-{{objective}}/seed-{{seed}}.parquet",
            objective=["bt", "bt-bsr"],
            seed=JUDGED["seeds"],
        ),
    ]
    if JUDGED
    else []
)


wildcard_constraints:
    backbone="[^/]+",
    objective="[^/]+",
    source="[^/]+",
    policy="|".join(POLICIES) or "none",
    table=r"table\d|claims",
    figure=r"figure\d",
