"""Commands of the training: backbones, reward models, policies."""

import argparse
import shutil
from pathlib import Path

from ..cluster import launch
from ..errors import InputError
from ..experiment.config import Settings
from .command import command, option, path, paths, settings

WORK = path("--work", "folder for checkpoints, kept while the job is unfinished")


@command(
    settings("a backbone's section and the section `sft`"),
    option("--chats", "chats.parquet, for SFT", type=Path),
    option("--pretrained", "manifest.json of a downloaded model", type=Path),
    WORK,
    path("--output", "folder of the backbone"),
)
def backbone(options: argparse.Namespace) -> None:
    """Initialise a backbone, and fine-tune it (SFT) if configured."""
    from ..training.resume import hold_leases, publish_all
    from ..training.sft_trainer import build_backbone

    launch.launch_processes("fsdp2")
    section: Settings = dict(options.settings)
    sft = section.pop("sft")
    label = options.output.name
    with hold_leases([options.work]):
        final = build_backbone(section, sft, options.chats, options.pretrained, options.work, label)
        publish_all({final: options.output})


@command(
    settings("the section `reward_models` for one backbone and objective"),
    path("--backbone", "folder of the backbone"),
    path("--train", "train.parquet"),
    path("--held-out", "in_domain.parquet: held-out pairs, evaluated during training"),
    option("--seeds", "a training for each", required=True, type=int, nargs="+"),
    WORK,
    path("--output", "folder that gets a folder seed-N for each seed"),
)
def train(options: argparse.Namespace) -> None:
    """Train reward models: one backbone, one objective, some seeds.

    The seeds are trained one after another; none is published before all are finished.
    """
    from ..training import reward_trainer
    from ..training.resume import hold_leases, publish_all

    launch.launch_processes("fsdp2")
    works = {seed: options.work / f"seed-{seed}" for seed in options.seeds}
    finals = {}
    with hold_leases(list(works.values())):
        for seed, work in works.items():
            final = reward_trainer.train_reward_model(
                options.backbone,
                options.train,
                options.held_out,
                options.settings,
                seed,
                work,
                f"{options.output.parent.name} {options.output.name} seed {seed}",
            )
            finals[final] = options.output / work.name
        publish_all(finals)


@command(
    settings("kind (reward_models, backbones, policies), chat format, files it needs"),
    path("--pretrained", "manifest.json of the downloaded model"),
    path("--work", "folder for unfinished work"),
    path("--output", "folder of the model"),
)
def adopt(options: argparse.Namespace) -> None:
    """Convert a downloaded third-party model to our checkpoint layout."""
    from ..cluster.lease import hold_lease
    from ..models.adopt import adopt
    from ..training.resume import publish

    with hold_lease(options.work):
        publish(adopt(options.settings, options.pretrained, options.work), options.output)
        shutil.rmtree(options.work, ignore_errors=True)


@command(
    settings("the section `rloo` for one policy"),
    path("--policy", "folder of the backbone that the policy starts from"),
    paths("--reward-models", "folders of reward models, one for each seed"),
    path("--prompts", "a split, whose prompts are answered"),
    option("--seeds", "a training for each", required=True, type=int, nargs="+"),
    WORK,
    path("--output", "folder that gets a folder seed-N for each seed: .../POLICY"),
)
def rloo(options: argparse.Namespace) -> None:
    """Train policies with RLOO: one run, some seeds.

    The seeds are trained one after another; none is published before all are finished.
    """
    from ..training import rloo_trainer
    from ..training.resume import hold_leases, publish_all

    if len(options.reward_models) != len(options.seeds):
        found = f"{len(options.reward_models)} folders"
        raise InputError("--reward-models", found, f"one for each of {len(options.seeds)} seeds")
    launch.launch_processes("ddp")
    works = {seed: options.work / f"seed-{seed}" for seed in options.seeds}
    finals = {}
    with hold_leases(list(works.values())):
        for (seed, work), reward_model in zip(works.items(), options.reward_models, strict=True):
            final = rloo_trainer.train_policy(
                options.policy,
                reward_model,
                options.prompts,
                options.settings,
                seed,
                work,
                options.output.name,
            )
            finals[final] = options.output / work.name
        publish_all(finals)


COMMANDS = [backbone, train, adopt, rloo]
