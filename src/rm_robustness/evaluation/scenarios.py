"""Metrics of the four robustness scenarios: one value a prompt (paper, section 3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import InputError
from ..experiment.paths import location
from ..experiment.scenarios import IN_DOMAIN, SCENARIOS
from ..frames import read_frame
from ..metrics import correct_pairs, count_ties, kendall_tau_per_prompt
from ..pivot import Array
from ..ratios import mean_of_sets
from ..statistics import NO_ESTIMATE, Estimate, contrast

METRICS = {scenario.metric: name for name, scenario in SCENARIOS.items()}  # metric: its split
HEADINGS = {scenario.metric: scenario.heading for scenario in SCENARIOS.values()}


def score_path(runs: Path, backbone: str, objective: str, seed: int, split: str) -> Path:
    """Path of one reward model's scores of one split, or of `rm_bench`, in a run folder."""
    names = {"backbone": backbone, "objective": objective, "seed": seed, "split": split}
    return runs / location("scores", **names)


def read_rewards(paths: Sequence[Path]) -> tuple[Array, Array]:
    """Read F score files of one split as rewards and gold, each (F, P, n responses a prompt).

    Models are compared prompt by prompt, so all files must list the same responses in one order;
    raises `InputError` with the first file and row that differ.
    """
    rewards, gold = [], []
    first: pd.Series | None = None
    for path in paths:
        frame = read_frame(path, ["prompt_id", "response_id", "reward", "gold"])
        listed = frame["prompt_id"].astype(str) + " / " + frame["response_id"].astype(str)
        first = listed if first is None else first
        if not listed.equals(first):
            raise _disagreement(path, listed, paths[0], first)
        of_path = arrange(frame, ["reward", "gold"], path)
        rewards.append(of_path[0])
        gold.append(of_path[1])
    return np.stack(rewards), np.stack(gold)


def prompt_values(metric: str, paths: Sequence[Path]) -> tuple[pd.DataFrame, Array]:
    """Measure F score files of one split, with the errors of `read_rewards` and `per_prompt`.

    Returns values with a row a file and a column a prompt, named by its id, and rewards (F, P, n).
    """
    rewards, gold = read_rewards(paths)
    values = [per_prompt(metric, *of) for of in zip(rewards, gold, paths, strict=True)]
    prompts = read_frame(paths[0], ["prompt_id"])["prompt_id"].unique()
    return pd.DataFrame(np.stack(values), columns=prompts), rewards


class Float32Effect(NamedTuple):
    """What a number format changes on a sample of prompts, against float32 (D48)."""

    difference: float  # of the metric: in the scores' format minus in float32
    reordered: float  # share of the pairs of a prompt's responses, ties included
    prompts: int


def float32_effect(metric: str, path: Path) -> Float32Effect | None:
    """Measure what the format of a score file changes; None where it has no sample in float32."""
    frame = read_frame(path, ["prompt_id", "reward", "gold"])
    if "reward_float32" not in frame or frame["reward_float32"].isna().all():
        return None
    sample = frame[frame["reward_float32"].notna()].reset_index(drop=True)
    near, exact, gold = arrange(sample, ["reward", "reward_float32", "gold"], path)
    means = [np.nanmean(per_prompt(metric, rewards, gold, path)) for rewards in (near, exact)]
    i, j = np.triu_indices(near.shape[1], k=1)
    orders = [np.sign(rewards[:, i] - rewards[:, j]) for rewards in (near, exact)]
    reordered = float(np.mean(orders[0] != orders[1]))
    return Float32Effect(float(means[0] - means[1]), reordered, len(near))


def _disagreement(path: Path, listed: pd.Series, first_path: Path, first: pd.Series) -> InputError:
    """InputError for the first row in which two score files list different responses."""
    fix = f"score both from one split; compared with {first_path}"
    if len(listed) != len(first):
        return InputError(path, f"{len(listed)} responses", f"{len(first)} responses", fix)
    row = int(np.flatnonzero((listed != first).to_numpy())[0])
    return InputError(f"{path}, row {row}", f"response_id {listed[row]}", first[row], fix)


def arrange(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> list[Array]:
    """Reshape columns with a row a response to (P, n), prompts in order of their first row."""
    codes, prompts = pd.factorize(frame["prompt_id"])
    counts = np.bincount(codes, minlength=1)
    if len(prompts) == 0 or counts.min() < 2 or (counts != counts[0]).any():
        raise InputError(
            path,
            f"{counts.min()} to {counts.max()} responses a prompt",
            "equally many responses for every prompt, two or more",
        )
    order = np.argsort(codes, kind="stable")
    arrays = []
    for column in columns:
        values = frame[column].to_numpy(np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(f"{path}, row {row}", f"{column} {values[row]}", "a finite number")
        arrays.append(values[order].reshape(len(prompts), -1))
    return arrays


def per_prompt(metric: str, rewards: Array, gold: Array, path: Path) -> Array:
    """Compute the metric of each prompt (P,) from rewards and gold (P, n); NaN where undefined.

    Accuracy is 1 where the response with the higher gold has the strictly higher reward (a tied
    reward is wrong, D40) and undefined where gold is tied; tau is `kendall_tau_per_prompt` (D39).
    """
    if metric != IN_DOMAIN.metric:
        return kendall_tau_per_prompt(rewards, gold)
    if rewards.shape[1] != 2:
        raise InputError(path, f"{rewards.shape[1]} responses a prompt", "2, for an accuracy")
    better, tied = gold[:, 0] > gold[:, 1], gold[:, 0] == gold[:, 1]
    chosen, rejected = np.where(better, rewards.T, rewards.T[::-1])
    return np.where(tied, np.nan, correct_pairs(chosen, rejected))


def average(
    gaps: Mapping[str, Sequence[pd.DataFrame]], weights: Mapping[str, float] | None = None
) -> Estimate:
    """Mean over backbones and scenarios of paired differences, one list of scenarios a backbone.

    With `weights`, the sum over backbones of weight x the mean over scenarios. Each gap is (seeds,
    prompts), its columns named by prompt. Scenarios of one backbone share its
    seeds, and all share the prompts that they have in common; backbones have seeds of their own.
    No estimate where a scenario was not measured in every seed.
    """
    cells = [gap for of_backbone in gaps.values() for gap in of_backbone]
    if not cells or any(gap.empty or gap.isna().all(axis=1).any() for gap in cells):
        return NO_ESTIMATE
    prompts = list(dict.fromkeys(name for gap in cells for name in gap.columns))
    groups = [
        mean_of_sets([(gap.to_numpy(), list(gap.columns)) for gap in of_backbone], prompts)
        for of_backbone in gaps.values()
    ]
    weights = weights or dict.fromkeys(gaps, 1 / len(gaps))
    return contrast(groups, [weights[backbone] for backbone in gaps])


def tied_rewards(rewards: Array) -> int:
    """Count pairs of responses of one prompt with equal reward; rewards are (..., n)."""
    i, j = np.triu_indices(rewards.shape[-1], k=1)
    return count_ties(rewards[..., i].ravel(), rewards[..., j].ravel())
