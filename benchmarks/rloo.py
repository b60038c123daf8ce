"""Profile of RLOO: `python benchmarks/rloo.py [POLICY REWARD_MODEL PROMPTS]`.

First, tokens a second of generation in a batch against one prompt at a time, the baseline, with
the same noise for every prompt. Second, a short real training: the shares of generation, of scoring
by the reward model, of the log-probabilities that advantages and ratios need, of the optimizer's
steps, and of the evaluation of the policy. Both in one process on one thread, by the wall clock.

Prediction, written before measuring: a step of decoding costs about 1.2 ms for one prompt and 4 ms
for 64 of these tiny models, and half of a batch waits for its longest answer: about 10 times the
tokens a second. Shares, guessed from a profile at other settings: generation 0.30, scoring 0.06,
log-probabilities 0.20, optimizer's steps 0.34, evaluation 0.10.
"""

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from rm_robustness.experiment.settings import policy as policy_settings
from rm_robustness.frames import read_frame
from rm_robustness.models.generate import prompt_seed, sample
from rm_robustness.training import rloo_trainer as rloo
from rm_robustness.training.policy_eval import PolicyEval
from rm_robustness.training.proxy_reward import ProxyReward

RUN = Path("runs/demo")


class Clock:
    """Seconds spent in wrapped methods, each without those of the wrapped methods it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside: list[str] = []
        self.since = 0.0

    def turn(self) -> None:
        """Add the time since the last turn to the innermost wrapped method."""
        now = time.perf_counter()
        if self.inside:
            self.seconds[self.inside[-1]] += now - self.since
        self.since = now

    def watch(self, owner: type, name: str, label: str) -> None:
        """Wrap a method; time in methods that an evaluation calls counts for the evaluation."""
        method: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.turn()
            self.inside.append("evaluations" if "evaluations" in self.inside else label)
            answer = method(*args, **kwargs)
            self.turn()
            self.inside.pop()
            return answer

        setattr(owner, name, timed)


def generation(policy: Path, prompts: Path, settings: dict[str, Any]) -> pd.DataFrame:
    """Time the generation of the same answers in one batch and one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    eligible_prompts, _ = rloo.eligible(tokenizer, read_frame(prompts), settings["prompt_length"])
    eligible_prompts = eligible_prompts.head(settings["prompts_per_update"])
    seeds = [prompt_seed(0, prompt) for prompt in eligible_prompts["prompt"]]
    options = {
        "ends": [tokenizer.eos_token_id],
        "pad": tokenizer.pad_token_id,
        "max_new_tokens": settings["response_length"],
        "temperature": settings["temperature"],
    }
    rows = []
    for size in (1, len(eligible_prompts)):
        sample(model, list(eligible_prompts["ids"][:size]), seeds[:size], **options)  # warm-up
        started, answers = time.perf_counter(), []
        for start in range(0, len(eligible_prompts), size):
            part = slice(start, start + size)
            answers += sample(model, list(eligible_prompts["ids"][part]), seeds[part], **options)
        seconds = time.perf_counter() - started
        ends = [
            [*answer, tokenizer.eos_token_id].index(tokenizer.eos_token_id) for answer in answers
        ]
        rows.append({"prompts at once": size, "tokens": sum(ends) + len(ends), "seconds": seconds})
    frame = pd.DataFrame(rows)
    frame["tokens/s"] = frame["tokens"] / frame["seconds"]
    frame["ratio"] = frame["tokens/s"] / frame["tokens/s"].iloc[0]
    return frame


def training(
    policy: Path, reward_model: Path, prompts: Path, settings: dict[str, Any]
) -> pd.DataFrame:
    """Time the parts of a real training of one epoch."""
    clock = Clock()
    clock.watch(rloo.Trainer, "train", "optimizer's steps and the rest")
    clock.watch(rloo.Trainer, "_generate_and_score_completions", "log-probabilities")
    clock.watch(rloo.Trainer, "_generate_single_turn", "generation")
    clock.watch(ProxyReward, "__call__", "scoring")
    clock.watch(PolicyEval, "evaluate", "evaluation of the policy")
    with tempfile.TemporaryDirectory() as work:
        rloo.train_policy(
            policy, reward_model, prompts, settings | {"epochs": 1}, 0, Path(work) / "work", "bench"
        )
    frame = pd.DataFrame(clock.seconds.items(), columns=["part", "seconds"])
    frame["share"] = frame["seconds"] / frame["seconds"].sum()
    return frame.sort_values("share", ascending=False)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policy", nargs="?", type=Path, default=RUN / "backbones/qwen2")
    default = RUN / "reward_models/llama/bt/seed-0"
    parser.add_argument("reward_model", nargs="?", type=Path, default=default)
    default = RUN / "splits/prompt_disjoint.parquet"
    parser.add_argument("prompts", nargs="?", type=Path, default=default)
    parser.add_argument("--config", type=Path, default=Path("config/demo.yaml"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = policy_settings(yaml.safe_load(options.config.read_text()), "large-bt")
    generation_frame = generation(options.policy, options.prompts, settings)
    print(generation_frame.round(2).to_string(index=False))
    parts = training(options.policy, options.reward_model, options.prompts, settings)
    print(parts.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
