"""Commands of evaluation: scores, effective ranks, AlpacaEval, and `evaluate` for any model."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..provenance.record import write_record
from .command import command, manifests_of, option, path, paths, settings

WEIGHTS = "model.safetensors"
BATCH_TOKENS = option("--batch-tokens", "tokens a batch; 0: one by one", type=int, default=8192)
FORMATS = ["float32", "tf32", "bfloat16"]  # those of `models.reward_model`, without its imports
DTYPE = option("--dtype", "number format of the model (D48)", choices=FORMATS, default="float32")


@command(
    option("model", "folder, or model of the Hugging Face hub", metavar="MODEL"),
    option("--preset", "whose data are used, runs/PRESET", default="demo"),
    option("--revision", "commit of a hub model"),
    DTYPE,
    BATCH_TOKENS,
    option("--skip-long", "skip prompts that exceed the context", action="store_true"),
    option("--json", "print JSON instead of a table", action="store_true"),
    online=True,
    for_people=True,
)
def evaluate(options: argparse.Namespace) -> None:
    """Evaluate any reward model on all scenarios and RM-Bench.

    Its metrics are printed with those of the preset's reward models, and its difference from each
    of these, paired by prompt.
    """
    from ..evaluation.evaluate import as_json, as_text, evaluate

    frame = evaluate(
        options.model,
        Path("runs") / options.preset,
        revision=options.revision,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
        skip_long=options.skip_long,
    )
    print(as_json(frame) if options.json else as_text(frame))


@command(
    path("--model", "folder of the reward model"),
    paths("--data", "splits (parquet)"),
    paths("--output", "parquet files of scores, one a split, in one folder"),
    DTYPE,
    BATCH_TOKENS,
    for_people=True,
)
def score(options: argparse.Namespace) -> None:
    """Score responses with a reward model."""
    from ..cluster.lease import hold_lease
    from ..frames import read_frame, write_frame
    from ..models import scoring
    from ..models.reward_model import load
    from ..models.score_log import ScoreLog

    if len(options.output) != len(options.data):
        output_count = f"{len(options.output)} files"
        raise InputError("--output", output_count, f"one for each of {len(options.data)} of --data")
    columns = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]
    section = {"batch_tokens": options.batch_tokens, "dtype": options.dtype}
    weights = [options.model / WEIGHTS]
    with hold_lease(options.output[0]), write_record(section, options.output, weights):
        splits = [read_frame(path, columns) for path in options.data]
        model, tokenizer = load(options.model, options.dtype)
        logs = []
        for path, split, output in zip(options.data, splits, options.output, strict=True):
            label = f"{'/'.join(options.model.parts[-3:])} {path.stem}"
            with ScoreLog(output, section, [path], options.model) as log:
                frame = scoring.score(model, tokenizer, split, options.batch_tokens, label, log)
            write_frame(frame, output)
            logs.append(log)  # kept until all is done: Snakemake deletes a killed job's outputs
        for log in logs:
            log.remove()


@command(
    settings("`ranks` with `scoring` and a seed"),
    path("--model", "folder of the reward model"),
    path("--train", "train.parquet"),
    path("--rm-bench", "rm_bench.parquet"),
    path("--output", "parquet file"),
)
def ranks(options: argparse.Namespace) -> None:
    """Measure the effective rank of hidden states.

    On the train set and on RM-Bench.
    """
    from ..evaluation.effective_rank import measure_ranks

    section = options.settings
    with write_record(section, [options.output], [options.model / WEIGHTS]):
        measure_ranks(
            options.model,
            options.train,
            options.rm_bench,
            section["rows"],
            section["seed"],
            section["batch_tokens"],
            options.output,
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
    from ..models.generate import generate_to

    policy = {"model": str(options.model), "name": options.output.parent.name}
    weights = [options.model / WEIGHTS]
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


COMMANDS = [evaluate, score, ranks, answers, judge]
