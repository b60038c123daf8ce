"""Checks of speed: packed training against TRL's padded one, and the plan against the GPU."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import training
import workload
from gpu_number import Number, SkippedError
from gpu_precision import reward_model

from rm_robustness.cluster.model_cost import (
    Reading,
    Shape,
    forward_flops,
    prompt_trees,
    training_flops,
    training_memory,
)
from rm_robustness.cluster.plan import GPUS
from rm_robustness.models.packing import tree_tokens
from rm_robustness.models.scoring import score_ids

MFU = 0.4  # as `rm-robustness plan` assumes
STEPS = {"cpu": 1, "cuda": 8}  # of 16 pairs
ROW = 16384  # tokens of a row that is scored


def speed(options: Namespace) -> list[Number]:
    """Tokens a second of training with prompt trees over those of TRL's padded batches."""
    way = Namespace(device=options.device, dtype=_dtype(options))
    base, prompts = reward_model(options), _prompts(options)
    examples = [training.pair(*each[:2]) for each in prompts]
    tokens = sum(len(each[name]) for each in examples for name in ("chosen_ids", "rejected_ids"))
    seconds, memory = {}, {}
    for name in ("trl", "trees"):
        training.train(name, base, examples[: training.BATCH], way)  # warms up
        work = partial(training.train, name, base, examples, way)
        memory[name], run = _peak(work, options)
        seconds[name] = run.steps.wall
    numbers = [Number(f"{name}, tokens/s", tokens / took) for name, took in seconds.items()]
    numbers.append(Number("trees / TRL's, tokens/s", seconds["trl"] / seconds["trees"], least=1.0))
    if options.device == "cuda":
        numbers += [Number(f"{name}, peak GB", peak / 1e9) for name, peak in memory.items()]
        numbers.append(Number("trees / TRL's, peak", memory["trees"] / memory["trl"], most=1.0))
    return numbers


def plan(options: Namespace) -> list[Number]:
    """Time of training and scoring, and memory of training, over what `rm-robustness plan` says."""
    if options.device == "cpu":
        raise SkippedError("a GPU")
    base, prompts = reward_model(options), _prompts(options)
    way, shape = Namespace(device=options.device, dtype="bfloat16"), _shape(base)
    rate = MFU * 1e12 * _tflops()
    examples = [training.pair(*each[:2]) for each in prompts]
    training.train("trees", base, examples[: training.BATCH], way)
    peak, run = _peak(partial(training.train, "trees", base, examples, way), options)
    expected = training_flops(shape, _reading(prompts, 2), True, checkpointing=False) / rate
    row = max(
        sum(tree_tokens(each[:2]) for each in prompts[start : start + training.BATCH])
        for start in range(0, len(prompts), training.BATCH)
    )
    parts = training_memory(
        shape, reward=True, sequences=1, length=row, masked=False, bf16=True, checkpointing=False
    )
    # The model that the copies are made of is on the GPU beside them.
    planned = sum(parts.values()) + parts["weights"]
    base.to(torch.bfloat16)
    sequences = [sequence for each in prompts for sequence in each]
    owners = [number for number, each in enumerate(prompts) for _ in each]
    read = [
        workload.timed(partial(score_ids, base, sequences, ROW, owners), options.device)
        for _ in range(3)
    ]
    forward = forward_flops(shape, _reading(prompts, len(prompts[0]))) / rate
    return [
        Number("training, measured / planned time", run.steps.wall / expected, 0.5, 2.0),
        Number("training, measured / planned memory", peak / planned, most=1.1),
        Number("scoring, measured / planned time", read[-1].wall / forward, 0.5, 2.0),
    ]


def _prompts(options: Namespace) -> workload.Prompts:
    """Prompts with UltraFeedback's lengths and four responses."""
    drawn = workload.ultrafeedback(training.BATCH * STEPS[options.device])
    return workload.draw(drawn, workload.make_model(options, torch.float32).config.vocab_size)


def _dtype(options: Namespace) -> str:
    return "float32" if options.device == "cpu" else "bfloat16"


def _peak(work: Callable[[], Any], options: Namespace) -> tuple[float, Any]:
    """Bytes of GPU memory at the peak of a call, 0 on a CPU, and what it returns."""
    if options.device == "cpu":
        return 0.0, work()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    result = work()
    return float(torch.cuda.max_memory_allocated()), result


def _tflops() -> float:
    """Peak of this GPU, by its name."""
    name = torch.cuda.get_device_name()
    for known, (_, tflops) in GPUS.items():
        if known.split("-")[0] in name.lower().replace(" ", ""):
            return tflops
    raise SkippedError(f"the TFLOPS of a {name} (GPUS in cluster/plan.py)")


def _shape(model: Any) -> Shape:
    config = model.config
    return Shape(
        "llama",
        config.vocab_size,
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        True,
    )


def _reading(prompts: workload.Prompts, responses: int) -> Reading:
    """What the plan takes a reading of these prompts for: their mean lengths alone."""
    drawn = [each[:responses] for each in prompts]
    whole = np.mean([len(sequence) for each in drawn for sequence in each])
    trees = np.mean([tree_tokens(each) for each in drawn])
    # n (P + R) tokens in whole sequences and P + nR in trees.
    prompt = (responses * whole - trees) / (responses - 1)
    return prompt_trees(len(prompts), float(prompt), responses, float(whole - prompt))
