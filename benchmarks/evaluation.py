"""What `rm-robustness evaluate` costs: `python benchmarks/evaluation.py --data DIR`.

DIR has checkouts of AlpacaEval and RM-Bench, as `evaluate --data` takes them; `--share` of their
prompts are kept. A random model of SmolLM2's width, with a tokenizer trained on the same texts, is
evaluated by the command itself, in a process of its own. The baseline are bare forward passes of
transformers' classifier over the same tokens, one sequence at a time, whose CPU time counts neither
the start of Python nor tokenising. The exit status is 1 if a reward differs by more than 1e-5.

Predictions for one thread, written before the first run: the command needs 0.85 of the baseline's
CPU time with a tenth of the prompts (prompt trees save a fifth of the tokens; the start is 6 s and
tokenising 5 s) and 0.8 with all of them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
import workload
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from rm_robustness.evaluation.sets import real_sets
from rm_robustness.models import chat

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
MARKS = ["<pad>", "<|im_start|>", "<|im_end|>"]


def cut(data: Path, folder: Path, share: float) -> None:
    """Write a part of each file of both checkouts: the first prompts of each, the same for all."""
    for path in sorted(data.rglob("*.json")):
        if path.name == "annotations.json" or path.stem.endswith("_filtered"):
            rows = json.loads(path.read_text())
            to = folder / path.relative_to(data)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(json.dumps(rows[: max(8, int(share * len(rows)))]))


def make(folder: Path, texts: list[str], options: argparse.Namespace) -> tuple[Any, Any]:
    """Save and return a random reward model with a tokenizer of these texts."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=49_152, special_tokens=MARKS, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, pad_token=MARKS[0], eos_token=MARKS[2]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    model = workload.make_model(options, torch.float32).eval()
    model.save_pretrained(folder)
    return model, tokenizer


@torch.no_grad()
def bare(model: Any, sequences: list[list[int]]) -> tuple[list[float], float]:
    """Rewards one sequence at a time, and the CPU seconds of the passes."""
    started = time.process_time()
    rewards = [model(input_ids=torch.tensor([s]), use_cache=False).logits.item() for s in sequences]
    return rewards, time.process_time() - started


def command(folder: Path, data: Path, cache: Path) -> tuple[float, float]:
    """CPU seconds of `evaluate`, and those of them before and after scoring."""
    words = [sys.executable, "-m", "rm_robustness", "evaluate", str(folder), "--data", str(data)]
    environment = os.environ | {"RM_ROBUSTNESS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(run.stderr)
    scoring = float(re.findall(r"done in \S+ \(([\d.]+) s of CPU\)", run.stderr)[-1])
    whole = float(re.findall(r"done, ([\d.]+) s of CPU", run.stderr)[-1])
    return whole, whole - scoring


def main() -> None:
    """Print one table; compare the rewards."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--share", type=float, default=0.1)
    arguments.add_argument("--layers", type=int, default=4)
    arguments.set_defaults(model="smollm2-135m", device="cpu", threads=1, dtype="float32")
    options = arguments.parse_args()
    with TemporaryDirectory() as name:
        folder, data, cache = (Path(name) / part for part in ("model", "data", "cache"))
        cut(options.data, data, options.share)
        sets = real_sets([data])
        texts = [t for s in sets for column in ("prompt", "response") for t in s.frame[column]]
        model, tokenizer = make(folder, texts, options)
        whole, rest = command(folder, data, cache)
        print(workload.machine(options, model))
        worst, loop, tokens = 0.0, 0.0, 0
        scored = pd.concat([pd.read_parquet(path) for path in cache.rglob("*.parquet")])
        found = scored.set_index("response_id")["reward"]
        for each in sets:
            sequences = chat.frame_ids(tokenizer, each.frame)
            rewards, seconds = bare(model, sequences)
            loop, tokens = loop + seconds, tokens + sum(map(len, sequences))
            ours = found.loc[list(each.frame["response_id"])].to_numpy()
            worst = max(worst, float(abs(ours - rewards).max()))
    row = {
        "tokens": f"{tokens}",
        "bare passes, s of CPU": f"{loop:.1f}",
        "evaluate": f"{whole:.1f}",
        "of it not scoring": f"{rest:.1f}",
        "evaluate / bare": f"{whole / loop:.2f}",
        "rewards within": f"{worst:.1e}",
    }
    workload.show("`rm-robustness evaluate` beside the bare forward passes", [row])
    if not worst < 1e-5:
        sys.exit("a reward differs")


if __name__ == "__main__":
    main()
