"""What each verb does: read its files, call one function of the library, write its files.

Heavy libraries are imported inside the verbs, so that `--help` and the small verbs start at once.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..cluster import launch
from ..errors import InputError
from ..experiment.config import Settings
from ..provenance.record import recorded

WEIGHTS = "model.safetensors"


def responses(options: argparse.Namespace) -> None:
    """Read a source of any kind into the raw frame."""
    from ..data.sources import read_responses
    from ..frames import write_frame

    with recorded(options.settings, [options.output]):
        write_frame(read_responses(options.settings, options.output.parent), options.output)


def chats(options: argparse.Namespace) -> None:
    """Read conversations for SFT into a frame with a column `messages`."""
    from ..data.sources import read_chats
    from ..frames import write_frame

    with recorded(options.settings, [options.output]):
        write_frame(read_chats(options.settings), options.output)


def preferences(options: argparse.Namespace) -> None:
    """Read somebody else's pairs into a frame in the shape of the split `train`."""
    from ..data.sources import read_preferences
    from ..frames import write_frame

    with recorded(options.settings, [options.output]):
        write_frame(read_preferences(options.settings), options.output)


def rm_bench(options: argparse.Namespace) -> None:
    """Read RM-Bench into a frame that can be scored, three styles of each side a prompt."""
    from ..data import rm_bench
    from ..frames import write_frame

    with recorded(options.settings, [options.output]):
        write_frame(rm_bench.responses(options.settings, options.output.parent), options.output)


def instructions(options: argparse.Namespace) -> None:
    """Bring AlpacaEval's instructions, its baseline's answers and what its GLM needs."""
    from ..data.alpaca_eval import instructions

    files = [options.output / "instructions.parquet", options.output / "df_gamed.csv"]
    with recorded(options.settings, files):
        instructions(options.settings, options.output)


def generate(options: argparse.Namespace) -> None:
    """Answer every prompt with one response model."""
    from ..cluster.lease import hold_lease
    from ..frames import read_frame
    from ..models.generate import generate_to

    with (
        hold_lease(options.output),
        recorded(options.settings, [options.output], _manifest(options.settings["model"])),
    ):
        prompts = read_frame(options.prompts, ["example_id", "prompt"])
        prompts = prompts.drop_duplicates("example_id")[["example_id", "prompt"]]
        generate_to(prompts.reset_index(drop=True), options.settings, options.output)


def gold(options: argparse.Namespace) -> None:
    """Label responses."""
    import pandas as pd

    from ..data.gold import add_gold
    from ..frames import read_frame, write_frame

    columns = ["example_id", "prompt", "response", "response_model"]
    with recorded(options.settings, [options.output], _manifest(options.settings.get("model"))):
        frames = [read_frame(path, columns) for path in options.responses]
        labelled = add_gold(pd.concat(frames, ignore_index=True), options.settings)
        write_frame(labelled, options.output)


def split(options: argparse.Namespace) -> None:
    """Build the splits and their manifest."""
    from ..data.splits import SPLITS, build
    from ..files import sha256, write_json
    from ..frames import read_frame, write_frame

    columns = ["example_id", "prompt", "response", "response_model", "gold"]
    manifest = options.output / "manifest.json"
    files = [*(options.output / f"{name}.parquet" for name in SPLITS), manifest]
    with recorded(options.settings, files):
        splits, facts = build(read_frame(options.gold, columns), options.settings)
        for name, rows in splits.items():
            write_frame(rows, options.output / f"{name}.parquet")
        hashes = {name: sha256(options.output / f"{name}.parquet") for name in splits}
        made = {"settings": options.settings, "source_sha256": sha256(options.gold)}
        write_json({**made, **facts, "sha256": hashes}, manifest)


def _manifest(model: str | None) -> list[Path]:
    """The manifest of a downloaded model; none where another kind answers or labels."""
    manifest = Path(model or "").parent / "manifest.json"
    return [manifest] if manifest.is_file() else []


def pretrained(options: argparse.Namespace) -> None:
    """Download a pretrained model."""
    from ..cluster.lease import hold_lease
    from ..data.download import fetch

    manifest = options.output / "manifest.json"
    with hold_lease(options.output), recorded(options.settings, [manifest]):
        fetch(options.settings, options.output)


def backbone(options: argparse.Namespace) -> None:
    """Make one backbone."""
    from ..training.resume import hold_leases, publish_all
    from ..training.sft_trainer import build

    launch.spread("fsdp2")
    settings: Settings = dict(options.settings)
    sft = settings.pop("sft")
    label = options.output.name
    with hold_leases([options.work]):
        final = build(settings, sft, options.chats, options.pretrained, options.work, label)
        publish_all({final: options.output})


def train(options: argparse.Namespace) -> None:
    """Train the seeds one after another; nothing is published before all are done."""
    from ..training import reward_trainer as trainer
    from ..training.resume import hold_leases, publish_all

    launch.spread("fsdp2")
    works = {seed: options.work / f"seed-{seed}" for seed in options.seeds}
    finals = {}
    with hold_leases(list(works.values())):
        for seed, work in works.items():
            label = f"{options.output.parent.name} {options.output.name} seed {seed}"
            final = trainer.train(
                options.backbone,
                options.train,
                options.held_out,
                options.settings,
                seed,
                work,
                label,
            )
            finals[final] = options.output / work.name
        publish_all(finals)


def adopt(options: argparse.Namespace) -> None:
    """Take a model that others trained into the form that ours have."""
    from ..cluster.lease import hold_lease
    from ..models.adopt import adopt
    from ..training.resume import publish

    with hold_lease(options.work):
        publish(adopt(options.settings, options.pretrained, options.work), options.output)
        shutil.rmtree(options.work, ignore_errors=True)


def adopt_splits(options: argparse.Namespace) -> None:
    """Take splits that others built into the form that ours have."""
    from ..data.released_splits import splits
    from ..files import sha256, write_json
    from ..frames import write_frame

    manifest = options.output / "manifest.json"
    files = [*(options.output / f"{p.parent.name}.parquet" for p in options.pretrained), manifest]
    with recorded({}, files):
        frames, facts = splits(options.pretrained)
        for name, rows in frames.items():
            write_frame(rows, options.output / f"{name}.parquet")
        sums = {name: sha256(options.output / f"{name}.parquet") for name in frames}
        write_json({**facts, "sha256": sums}, manifest)


def rloo(options: argparse.Namespace) -> None:
    """Train a policy with one seed."""
    from ..training import rloo_trainer as rloo
    from ..training.resume import hold_leases, publish_all

    launch.spread("ddp")
    with hold_leases([options.work]):
        final = rloo.train(
            options.policy,
            options.reward_model,
            options.prompts,
            options.settings,
            options.seed,
            options.work,
            options.output.parent.name,
        )
        publish_all({final: options.output})


def score(options: argparse.Namespace) -> None:
    """Score splits with a model."""
    from ..frames import read_frame, write_frame
    from ..models.reward_model import load
    from ..models.scoring import score as score_split

    if len(options.output) != len(options.data):
        found = f"{len(options.output)} files"
        raise InputError("--output", found, f"one for each of {len(options.data)} of --data")
    columns = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]
    settings = {"batch_tokens": options.batch_tokens}
    with recorded(settings, options.output, [options.model / WEIGHTS]):
        splits = [read_frame(path, columns) for path in options.data]
        model, tokenizer = load(options.model)
        for path, rows, output in zip(options.data, splits, options.output, strict=True):
            label = f"{'/'.join(options.model.parts[-3:])} {path.stem}"
            frame = score_split(model, tokenizer, rows, options.batch_tokens, label)
            write_frame(frame, output)


def ranks(options: argparse.Namespace) -> None:
    """Measure how many directions the hidden states fill, on the train set and on RM-Bench."""
    from ..evaluation.effective_rank import measure

    settings = options.settings
    with recorded(settings, [options.output], [options.model / WEIGHTS]):
        measure(
            options.model,
            options.train,
            options.rm_bench,
            settings["rows"],
            settings["seed"],
            settings["batch_tokens"],
            options.output,
        )


def answers(options: argparse.Namespace) -> None:
    """Let a policy answer AlpacaEval's instructions."""
    from ..cluster.lease import hold_lease
    from ..frames import read_frame
    from ..models.generate import generate_to

    named = {"model": str(options.model), "name": options.output.parent.name}
    with (
        hold_lease(options.output),
        recorded(options.settings, [options.output], [options.model / WEIGHTS]),
    ):
        prompts = read_frame(options.instructions, ["example_id", "prompt"])
        generate_to(
            prompts[["example_id", "prompt"]], {**options.settings, **named}, options.output
        )


def judge(options: argparse.Namespace) -> None:
    """Let AlpacaEval's judge compare every answer with the baseline's."""
    from ..cluster.lease import hold_lease
    from ..evaluation.alpaca_eval.annotate import annotate

    with hold_lease(options.work), recorded(options.settings, [options.output]):
        annotate(
            options.instructions, options.answers, options.settings, options.work, options.output
        )


def table(options: argparse.Namespace) -> None:
    """Write tableN.csv, .md, .html, and tableN.record.json on what they rest on."""
    match options.number:
        case 1:
            from ..evaluation.effective_rank import table1, table1_markdown

            _write_result(options, table1, table1_markdown)
        case 2:
            from ..evaluation.rm_bench import table2, table2_markdown

            _write_result(options, table2, table2_markdown)
        case 3:
            from ..evaluation.alpaca_eval.win_rates import table3, table3_markdown

            _write_result(options, table3, table3_markdown)
        case 4:
            from ..results.table4_rloo import table4, table4_markdown

            _write_result(options, table4, table4_markdown)
        case 5:
            from ..evaluation.scenarios import table5, table5_markdown

            _write_result(options, table5, table5_markdown)


def claims(options: argparse.Namespace) -> None:
    """Write claims.csv, .md, .html, and claims.record.json on what they rest on."""
    from ..results.claims import claims
    from ..results.claims_page import claims_markdown

    _write_result(options, claims, claims_markdown)


def _write_result(options: argparse.Namespace, measure: Any, lay_out: Any) -> None:
    """Measure, lay out, and write csv, md, html and the record, which comes last."""
    from ..files import write_text
    from ..frames import write_csv
    from ..results.html import page

    csv = options.output
    files = [csv, csv.with_suffix(".md"), csv.with_suffix(".html")]
    with recorded(options.settings, files, to=csv.with_suffix(".record.json")):
        frame = measure(options.runs, options.settings)
        text = lay_out(frame, options.settings["note"])
        write_csv(frame, files[0])
        write_text(text, files[1])
        write_text(page(text, csv.stem), files[2])


def figure(options: argparse.Namespace) -> None:
    """Draw a figure and write it in three formats, and figureN.record.json."""
    from ..frames import read_csv
    from ..results import figures_reward_models as figures
    from ..results import figures_rloo as tracking
    from ..results.plot_style import save

    runs, settings = options.runs, options.settings
    files = [options.output.with_suffix(suffix) for suffix in (".png", ".pdf", ".csv")]
    with recorded(settings, files, to=options.output.with_suffix(".record.json")):
        match options.number:
            case 1:
                drawn = figures.figure1(runs, settings)
            case 2:
                drawn = figures.figure2(runs, settings)
            case 3:
                drawn = figures.figure3(runs, settings)
            case 4:
                drawn = figures.figure4(read_csv(runs / "results" / "table5.csv"))
            case 5:
                drawn = tracking.figure5(runs, settings)
            case 6:
                drawn = tracking.figure6(runs, settings)
        save(*drawn, options.output)


def metrics(options: argparse.Namespace) -> None:
    """Write the numbers of all tables as one JSON file."""
    from ..files import write_json
    from ..results.dvc_metrics import numbers

    with recorded({}, [options.output]):
        write_json(numbers(options.tables), options.output)


def history(options: argparse.Namespace) -> None:
    """Keep what Snakemake knows of a run beside it."""
    from ..provenance.snakemake_metadata import pack

    pack(options.runs)


def release(options: argparse.Namespace) -> None:
    """Record a finished run with DVC and push it."""
    from ..provenance import release

    release.run(options)


def run_times(options: argparse.Namespace) -> None:
    """Write what each phase took, from Snakemake's benchmark files, as a page."""
    from ..files import write_text
    from ..results.html import page, run_times

    write_text(page(run_times(options.benchmarks), "Run times"), options.output)


def plan(options: argparse.Namespace) -> None:
    """Print what a preset will cost before anything is submitted."""
    from ..cluster import plan

    plan.run(options)


def crate(options: argparse.Namespace) -> None:
    """Write the RO-Crate of a finished run."""
    from ..provenance import ro_crate as crate

    crate.run(options)


def trace(options: argparse.Namespace) -> None:
    """Print where a file or a row of a table comes from."""
    from ..provenance import trace

    trace.run(options)


def verify(options: argparse.Namespace) -> None:
    """Print whether every file is what its record and DVC say."""
    from ..provenance import verify

    verify.run(options)


def evaluate(options: argparse.Namespace) -> None:
    """Print how robust somebody's reward model is, beside the reference rows."""
    from ..evaluation import evaluate

    evaluate.run(options)
