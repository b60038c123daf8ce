"""Commands of the training: backbones, reward models, policies."""

import argparse
import shutil
import signal
from collections.abc import Callable
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

    launch.launch_processes("fsdp2")

    def train_one(seed: int, work: Path) -> Path:
        return reward_trainer.train_reward_model(
            options.backbone,
            options.train,
            options.held_out,
            options.settings,
            seed,
            work,
            f"{options.output.parent.name} {options.output.name} seed {seed}",
        )

    _train_seeds(options, train_one)


def _train_seeds(options: argparse.Namespace, train_one: Callable[[int, Path], Path]) -> None:
    """Train every seed in its own work folder, then publish them all."""
    from ..training.resume import hold_leases, publish_all

    works = {seed: options.work / f"seed-{seed}" for seed in options.seeds}
    with hold_leases(list(works.values())):
        finals = {train_one(seed, work): options.output / work.name for seed, work in works.items()}
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

    if len(options.reward_models) != len(options.seeds):
        found = f"{len(options.reward_models)} folders"
        raise InputError("--reward-models", found, f"one for each of {len(options.seeds)} seeds")
    launch.launch_processes("ddp")
    reward_models = dict(zip(options.seeds, options.reward_models, strict=True))

    def train_one(seed: int, work: Path) -> Path:
        return rloo_trainer.train_policy(
            options.policy,
            reward_models[seed],
            options.prompts,
            options.settings,
            seed,
            work,
            options.output.name,
        )

    _train_seeds(options, train_one)


@command(
    option("--config", "YAML file with the keys of `trl reward`, and the objective", type=Path),
    option("--objective", "its options: --weight, --reduction, --margin, --temperature, ..."),
    option("--KEY", "any key of `trl reward`; replaces that of the file", metavar="VALUE"),
    online=True,
    for_people=True,
    forwards=True,
)
def reward(options: argparse.Namespace) -> None:
    """Train a reward model in TRL's way, with any of the objectives.

    The keys are those of `trl reward` (model_name_or_path, dataset_name, learning_rate, ...), and
    objective, weight, reduction, margin, temperature, momentum. On several GPUs: accelerate launch
    -m rm_robustness reward --config FILE.
    """
    from ..training.reward_script import train

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as TRL: no state is put in order
    train(options.rest)


COMMANDS = [reward, backbone, train, adopt, rloo]
