"""A run folder with instructions, policies' answers to them, and the judge's annotations."""

from pathlib import Path

import pandas as pd

from rm_robustness.data.alpaca_eval import instructions
from rm_robustness.data.synthetic.responders import TRAIN_ROWS, TRAIN_STYLE, respond, responders
from rm_robustness.evaluation.alpaca_eval.annotate import annotate
from rm_robustness.frames import read_frame, write_frame

POLICIES = [("sft", 0, "maple"), ("large-bt", 0, "elm"), ("large-bt", 1, "oak")]
POLICIES += [("large-bt-bsr", 0, "ash"), ("large-bt-bsr", 1, "beech")]
JUDGE = {
    "kind": "gold",
    "model": "gold",
    "concurrency": 4,
    "retries": 1,
    "gold": {"kind": "programmatic"},
}
HOSTED = {
    "kind": "hosted",
    "model": "gold",
    "base_url_env": "TEST_JUDGE_URL",
    "api_key_env": "TEST_JUDGE_KEY",
    "concurrency": 4,
    "retries": 1,
    "price_per_1000_input_tokens": None,
    "price_per_1000_output_tokens": None,
}


def write_run(runs: Path, count: int) -> Path:
    """A run folder with instructions and the answers of five policies."""
    source = {"kind": "synthetic", "seed": 1, "instructions": count}
    instructions({**source, "length_quality_correlation": 0.6}, runs / "raw" / "alpaca_eval")
    baseline = pd.read_parquet(runs / "raw" / "alpaca_eval" / "instructions.parquet")
    world = responders(TRAIN_ROWS, [TRAIN_STYLE], 0.6)
    for policy, seed, name in POLICIES:
        answers = [respond(2, prompt, world[name]) for prompt in baseline["prompt"]]
        frame = baseline[["example_id", "prompt"]].assign(
            response=answers, response_model=policy, finished=True
        )
        write_frame(frame, outputs(runs, policy, seed))
    return runs


def outputs(runs: Path, policy: str, seed: int) -> Path:
    return runs / "alpaca_eval" / "outputs" / policy / f"seed-{seed}.parquet"


def judged(runs: Path, settings=JUDGE, policies=POLICIES[:2]) -> pd.DataFrame:
    files = [outputs(runs, policy, seed) for policy, seed, _ in policies]
    output = runs / "alpaca_eval" / "annotations.parquet"
    instructions = runs / "raw" / "alpaca_eval" / "instructions.parquet"
    annotate(instructions, files, settings, runs / "work" / "alpaca_eval", output)
    return pd.read_parquet(output)


def change(runs: Path, **columns: object) -> None:
    """Overwrite the first rows of columns of the SFT model's answers."""
    path = outputs(runs, "sft", 0)
    frame = read_frame(path)
    for name, values in columns.items():
        frame.loc[: len(values) - 1, name] = values
    write_frame(frame, path)
