"""What scoring.py and training.py share: lengths, sequences, models, times and peak memory.

lengths.csv has the tokens of 200 of AlpacaEval's 805 instructions (drawn with seed 0) and of the
answers of four models, which its columns name, as config/small.yaml renders them, in tokens of
SmolLM2: of the prompt, the longest common prefix of the four renderings, and of the rest of each.
They are counts of AlpacaEval's published outputs (tatsu-lab/alpaca_eval at cd543a1, CC BY-NC 4.0);
no text is stored. UltraFeedback's lengths are drawn: log-normal with the means that
config/paper.yaml has under `sizes`, coefficients of variation 1.0 (prompts) and 0.6 (responses).
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from rm_robustness.cluster.model_cost import shape_of
from rm_robustness.experiment.config import read_mapping
from rm_robustness.models.packing import packs

Lengths = list[list[int]]  # of each prompt: its tokens, then those of each of its responses
Prompts = list[list[list[int]]]  # of each prompt: the token ids of its sequences

Rows = list[dict[str, str]]  # of a printed table
Run = TypeVar("Run")

ROOT = Path(__file__).parents[1]
MODELS = {  # preset and backbone whose shape it has
    "tiny": ("demo", "llama"),
    "smollm2-135m": ("small", "SmolLM2"),
    "1b": ("paper", "Llama-3.2-1B"),
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that both scripts have."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--model", choices=list(MODELS), default="smollm2-135m")
    arguments.add_argument("--layers", type=int, help="default: 2 on a CPU, the model's on a GPU")
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--repetitions", type=int, default=3)
    return arguments


def preset(name: str) -> Any:
    """A preset, as it is written."""
    return read_mapping(ROOT / f"config/{name}.yaml", "a preset")


def alpaca_eval(prompts: int) -> Lengths:
    """The first of the 200 instructions, which are in random order."""
    frame = pd.read_csv(Path(__file__).with_name("lengths.csv"), nrows=prompts)
    return frame.to_numpy().tolist()


def ultrafeedback(prompts: int, responses: int = 4, seed: int = 0) -> Lengths:
    """Lengths with UltraFeedback's means; the same prompts whatever the number of responses."""
    rng, size = np.random.default_rng(seed), preset("paper")["sizes"]["sources"]["ultrafeedback"]
    columns = [_lognormal(rng, size["prompt_tokens"], 1.0, prompts)]
    columns += [_lognormal(rng, size["response_tokens"], 0.6, prompts) for _ in range(responses)]
    return np.stack(columns, axis=1).tolist()  # type: ignore[no-any-return]


def _lognormal(rng: np.random.Generator, mean: float, variation: float, n: int) -> Any:
    variance = np.log(1 + variation**2)
    drawn = rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), n)
    return np.clip(drawn.round(), 4, 2000).astype(int)


def draw(lengths: Lengths, vocabulary: int) -> Prompts:
    """Random tokens, none of them padding (0); the sequences of a prompt share its tokens."""
    rng = np.random.default_rng(0)
    prompts = []
    for prompt, *responses in lengths:
        shared = rng.integers(1, vocabulary, prompt).tolist()
        prompts.append([shared + rng.integers(1, vocabulary, n).tolist() for n in responses])
    return prompts


def make_model(options: argparse.Namespace, dtype: torch.dtype) -> Any:
    """A reward model with random weights; the same ones each time."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    name, backbone = MODELS[options.model]
    shape = shape_of(preset(name), backbone)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=options.layers or (2 if options.device == "cpu" else shape.layers),
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        num_labels=1,
        pad_token_id=0,
        max_position_embeddings=8192,
        attn_implementation="sdpa",
    )
    model = LlamaForSequenceClassification(config).to(options.device, dtype)
    if not packs(model):  # the product would read it in another way, and say so
        raise SystemExit("nothing to measure: prompt trees are off")
    return model


def machine(options: argparse.Namespace, model: Any) -> str:
    """One line on what ran."""
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    return (
        f"{options.model}, {model.config.num_hidden_layers} layers, {options.dtype}, {where}, "
        f"{options.threads} thread(s), torch {torch.__version__}"
    )


class Clock(NamedTuple):
    """Seconds of the wall clock and of the CPU, once the device has finished."""

    wall: float
    cpu: float

    @classmethod
    def now(cls, device: str) -> "Clock":
        """The time now."""
        if device == "cuda":
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: "Clock") -> "Clock":
        """The time since an earlier one."""
        return Clock(self.wall - start.wall, self.cpu - start.cpu)


def timed(work: Callable[[], Any], device: str) -> Clock:
    """The time that a call takes."""
    start = Clock.now(device)
    work()
    return Clock.now(device).since(start)


def interleaved(works: Mapping[str, Callable[[], Run]], repetitions: int) -> dict[str, list[Run]]:
    """What each way gives, all one after another, again and again.

    So a slow spell of the machine hits all of them.
    """
    runs: dict[str, list[Run]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            runs[name].append(work())
    return runs


def seconds(times: list[Clock], options: argparse.Namespace) -> float:
    """Median seconds: the CPU's where one thread does all, whatever else the machine does."""
    alone = options.device == "cpu" and options.threads == 1
    return float(np.median([clock.cpu if alone else clock.wall for clock in times]))


def faster(base: list[Clock], times: list[Clock]) -> dict[str, str]:
    """How many times as fast as `base`: median over the repetitions, with minimum and maximum."""
    ratios = np.array(base) / np.array(times)
    median, low, high = np.median(ratios, axis=0), ratios.min(axis=0), ratios.max(axis=0)
    return {
        name: f"{median[n]:.2f} ({low[n]:.2f}-{high[n]:.2f})"
        for n, name in enumerate(Clock._fields)
    }


def show(title: str, rows: Rows) -> None:
    """Print a table."""
    print(f"\n{title}\n{pd.DataFrame(rows).to_string(index=False)}", flush=True)


def memory(works: Mapping[str, Callable[[], Any]], device: str) -> Rows:
    """A row for each way: MB that it needs at its peak, beyond what there is before it."""
    return [{"way": name, "MB": f"{_peak(work, device):.0f}"} for name, work in works.items()]


def _peak(work: Callable[[], Any], device: str) -> float:
    """Peak memory of a call in MB, on a CPU in a forked child, which starts at what there is.

    A process that has run a backward pass cannot fork one that runs another.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    fork = multiprocessing.get_context("fork")
    result = fork.SimpleQueue()

    def measure() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        result.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6)

    child = fork.Process(target=measure)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"the child that measures memory ended with {child.exitcode}")
    return float(result.get())
