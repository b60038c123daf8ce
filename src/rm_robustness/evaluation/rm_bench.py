"""RM-Bench accuracies: is the correct response preferred regardless of style?

Per prompt, three chosen and three rejected responses give a 3 x 3 matrix of chosen_i > rejected_j:
hard above the diagonal (the rejected one has the richer style), normal on it, easy below it. The
four domains have equal weight, however many prompts they have; `ratios.stratified_mean` weights
prompts accordingly, so that a mean over prompts varies as their accuracy does.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from ..experiment.scenarios import RM_BENCH_KINDS, RM_BENCH_STYLES
from ..frames import read_frame
from ..pivot import Array

DIFFICULTIES = ("hard", "normal", "easy")
METRICS = ("chat", "math", "code", "safety", *DIFFICULTIES, "overall")
FILES = {  # the parts of each domain; its prompts are pooled
    "chat": ("chat",),
    "math": ("math",),
    "code": ("code",),
    "safety": ("safety-refuse", "safety-response"),
}
CELLS = {  # cells [i, j] of the matrix: chosen i against rejected j, concise before markdown
    "hard": np.triu(np.ones((3, 3), bool), 1),
    "normal": np.eye(3, dtype=bool),
    "easy": np.tril(np.ones((3, 3), bool), -1),
}


def margin_matrices(bench: pd.DataFrame, rewards: Array) -> tuple[pd.DataFrame, Array]:
    """Compute the prompts (prompt_id, domain; P rows) and matrices r(chosen_i) - r(rejected_j).

    `bench` has six rows a prompt with prompt_id, domain, style and kind, in any order; `rewards`
    (N,) is aligned with it. The matrices are (P, 3, 3), prompts in order of their first row.
    Raises `InputError` for a prompt without exactly one response of each kind and style.
    """
    prompts = bench[["prompt_id", "domain"]].drop_duplicates("prompt_id").reset_index(drop=True)
    slots = pd.MultiIndex.from_product([prompts["prompt_id"], RM_BENCH_KINDS, RM_BENCH_STYLES])
    combinations = pd.MultiIndex.from_frame(bench[["prompt_id", "kind", "style"]])
    wrong = [
        *combinations[combinations.duplicated()],
        *combinations[~combinations.isin(slots)],
        *slots.difference(combinations),
    ]
    if wrong:
        prompt, kind, style = wrong[0]
        count = int((combinations == wrong[0]).sum())
        raise InputError(
            f"prompt {prompt}",
            f"{count} responses '{kind}', '{style}'",
            f"one of each of {RM_BENCH_KINDS} in each of {RM_BENCH_STYLES}",
            "make rm_bench.parquet again",
        )
    series = pd.Series(rewards, index=combinations, dtype=np.float64).reindex(slots)
    chosen, rejected = np.moveaxis(series.to_numpy().reshape(len(prompts), 2, 3), 1, 0)
    return prompts, chosen[:, :, None] - rejected[:, None, :]


def per_prompt(bench: pd.DataFrame, rewards: Array) -> pd.DataFrame:
    """Compute accuracies of each prompt: columns prompt_id, domain, hard, normal, easy.

    A comparison is correct if r(chosen_i) > r(rejected_j); a tie is wrong, as upstream (D40).
    hard is the mean of the strict upper triangle, normal of the diagonal, easy of the strict lower
    triangle (RM-Bench, arXiv 2410.16184, section 3). Arguments and errors as in `margin_matrices`.
    """
    prompts, margin = margin_matrices(bench, rewards)
    return prompts.assign(**{name: (margin > 0)[:, CELLS[name]].mean(axis=1) for name in CELLS})


def accuracies(per_prompt: pd.DataFrame) -> dict[str, float]:
    """Average accuracies by prompt to the eight numbers of table 2, in percent.

    A domain is the mean of its three difficulties over its prompts, safety over those of
    safety-refuse and safety-response pooled; hard, normal and easy are means over the four domains,
    not over prompts, and overall is the mean of the four domains (upstream's `compute_accuracy`).
    A domain that lacks a file is NaN, and then so are hard, normal, easy and overall.
    """
    numbers = {}
    for metric in METRICS:
        values, masks = (
            metric_percent(per_prompt, metric),
            domain_masks(metric, per_prompt["domain"]),
        )
        numbers[metric] = float(np.mean([values[m].mean() for m in masks])) if masks else np.nan
    return numbers


def metric_percent(per_prompt: pd.DataFrame, metric: str) -> Array:
    """Percentages (P,) that a metric averages: one difficulty, or the mean of all three."""
    columns = [metric] if metric in DIFFICULTIES else list(DIFFICULTIES)
    return np.asarray(100 * per_prompt[columns].to_numpy(np.float64).mean(axis=1))


def domain_masks(metric: str, domains: pd.Series) -> list[NDArray[np.bool_]]:
    """Masks (P,) of the prompts of each domain that a metric averages; empty if a file is missing.

    `domains` (P,) are those of the prompts. The metric of a domain has one mask, the others four.
    """
    domain_parts = [FILES[metric]] if metric in FILES else list(FILES.values())
    if not {part for parts in domain_parts for part in parts} <= set(domains):
        return []
    return [domains.isin(parts).to_numpy() for parts in domain_parts]


def read_scores(path: Path, bench: pd.DataFrame) -> Array:
    """Read the rewards (N,) of one score file, aligned with the rows of the benchmark."""
    frame, fix = read_frame(path, ["response_id", "reward"]), "score the benchmark again"
    if len(frame) != len(bench):
        raise InputError(path, f"{len(frame)} responses", f"{len(bench)}", fix)
    rewards: Array = frame["reward"].to_numpy(np.float64)
    same = (frame["response_id"] == bench["response_id"]).to_numpy()
    wrong = np.flatnonzero(~same | ~np.isfinite(rewards))
    if len(wrong):
        row = wrong[0]
        found = f"response_id {frame['response_id'][row]}, reward {rewards[row]}"
        expected = f"{bench['response_id'][row]} and a finite number"
        raise InputError(f"{path}, row {row}", found, expected, fix)
    return rewards
