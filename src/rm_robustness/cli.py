"""`rm-robustness VERB`: what every rule calls, and a person can call without Snakemake.

Heavy libraries are imported inside the verbs, so that `--help` and the small verbs start at once.
"""

import argparse
import errno
import os
import sys
import time
from pathlib import Path

from .config import Settings, read_settings
from .errors import InputError


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; a person's mistake ends with one line and exit status 2."""
    top = parser()
    options = top.parse_args(arguments)
    # One thread a job unless the environment says otherwise: sums then have one order (bits).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        options.verb(options)
        print(f"{top.prog}: done, {time.process_time():.1f} s of CPU", file=sys.stderr)
    except InputError as error:
        sys.exit(_refuse(str(error)))
    except Exception as error:
        unwritable = _unwritable(error)
        if unwritable is None:
            raise
        sys.exit(_refuse(f"{unwritable}; nothing was left half-written"))


def _unwritable(error: Exception) -> str | None:
    """Say what could not be written, when a disk is full or read-only, in whichever words."""
    codes = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)
    if isinstance(error, OSError) and error.errno in codes:
        where = error.filename2 or error.filename or "the output"
        return f"{where}: {os.strerror(error.errno)}"
    text = str(error).splitlines()[0] if str(error) else ""
    # safetensors has an error class of its own; torch's zip writer only finds its file too short.
    if "No space left" in text or "inline_container" in text:
        return f"the output: cannot write, is the disk full? ({text[:120]})"
    return None


def _refuse(line: str) -> int:
    print(f"rm-robustness: error: {line}", file=sys.stderr)
    return 2


def parser() -> argparse.ArgumentParser:
    """The command line; one verb a rule."""
    top = argparse.ArgumentParser(prog="rm-robustness", description=__doc__)
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=function)
        return sub

    def settings(sub: argparse.ArgumentParser, section: str) -> None:
        sub.add_argument("--settings", required=True, type=read_settings, metavar="JSON|FILE",
                         help=f"{section} (keys: config/README.md)")  # fmt: skip

    def path(sub: argparse.ArgumentParser, name: str, text: str, many: bool = False) -> None:
        if many:
            sub.add_argument(name, required=True, type=Path, nargs="+", help=text)
        else:
            sub.add_argument(name, required=True, type=Path, help=text)

    sub = verb("responses", responses, "bring a source's responses into one parquet file")
    settings(sub, "a section of `sources` with the section `responses`")
    path(sub, "--output", "responses.parquet")

    sub = verb("chats", chats, "bring the language model's conversations into one parquet file")
    settings(sub, "a section of `sources`")
    path(sub, "--output", "chats.parquet")

    sub = verb("generate", generate, "let one response model answer every prompt")
    settings(sub, "the section `responses.generate` with the model")
    path(sub, "--prompts", "responses.parquet, whose prompts are answered")
    path(sub, "--output", "parquet of the new responses")

    sub = verb("gold", gold, "label responses with the gold preference r*")
    settings(sub, "the section `gold`")
    path(sub, "--responses", "parquet files of responses", many=True)
    path(sub, "--output", "gold.parquet")

    sub = verb("splits", split, "cut labelled responses into train and the four scenarios")
    settings(sub, "the section `splits` with the response models")
    path(sub, "--gold", "gold.parquet")
    path(sub, "--output", "folder for the five splits and manifest.json")

    sub = verb("pretrained", pretrained, "download a pretrained model (on a machine with network)")
    settings(sub, "a backbone's section `init`")
    path(sub, "--output", "folder")

    sub = verb("backbone", backbone, "make one backbone: initialise, and SFT where asked")
    settings(sub, "a backbone's section and the section `sft`")
    sub.add_argument("--chats", type=Path, help="chats.parquet, for SFT")
    sub.add_argument("--pretrained", type=Path, help="manifest.json of a downloaded model")
    path(sub, "--work", "folder for checkpoints, kept while the job is unfinished")
    path(sub, "--output", "folder of the backbone")

    sub = verb("train", train, "train reward models: one backbone, one objective, some seeds")
    settings(sub, "the section `reward_models` for one backbone and objective")
    path(sub, "--backbone", "folder of the backbone")
    path(sub, "--train", "train.parquet")
    path(sub, "--held-out", "in_domain.parquet, looked at through training")
    sub.add_argument("--seeds", required=True, type=int, nargs="+", help="a training for each")
    path(sub, "--work", "folder for checkpoints, kept while the job is unfinished")
    path(sub, "--output", "folder that gets a folder seed-N for each seed")

    sub = verb("score", score, "score responses with reward models")
    path(sub, "--model", "folders of reward models", many=True)
    path(sub, "--data", "splits (parquet), each scored with each model", many=True)
    path(sub, "--output", "parquet files of scores: model by model, split by split", many=True)
    sub.add_argument("--batch-tokens", type=int, default=8192, help="tokens a batch; 0: one by one")

    sub = verb("table5", table5, "the four metrics of every reward model, with intervals")
    settings(sub, "what the table shows")
    path(sub, "--runs", "folder runs/PRESET")
    path(sub, "--output", "table5.csv; table5.md is written beside it")

    for number, text in FIGURES.items():
        sub = verb(f"figure{number}", figure, text)
        sub.set_defaults(number=number)
        settings(sub, "what the figure shows")
        path(sub, "--runs", "folder runs/PRESET")
        path(sub, "--output", "figure without its suffix: .png, .pdf and .csv are written")

    sub = verb(
        "figure4", draw_figure4, "the four metrics of every reward model, drawn from table 5"
    )
    path(sub, "--table", "table5.csv")
    path(sub, "--output", "figure without its suffix: .png, .pdf and .csv are written")
    return top


FIGURES = {
    1: "||W_p|| through training with bt",
    2: "||h_w - h_l|| through training with bt",
    3: "||h|| per scenario, bt against bt-bsr",
}


def responses(options: argparse.Namespace) -> None:
    """Read a source of any kind into the raw frame."""
    from .files import write_frame
    from .sources import read_responses

    write_frame(read_responses(options.settings, options.output.parent), options.output)


def chats(options: argparse.Namespace) -> None:
    """Read conversations for SFT into a frame with a column `messages`."""
    from .files import write_frame
    from .sources import read_chats

    write_frame(read_chats(options.settings), options.output)


def generate(options: argparse.Namespace) -> None:
    """Answer every prompt with one response model."""
    from .files import read_frame
    from .generate import generate_to

    prompts = read_frame(options.prompts, ["example_id", "prompt"])
    prompts = prompts.drop_duplicates("example_id")[["example_id", "prompt"]]
    generate_to(prompts.reset_index(drop=True), options.settings, options.output)


def gold(options: argparse.Namespace) -> None:
    """Label responses."""
    import pandas as pd

    from .files import read_frame, write_frame
    from .gold import add_gold

    columns = ["example_id", "prompt", "response", "response_model"]
    frames = [read_frame(path, columns) for path in options.responses]
    write_frame(add_gold(pd.concat(frames, ignore_index=True), options.settings), options.output)


def split(options: argparse.Namespace) -> None:
    """Build the splits and their manifest."""
    from .files import read_frame, sha256, write_frame, write_json
    from .splits import build

    frame = read_frame(options.gold, ["example_id", "prompt", "response", "response_model", "gold"])
    splits, facts = build(frame, options.settings)
    for name, rows in splits.items():
        write_frame(rows, options.output / f"{name}.parquet")
    hashes = {name: sha256(options.output / f"{name}.parquet") for name in splits}
    manifest = {"settings": options.settings, "source_sha256": sha256(options.gold)}
    write_json({**manifest, **facts, "sha256": hashes}, options.output / "manifest.json")


def pretrained(options: argparse.Namespace) -> None:
    """Download a pretrained model."""
    from .backbone import fetch

    fetch(options.settings, options.output)


def backbone(options: argparse.Namespace) -> None:
    """Make one backbone."""
    from .backbone import build
    from .training import publish

    settings: Settings = dict(options.settings)
    sft = settings.pop("sft")
    label = options.output.name
    final = build(settings, sft, options.chats, options.pretrained, options.work, label)
    publish(final, options.output)
    _forget(options.work)


def train(options: argparse.Namespace) -> None:
    """Train the seeds one after another; nothing is published before all are done."""
    from . import trainer
    from .training import publish

    finished = {}
    for seed in options.seeds:
        label = f"{options.output.parent.name} {options.output.name} seed {seed}"
        finished[seed] = trainer.train(
            options.backbone, options.train, options.held_out, options.settings, seed,
            options.work / f"seed-{seed}", label,
        )  # fmt: skip
    if int(os.environ.get("RANK", "0")) == 0:
        for seed, final in finished.items():
            publish(final, options.output / f"seed-{seed}")
        for seed in options.seeds:
            _forget(options.work / f"seed-{seed}")


def score(options: argparse.Namespace) -> None:
    """Score every split with every model."""
    from .files import read_frame, write_frame
    from .reward_model import load
    from .scoring import score as score_split

    expected = len(options.model) * len(options.data)
    if len(options.output) != expected:
        raise InputError("--output", f"{len(options.output)} files", f"{expected}: models x data")
    columns = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]
    splits = [read_frame(path, columns) for path in options.data]
    outputs = iter(options.output)
    for folder in options.model:
        model, tokenizer = load(folder)
        for path, rows in zip(options.data, splits, strict=True):
            label = f"{'/'.join(folder.parts[-3:])} {path.stem}"
            frame = score_split(model, tokenizer, rows, options.batch_tokens, label)
            write_frame(frame, next(outputs))


def table5(options: argparse.Namespace) -> None:
    """Write table5.csv and table5.md, and table5.record.json on what they rest on."""
    from .files import write_csv, write_json, write_text
    from .record import record
    from .scenarios import table5 as table
    from .scenarios import table5_markdown, table5_sources

    started, settings, csv = time.time(), options.settings, options.output
    sources = {str(path): path for path in table5_sources(options.runs, settings)}
    frame = table(options.runs, settings)
    write_text(table5_markdown(frame, settings["note"]), csv.with_suffix(".md"))
    write_csv(frame, csv)
    files = [csv, csv.with_suffix(".md")]
    made = record(settings, sources, files, settings["seed"], started)
    write_json(made, csv.with_suffix(".record.json"))


def figure(options: argparse.Namespace) -> None:
    """Draw one of figures 1 to 3 and write it in three formats."""
    from . import figures
    from .drawing import save

    draw = {1: figures.figure1, 2: figures.figure2, 3: figures.figure3}[options.number]
    save(*draw(options.runs, options.settings), options.output)


def draw_figure4(options: argparse.Namespace) -> None:
    """Draw figure 4 from table 5 and write it in three formats."""
    from .drawing import save
    from .figures import figure4
    from .files import read_csv

    save(*figure4(read_csv(options.table)), options.output)


def _forget(work: Path) -> None:
    """Remove a work folder whose results are in place."""
    import shutil

    shutil.rmtree(work, ignore_errors=True)
