"""Commands of evaluation: scores, effective ranks, AlpacaEval, and `evaluate` for any model."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..provenance.record import write_record
from .command import command, manifests_of, option, path, paths, settings

BATCH_TOKENS = option("--batch-tokens", "tokens a batch; 0: one by one", type=int, default=8192)
FORMATS = ["float32", "tf32", "bfloat16"]  # those of `models.reward_model`, without its imports
DTYPE = option("--dtype", "number format of the model (D48)", choices=FORMATS, default="float32")


@command(
    option(
        "models",
        "folders, or models of the Hugging Face hub: ID or ID@COMMIT",
        metavar="MODEL",
        nargs="+",
    ),
    option(
        "--data",
        "preferences of your own (jsonl, json, parquet), or folders with checkouts of AlpacaEval "
        "and RM-Bench; without it both are fetched",
        type=Path,
        nargs="+",
        default=[],
    ),
    option("--preset", "instead, the data and reward models of a preset, runs/PRESET"),
    option("--revision", "commit of a hub model"),
    DTYPE,
    BATCH_TOKENS,
    option("--skip-long", "skip prompts that exceed the context", action="store_true"),
    option(
        "--transformations",
        "score pairs also under changes that keep the meaning, such as typos",
        action="store_true",
    ),
    option("--json", "print JSON instead of tables", action="store_true"),
    option("--card", "write a page with plots (HTML)", type=Path),
    option(
        "--model-card", "write the first model's README.md for the hub, with the results", type=Path
    ),
    online=True,
    for_people=True,
)
def evaluate(options: argparse.Namespace) -> None:
    """Measure how robust reward models are, on real text.

    Agreement with GPT-4's preferences between answers of many models to AlpacaEval's instructions,
    RM-Bench, and what length and style have to do with it; several models are compared by their
    differences on the same prompts. A stopped evaluation goes on where it was.
    """
    from ..data.cache import cache_folder
    from ..evaluation.evaluate import evaluate
    from ..evaluation.sets import real_sets, sets_of_preset
    from ..files import write_text
    from ..results.evaluation_text import as_json, as_text

    if options.preset and options.data:
        raise InputError("--preset", "--data beside it", "one of them")
    runs = Path("runs") / options.preset if options.preset else None
    for output in (options.card, options.model_card):
        _require_writable(output)
    frame = evaluate(
        options.models,
        sets_of_preset(runs) if runs else real_sets(options.data),
        cache_folder() / "scores",
        runs=runs,
        revision=options.revision,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
        skip_long=options.skip_long,
        transformations=options.transformations,
    )
    if options.card:
        from ..results.evaluation_card import card

        write_text(card(frame), options.card)
    if options.model_card:
        from ..evaluation.evaluate import folder_of_model
        from ..results.eval_metadata import model_card

        folder = folder_of_model(options.models[0], options.revision)
        write_text(model_card(frame, options.models[0], folder), options.model_card)
    print(as_json(frame) if options.json else as_text(frame))


def _require_writable(output: Path | None) -> None:
    """Refuse an output in a folder that is not there, or that is a folder, before hours of work."""
    if output and (output.is_dir() or not output.absolute().parent.is_dir()):
        found = "a folder" if output.is_dir() else "no such folder"
        raise InputError(output, found, "a file to write in a folder that is there")


@command(
    path("--model", "folder of the reward model"),
    paths("--data", "splits, or preferences of one's own (jsonl, json, parquet)"),
    paths("--output", "parquet files of scores, one for each of --data, in one folder"),
    DTYPE,
    BATCH_TOKENS,
    for_people=True,
)
def score(options: argparse.Namespace) -> None:
    """Score responses with a reward model."""
    from ..cluster.lease import hold_lease
    from ..data.preference_file import read_responses
    from ..evaluation.measure import Measuring
    from ..models.checkpoint import weight_files

    if len(options.output) != len(options.data):
        output_count = f"{len(options.output)} files"
        raise InputError("--output", output_count, f"one for each of {len(options.data)} of --data")
    section = {"batch_tokens": options.batch_tokens, "dtype": options.dtype}
    weights = weight_files(options.model)
    with hold_lease(options.output[0]), write_record(section, options.output, weights):
        frames = [read_responses(path) for path in options.data]
        sets = list(zip(options.data, frames, options.output, strict=True))
        for log in Measuring(section, 1).score(options.model, sets):
            log.remove()  # kept until all is done: Snakemake deletes a killed job's outputs


@command(
    settings("`scoring`; for effective ranks also `ranks`"),
    path("--models", "folder that has a folder seed-N for each seed"),
    option("--seeds", "a reward model for each", required=True, type=int, nargs="+"),
    option("--data", "evaluation sets (parquet)", type=Path, nargs="*", default=[]),
    option(
        "--ranks",
        "training pairs and RM-Bench (parquet): the sets of the effective ranks",
        type=Path,
        nargs=2,
        metavar=("TRAIN", "RM_BENCH"),
    ),
    paths("--output", "folder of the scores; with --ranks then one of the ranks"),
)
def measure(options: argparse.Namespace) -> None:
    """Measure reward models: scores and effective ranks.

    Some seeds of one backbone and objective, one after another; each model is loaded once.
    """
    from ..evaluation.measure import measure

    if len(options.output) != (2 if options.ranks else 1):
        found = f"{len(options.output)} folders"
        raise InputError("--output", found, "one; two with --ranks")
    measure(
        options.settings,
        options.models,
        options.seeds,
        options.data,
        dict(zip(("train", "rm_bench"), options.ranks or [], strict=False)),
        options.output[0],
        options.output[-1],
    )


@command(
    settings("`alpaca_eval.generation`"),
    path("--model", "folder of the policy"),
    path("--instructions", "instructions.parquet"),
    path("--output", "parquet file: .../POLICY/seed-N.parquet"),
)
def answers(options: argparse.Namespace) -> None:
    """Generate a policy's responses to AlpacaEval's instructions."""
    from ..cluster.lease import hold_lease
    from ..frames import read_frame
    from ..models.checkpoint import weight_files
    from ..models.generate import generate_to

    policy = {"model": str(options.model), "name": options.output.parent.name}
    weights = weight_files(options.model)
    record = write_record(options.settings, [options.output], weights)
    with hold_lease(options.output), record as facts:
        prompts = read_frame(options.instructions, ["example_id", "prompt"])
        prompts = prompts[["example_id", "prompt"]]
        facts |= generate_to(prompts, {**options.settings, **policy}, options.output)


@command(
    settings("`alpaca_eval.judge`; kind `gold` with the section `gold`, `vllm` with its folder"),
    path("--instructions", "instructions.parquet"),
    paths("--answers", "parquet files of responses"),
    path("--work", "folder for finished judgements, kept while the job is unfinished"),
    path("--output", "annotations.parquet"),
)
def judge(options: argparse.Namespace) -> None:
    """Compare responses with AlpacaEval's baseline, by its judge."""
    from ..cluster.lease import hold_lease
    from ..evaluation.alpaca_eval.annotate import annotate

    section = options.settings
    manifests = manifests_of(section["model"] if section["kind"] == "vllm" else None)
    with hold_lease(options.work), write_record(section, [options.output], manifests):
        annotate(options.instructions, options.answers, section, options.work, options.output)


COMMANDS = [evaluate, score, measure, answers, judge]
