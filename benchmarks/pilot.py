"""What a design can find, from a pilot with `bt` alone: `python benchmarks/pilot.py runs/pilot`.

Two trainings of one objective with different seeds stand in for two objectives. Their difference
varies more than that of two objectives on one seed, which share initialisation and order of the
data, so the smallest difference found by 80 % of such experiments is an upper bound as far as
seeds go. What a prompt itself prefers, which a pilot of one objective cannot know, is left out.
"""

import argparse
from pathlib import Path

import numpy as np

from rm_robustness.errors import InputError, refuse
from rm_robustness.evaluation.scenarios import METRICS, per_prompt, prompt_values, read_rewards
from rm_robustness.frames import read_frame
from rm_robustness.pivot import Spread
from rm_robustness.statistics import seed_mean


def smallest_found(values: np.ndarray, seeds: int) -> float:
    """The difference that `seeds` seeds of each of two objectives find, from values (S, P)."""
    parts = seed_mean(values).components()
    prompts = values.shape[1]
    spread = Spread.of_components(
        seeds=2 * parts["seed_sd"] ** 2 / seeds,
        prompts=0.0,
        noise=2 * parts["noise_sd"] ** 2 / (seeds * prompts),
        seeds_df=seeds - 1,
        prompts_df=prompts - 1,
    )
    return spread.smallest_found()


def main() -> None:
    """Print a row a scenario."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--backbone", default="SmolLM2")
    parser.add_argument("--seeds", type=int, default=8, help="seeds of the planned experiment")
    options = parser.parse_args()
    print("| metric | prompts | seeds | bt | length | sd of a seed | sd of an entry | mdd80 |")
    print("|---|---|---|---|---|---|---|---|")
    for metric, split in METRICS.items():
        paths = sorted(options.runs.glob(f"scores/{options.backbone}/bt/seed-*/{split}.parquet"))
        if len(paths) < 2:
            found, expected = f"{len(paths)} seeds of bt with scores of {split}", "two or more"
            refuse(InputError(options.runs, found, expected, "docs/LAPTOP.md has the command"))
        values = prompt_values(metric, paths)[0].to_numpy()
        frame = read_frame(options.runs / "splits" / f"{split}.parquet").set_index("response_id")
        texts = frame["response"].loc[read_frame(paths[0])["response_id"]]
        lengths = texts.str.len().to_numpy(dtype=float)
        _, gold = read_rewards(paths[:1])
        length = np.nanmean(per_prompt(metric, lengths.reshape(gold[0].shape), gold[0], split))
        estimate = seed_mean(values)
        parts = estimate.components()
        found = smallest_found(values, options.seeds)
        print(
            f"| {metric} | {values.shape[1]} | {len(paths)} | {estimate.value:.3f} | {length:.3f} "
            f"| {parts['seed_sd']:.3f} | {parts['noise_sd']:.3f} | {found:.3f} |"
        )


if __name__ == "__main__":
    main()
