"""What BSR costs, which the paper does not report: `python benchmarks/objectives.py`, on a CPU.

First, microseconds of an objective's own forward and backward pass, for B pairs of rewards, and
their ratio to Bradley-Terry's of the same repetition. Second, the memory that it needs: the peak of
the tensors that the passes make, counted by torch's profiler, with B pairs of rewards and their
gradients outside. Third, that time as a share of a whole training step of the model with AdamW, and
the ratio of such steps, of a training with BSR to one with Bradley-Terry.

Predictions, written before the first run:

- Bradley-Terry takes 60 us (some ten calls of torch, forward and backward), with BSR 150 us, for a
  sum, a square and their gradients; hinge as BT, norm 2 times BT. B from 16 to 128 changes nothing:
  it is the calls that cost, not the numbers.
- Memory by counting, float32: BT keeps the differences, B x 4 bytes, and makes a few vectors of
  that size, at most 6 x 4B at once; BSR adds one such vector and scalars: at most 4B + 64 bytes,
  576 at B = 128. A micro-batch of 16 pairs keeps some gigabyte of activations.
- A step of SmolLM2-135M's width with one layer takes 2 s at B = 16: BSR is 5e-5 of it, and of the
  demo's model, whose step is about 0.2 s, 5e-4. The ratio of steps is 1.00, with noise of 0.05.
"""

import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
import training
import workload
from torch.profiler import ProfilerActivity, profile
from transformers.utils import logging

from rm_robustness.objectives import OBJECTIVES

PAIRS = (16, 60, 128)
CALLS = 200  # of a repetition
NAMES = [name for name in OBJECTIVES if name != "norm-bt"]  # which reads hidden states too


def rewards(pairs: int) -> list[torch.Tensor]:
    """Rewards of the chosen and of the rejected responses, (B,) each, that want gradients."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(pairs, generator=generator, requires_grad=True) for _ in range(2)]


def passes(name: str, sides: list[torch.Tensor]) -> None:
    """Forward and backward pass of an objective alone."""
    for side in sides:
        side.grad = None
    OBJECTIVES[name].function(*sides).backward()


def microseconds(name: str, sides: list[torch.Tensor]) -> float:
    """CPU microseconds of one forward and backward pass, a mean over `CALLS`."""
    start = time.process_time()
    for _ in range(CALLS):
        passes(name, sides)
    return (time.process_time() - start) / CALLS * 1e6


def peak_bytes(name: str, sides: list[torch.Tensor]) -> int:
    """Most bytes that the tensors of both passes have at once, beyond those of the rewards."""
    passes(name, sides)  # what torch makes once
    for side in sides:
        side.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        OBJECTIVES[name].function(*sides).backward()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(max(np.cumsum(changes)))


def spread(ratios: Any) -> str:
    """Median, least and most of the ratios of some repetitions."""
    return f"{np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f})"


def own_cost(options: Any) -> dict[tuple[str, int], float]:
    """Print time and memory of each objective; return its median microseconds."""
    rows, medians = [], {}
    for pairs in PAIRS:
        sides = rewards(pairs)
        works = {name: partial(microseconds, name, sides) for name in NAMES}
        workload.interleaved(works, 1)  # to warm up
        found = workload.interleaved(works, options.repetitions)
        base_bytes = peak_bytes("bt", sides)
        for name, times in found.items():
            ratio = np.array(times) / np.array(found["bt"])
            medians[name, pairs] = float(np.median(times))
            extra = peak_bytes(name, sides) - base_bytes
            rows.append(
                {
                    "objective": name,
                    "B": str(pairs),
                    "us": f"{np.median(times):.0f}",
                    "/ bt": spread(ratio),
                    "bytes more than bt": f"{extra} of {base_bytes}",
                }
            )
    workload.show("an objective's own forward and backward pass", rows)
    return medians


def of_a_step(options: Any, own: dict[tuple[str, int], float]) -> None:
    """Print BSR's share of a training step, and the ratio of steps with it to steps without."""
    base, rows = workload.make_model(options, torch.float32), []
    print(f"\n{workload.machine(options, base)}")
    for pairs in options.pairs:
        prompts = workload.draw(workload.ultrafeedback(pairs), base.config.vocab_size)
        examples = [training.pair(*each[:2]) for each in prompts]
        works = {
            name: partial(training.train, "trees", base, examples, options, pairs, name)
            for name in ("bt", "bt-bsr")
        }
        found = workload.interleaved(works, options.repetitions)
        steps = {name: [run.steps for run in runs] for name, runs in found.items()}
        seconds = workload.seconds(steps["bt"], options)
        extra = (own["bt-bsr", pairs] - own["bt", pairs]) / 1e6
        ratio = np.array([clock.cpu for clock in steps["bt-bsr"]])
        ratio /= np.array([clock.cpu for clock in steps["bt"]])
        rows.append(
            {
                "B": str(pairs),
                "step with bt, s": f"{seconds:.2f}",
                "BSR's share": f"{extra / seconds:.1e}",
                "step with bsr / bt": spread(ratio),
            }
        )
    workload.show("BSR in a training step with AdamW", rows)


def main() -> None:
    """Print both tables."""
    arguments = workload.parser(__doc__)
    arguments.add_argument("--pairs", type=int, nargs="+", choices=PAIRS, default=[16])
    options = arguments.parse_args()
    if options.device != "cpu":
        sys.exit("written for a CPU: on a GPU the calls of an objective do not wait for each other")
    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    of_a_step(options, own_cost(options))


if __name__ == "__main__":
    main()
