"""Table 5: five objectives, every backbone, four scenarios, with intervals and paired differences.

Left out on purpose: a ranking of the methods. The paper's table has one number a cell and no
spread; here a cell says how far it can be trusted, and an arrow says where a difference from
Bradley-Terry survives Holm's correction over the whole table.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from ..frames import read_frame
from ..metrics import kendall_tau_per_prompt
from ..results.tables import (
    arrows,
    bsr_weight,
    cell,
    correct,
    difference_columns,
    document,
    effective_weight,
    estimate_columns,
    paper_value,
    read_published,
    strengths,
)
from ..statistics import paired_difference, seed_mean

Array = NDArray[np.float64]

METRICS = {
    "in_domain_accuracy": "in_domain",
    "prompt_disjoint_tau": "prompt_disjoint",
    "response_disjoint_tau": "response_disjoint",
    "mutual_disjoint_tau": "mutual_disjoint",
}
HEADINGS = {
    "in_domain_accuracy": "in-domain, accuracy",
    "prompt_disjoint_tau": "prompt-disjoint, tau",
    "response_disjoint_tau": "response-disjoint, tau",
    "mutual_disjoint_tau": "mutual-disjoint, tau",
}
COLUMNS = [
    *("preset", "backbone", "method", "metric", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", "n_prompts", "n_undefined", "n_ties"),
    *("difference", "difference_low", "difference_high", "p_value", "p_holm"),
    *("weight_times_batch", "paper", "paper_model"),
]


def score_path(runs: Path, backbone: str, method: str, seed: int, split: str) -> Path:
    """Say where one reward model's scores of one split lie under a run folder."""
    return runs / "scores" / backbone / method / f"seed-{seed}" / f"{split}.parquet"


def table5(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Measure every backbone x objective x metric, then the length baseline (SPEC 5, figure 4).

    `settings`: preset, backbones {name: {paper_model}}, objectives, seeds, reference, bsr {weight,
    reduction}, micro_batch, resamples, seed, paper_values. The result has a row a cell and the
    columns `COLUMNS`: accuracies and taus are means over prompts and seeds with 95% intervals,
    `seed_std` is the spread of the seeds' means, `n_undefined` (prompts without a value) and
    `n_ties` (pairs of responses of one prompt with equal reward) are summed over seeds,
    `difference` is against `reference` on the same prompts and seeds, and `p_holm` corrects over
    every comparison of the table. What was not measured is NaN. Raises `InputError` for a missing
    file and for two score files that do not list the same responses.
    """
    if settings["reference"] not in settings["objectives"]:
        raise InputError(
            "objectives", str(settings["objectives"]), f"also the reference {settings['reference']}"
        )
    published = read_published(Path(settings["paper_values"]))
    rows: list[dict[str, Any]] = []
    for backbone, about in settings["backbones"].items():
        for row in _backbone_rows(runs, backbone, settings):
            weight = bsr_weight(row["method"], settings["bsr"]["weight"])
            model = about["paper_model"]
            row["paper_model"] = model
            row["paper"] = paper_value(
                published, "table5", model, row["method"], weight, row["metric"]
            )
            row["weight_times_batch"] = effective_weight(weight, settings)
            rows.append(row)
    correct(rows)
    rows += _length_rows(runs, settings)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return frame.assign(preset=settings["preset"], n_seeds=frame["n_seeds"].astype("Int64"))


def _backbone_rows(
    runs: Path, backbone: str, settings: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield one row a method and metric, methods outermost, as the paper's table reads."""
    methods, seeds = list(settings["objectives"]), list(settings["seeds"])
    sampling = {"seed": settings["seed"], "resamples": settings["resamples"]}
    values: dict[tuple[str, str], Array] = {}
    ties: dict[tuple[str, str], int] = {}
    for metric, split in METRICS.items():
        paths = [score_path(runs, backbone, m, s, split) for m in methods for s in seeds]
        rewards, gold = read_rewards(paths)
        per_file = [
            per_prompt(metric, r, g, p) for r, g, p in zip(rewards, gold, paths, strict=True)
        ]
        for i, method in enumerate(methods):
            own = slice(i * len(seeds), (i + 1) * len(seeds))
            values[method, metric] = np.stack(per_file[own])
            ties[method, metric] = count_ties(rewards[own])
    for method in methods:
        for metric in METRICS:
            own_values = values[method, metric]
            row = estimate_columns(seed_mean(own_values, **sampling), own_values)
            row |= {"backbone": backbone, "method": method, "metric": metric}
            row |= {"n_seeds": len(seeds), "n_ties": ties[method, metric]}
            if method != settings["reference"]:
                reference = values[settings["reference"], metric]
                gap = paired_difference(own_values, reference, **sampling)
                row |= difference_columns(gap)
            yield row


def _length_rows(runs: Path, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Score every response by its number of characters: what a model that only counts would get."""
    rows = []
    for metric, split in METRICS.items():
        path = runs / "splits" / f"{split}.parquet"
        frame = read_frame(path, ["prompt_id", "response", "gold"])
        frame = frame.assign(length=frame["response"].str.len().astype(np.float64))
        lengths, gold = _by_prompt(frame, ["length", "gold"], path)
        values = per_prompt(metric, lengths, gold, path)[None]
        estimate = seed_mean(values, seed=settings["seed"], resamples=settings["resamples"])
        row = estimate_columns(estimate, values) | {"seed_std": np.nan}
        rows.append(
            row
            | {"backbone": "-", "method": "length", "metric": metric, "n_ties": count_ties(lengths)}
        )
    return rows


def read_rewards(paths: Sequence[Path]) -> tuple[Array, Array]:
    """Read F score files of one split as rewards and gold, each (F, P, n responses a prompt).

    Values of two models are compared prompt by prompt, so every file must list the responses of
    the first one in its order; `InputError` names the file and the row that do not.
    """
    rewards, gold = [], []
    first: pd.Series | None = None
    for path in paths:
        frame = read_frame(path, ["prompt_id", "response_id", "reward", "gold"])
        listed = frame["prompt_id"].astype(str) + " / " + frame["response_id"].astype(str)
        first = listed if first is None else first
        if not listed.equals(first):
            raise _disagreement(path, listed, paths[0], first)
        of_path = _by_prompt(frame, ["reward", "gold"], path)
        rewards.append(of_path[0])
        gold.append(of_path[1])
    return np.stack(rewards), np.stack(gold)


def _disagreement(path: Path, listed: pd.Series, first_path: Path, first: pd.Series) -> InputError:
    """Name the first row in which two score files list another response."""
    fix = f"score both from one split; compared with {first_path}"
    if len(listed) != len(first):
        return InputError(path, f"{len(listed)} responses", f"{len(first)} responses", fix)
    row = int(np.flatnonzero((listed != first).to_numpy())[0])
    return InputError(f"{path}, row {row}", f"response_id {listed[row]}", first[row], fix)


def _by_prompt(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> list[Array]:
    """Arrange columns of one row a response as (P, n), prompts in order of their first row."""
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
    """Give each prompt its value (P,) from rewards and gold (P, n); NaN where it has none.

    The accuracy is 1 where the response with more gold has strictly more reward (a tied reward is
    wrong, D40) and undefined where gold is tied; tau is `kendall_tau_per_prompt` (D39).
    """
    if metric != "in_domain_accuracy":
        return kendall_tau_per_prompt(rewards, gold)
    if rewards.shape[1] != 2:
        raise InputError(path, f"{rewards.shape[1]} responses a prompt", "2, for an accuracy")
    wanted = gold[:, 0] - gold[:, 1]
    given = rewards[:, 0] - rewards[:, 1]
    return np.where(wanted == 0, np.nan, (wanted * given > 0).astype(np.float64))


def count_ties(rewards: Array) -> int:
    """Count pairs of responses of one prompt with equal reward; rewards are (..., n)."""
    i, j = np.triu_indices(rewards.shape[-1], k=1)
    return int((rewards[..., i] == rewards[..., j]).sum())


def table5_markdown(frame: pd.DataFrame, note: str = "", reference: str = "bt") -> str:
    """Lay the tidy table out as the paper does: backbone x method, the four metrics across.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    cells = [["backbone", "method", *HEADINGS.values()]]
    models = frame[frame["method"] != "length"]
    for part in [models, frame[frame["method"] == "length"]]:
        for (backbone, method), rows in part.groupby(["backbone", "method"], sort=False):
            by_metric = {row["metric"]: row for _, row in rows.iterrows()}
            cells.append([str(backbone), str(method), *(cell(by_metric[m]) for m in METRICS)])
    about = (
        f"Preset `{frame['preset'].iloc[0]}`, {int(models['n_seeds'].max())} seeds a reward model. "
        "Each cell is the mean over prompts and seeds ± half of its 95% bootstrap interval."
    )
    title = "Table 5: reward models in four scenarios"
    return document(title, about, note, cells, _legend(frame, reference))


def _legend(frame: pd.DataFrame, reference: str) -> list[str]:
    models, length = frame[frame["method"] != "length"], frame[frame["method"] == "length"]
    lines = [
        arrows(reference, "on the same prompts and seeds"),
        "- `length`: the reward is the number of characters; its interval is over prompts alone.",
        f"- Without a value, summed over seeds: {models['n_undefined'].sum():,} prompts "
        f"(`length`: {length['n_undefined'].sum():,}). Pairs of responses with equal reward: "
        f"{models['n_ties'].sum():,} (`length`: {length['n_ties'].sum():,}).",
    ]
    if models["paper"].notna().any():
        lines.append("- paper: the published number of the model in `paper_model`, without spread.")
    return [*lines, *strengths(models)]
