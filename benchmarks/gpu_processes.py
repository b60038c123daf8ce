"""Checks that run in processes of their own: resuming, DDP, FSDP2, vLLM's server."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from gpu_number import Number, SkippedError, relative
from gpu_precision import BFLOAT16, FLOAT32
from gpu_worker import CASES
from gpu_world import training_settings, world
from safetensors.torch import load_file

from rm_robustness.cluster.launch import CONFIGS
from rm_robustness.files import read_json
from rm_robustness.frames import read_frame
from rm_robustness.models.generate import generate

WORKER = Path(__file__).with_name("gpu_worker.py")
BATCH = {"global_batch": 8, "micro_batch": 4}
# All of a small model's answers fit, and other models keep their memory.
SERVER = ["--max-model-len", "128", "--gpu-memory-utilization", "0.3", "--enforce-eager"]


def _run(
    options: Namespace,
    task: str,
    output: Path,
    settings: dict[str, Any],
    processes: int = 1,
    config: str | None = None,
) -> None:
    """Run a task of gpu_worker.py alone or, with a launcher's `config`, as some processes."""
    launch = []
    if config:
        launch = ["-m", "rm_robustness.cluster.launch", "--main_process_port", "0"]
        launch += ["--config_file", str(CONFIGS / f"{config}.yaml"), "--num_machines", "1"]
        launch += ["--num_processes", str(processes), "--num_cpu_threads_per_process", "1"]
    made = world(options)
    paths = map(str, (WORKER, task, made.backbone, made.splits, output))
    environment = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # the deterministic one
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(options.gpus[:processes])
    done = subprocess.run(
        [sys.executable, *launch, *paths, json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        said = next((line for line in lines if "Error: " in line), " ".join(lines[-3:]))
        raise RuntimeError(f"{task} in {processes} processes: {said.strip()}")


def resume(options: Namespace) -> list[Number]:
    """A training again, and one that goes on from a checkpoint, give the weights of the first."""
    whole, again, killed = (options.folder / name for name in ("whole", "again", "killed"))
    gpu = options.device == "cuda"
    settings, config = training_settings(bf16=gpu), "fsdp2" if gpu else None
    for work in (whole, again):
        _run(options, "train", work, settings, config=config)
    # As a kill leaves it: without what came after the last checkpoint but one.
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "final")
    steps = sorted(killed.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(steps[-1])
    _run(options, "train", killed, settings, config=config)
    if read_json(killed / "final/record.json")["resumed_from"] != steps[-2].name:
        raise RuntimeError(f"not resumed from {steps[-2].name}")
    first, *others = (
        load_file(work / "final/model.safetensors").values() for work in (whole, again, killed)
    )
    names = ("a second run, weights move by", "a resumed run, weights move by")
    return [
        Number(name, relative(other, first), most=0.0)
        for name, other in zip(names, others, strict=True)
    ]


def ddp(options: Namespace) -> list[Number]:
    """The gradient of two processes is that of one with the same global batch."""
    _need_two(options)
    return _gradients(options, "ddp", False, FLOAT32)


def fsdp2(options: Namespace) -> list[Number]:
    """The gradient of two GPUs that share the weights is that of one process, in either format."""
    if options.device == "cpu":
        raise SkippedError("two GPUs, which FSDP2 shares weights between")
    _need_two(options)
    exact = _gradients(options, "fsdp2", False, FLOAT32)
    return exact + _gradients(options, "fsdp2", True, BFLOAT16)


def _need_two(options: Namespace) -> None:
    if options.device == "cuda" and len(options.gpus) < 2:
        raise SkippedError("a second GPU, as NCCL takes one a process")


def _gradients(options: Namespace, config: str, bf16: bool, bound: float) -> list[Number]:
    """Each case's error of two processes against one in float32."""
    found = []
    for processes, half, launcher in ((1, False, None), (2, bf16, config)):
        output = options.folder / f"{config}-{processes}-{half}.safetensors"
        _run(options, "step", output, training_settings(half, **BATCH), processes, launcher)
        found.append(load_file(output))
    numbers, form = [], "bfloat16" if bf16 else "float32"
    for name in CASES:
        one, two = ([x[key] for key in x if key.startswith(f"{name} ")] for x in found)
        error = relative(two, one)
        numbers.append(Number(f"{name}, {form} gradient, error", error, most=bound))
    return numbers


def vllm(options: Namespace) -> list[Number]:
    """Greedy answers of vLLM's server are those of transformers, in float32."""
    if importlib.util.find_spec("vllm") is None:
        raise SkippedError("vLLM (make env VLLM=1)")
    if options.device == "cpu":
        raise SkippedError("a GPU, for the build of vLLM that the product uses")
    made = world(options)
    frame = read_frame(made.splits / "mutual_disjoint.parquet")
    prompts = list(frame["prompt"].drop_duplicates()[:16])
    greedy = {"model": str(made.backbone), "dtype": "float32", "temperature": 0.0}
    greedy |= {"max_new_tokens": 32}
    here = generate(prompts, {**greedy, "kind": "transformers"})
    torch.cuda.empty_cache()
    served = {"kind": "vllm", "serve": True, "serve_arguments": SERVER}
    there = generate(prompts, greedy | served)
    same = sum(one == other for one, other in zip(here, there, strict=True)) / len(prompts)
    return [Number("share of answers that are equal", same, least=1.0)]
