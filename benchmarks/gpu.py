"""Checks for a GPU, each with its numbers and their bounds: `python benchmarks/gpu.py`.

A check passes when every number is within its bounds, and is skipped, never passed, where
something that it needs is missing: a second GPU, vLLM. `--list` says what each checks, `--only`
runs some, and `--device cpu` runs what a CPU can, with a tiny model. The exit status is 1 if one
fails, and 2 for a name that there is not, or without a GPU.

No GPU has run it yet: bounds are from a CPU (bfloat16 there, 30 layers of SmolLM2's shape: 0.01 of
a gradient), those of speed from docs/SPEED.md and the plan.
"""

import argparse
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import gpu_precision
import gpu_processes
import gpu_scores
import gpu_speed
import torch
import workload
from gpu_number import Number, SkippedError
from transformers.utils import logging

from rm_robustness.errors import InputError, refuse
from rm_robustness.experiment.config import nearest

CHECKS: dict[str, Callable[[Namespace], list[Number]]] = {
    "bfloat16": gpu_precision.bfloat16,
    "packing": gpu_precision.packing,
    "step": gpu_precision.step,
    "batches": gpu_scores.batches,
    "scoring": gpu_scores.scoring,
    "resume": gpu_processes.resume,
    "ddp": gpu_processes.ddp,
    "fsdp2": gpu_processes.fsdp2,
    "vllm": gpu_processes.vllm,
    "speed": gpu_speed.speed,
    "plan": gpu_speed.plan,
}


def main(words: list[str] | None = None) -> int:
    """Run the checks, print a line for each number; 1 if one is out of its bounds."""
    options = _arguments().parse_args(words)
    names = options.only or list(CHECKS)
    for name in names:
        if name not in CHECKS:
            raise InputError("--only", f"'{name}'", "a check", nearest(name, list(CHECKS)))
    if options.list:
        for name in names:
            print(f"{name:9} {(CHECKS[name].__doc__ or '').splitlines()[0]}")
        return 0
    _choose_device(options)
    logging.set_verbosity_error()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        for name in names:
            start = time.perf_counter()
            for verdict, text in run(CHECKS[name], options):
                print(f"{verdict:8} {name:9} {text}", flush=True)
                failed += [name] * (verdict == "fail")
            print(f"         {name:9} {time.perf_counter() - start:.0f} s", flush=True)
    print(f"failed: {', '.join(dict.fromkeys(failed))}" if failed else "nothing failed")
    return bool(failed)


def run(
    check: Callable[[Namespace], list[Number]], options: Namespace
) -> Iterator[tuple[str, str]]:
    """Yield a verdict (pass, fail, skipped:) and what it is about, for each number of a check."""
    try:
        for number in check(options):
            yield "pass" if number.right else "fail", str(number)
    except SkippedError as missing:
        yield "skipped:", str(missing)
    # Whatever a library says of this GPU, or what cannot be measured at all: the others go on.
    except (Exception, SystemExit) as error:
        yield "fail", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--list", action="store_true", help="what each check is, and no more")
    arguments.add_argument("--only", nargs="+", metavar="NAME", help="these checks")
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument(
        "--model", choices=list(workload.MODELS), help="tiny on a CPU, else smollm2-135m"
    )
    arguments.add_argument("--layers", type=int, help="default: the model's; 2 on a CPU")
    return arguments


def _choose_device(options: Namespace) -> None:
    """One GPU for this process, `gpus` for those that it starts; raises InputError without one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if options.device == "cuda" else 0
    if options.device == "cuda" and not count:
        expected = "one; --device cpu checks what a CPU can"
        raise InputError("GPU", f"none that torch {torch.__version__} can use", expected)
    options.gpus = (visible.split(",") if visible else [str(n) for n in range(count)])[:count]
    options.threads = torch.get_num_threads()
    options.model = options.model or ("tiny" if options.device == "cpu" else "smollm2-135m")
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = options.gpus[0]  # a Trainer would take all


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        refuse(error)
