"""RM-Bench accuracies and table 2: is the right answer preferred, whatever the two are dressed in?

Per prompt, three chosen and three rejected responses give a 3 x 3 matrix of chosen_i > rejected_j:
hard above the diagonal (the rejected one has the richer style), normal on it, easy below it. Four
domains weigh the same, however many prompts they have, so the means are not plain means over
prompts; `spread` writes them as such, and `statistics` can then resample prompts and seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.rm_bench import DOMAINS, KINDS, STYLES
from ..errors import InputError
from ..frames import read_frame
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
from .scenarios import COLUMNS, score_path

Array = NDArray[np.float64]

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


def margins(bench: pd.DataFrame, rewards: Array) -> tuple[pd.DataFrame, Array]:
    """Give each prompt (prompt_id, domain; P rows) its matrix r(chosen_i) - r(rejected_j).

    `bench` has six rows a prompt with prompt_id, domain, style and kind, in any order; `rewards`
    (N,) is aligned with it. The matrices are (P, 3, 3), prompts in order of their first row.
    Raises `InputError`, naming the prompt, when one has not one response of each kind and style.
    """
    prompts = bench[["prompt_id", "domain"]].drop_duplicates("prompt_id").reset_index(drop=True)
    slots = pd.MultiIndex.from_product([prompts["prompt_id"], KINDS, STYLES])
    found = pd.MultiIndex.from_frame(bench[["prompt_id", "kind", "style"]])
    wrong = [*found[found.duplicated()], *found[~found.isin(slots)], *slots.difference(found)]
    if wrong:
        prompt, kind, style = wrong[0]
        count = int((found == wrong[0]).sum())
        raise InputError(
            f"prompt {prompt}",
            f"{count} responses '{kind}', '{style}'",
            f"one of each of {KINDS} in each of {STYLES}",
            "make rm_bench.parquet again",
        )
    series = pd.Series(rewards, index=found, dtype=np.float64).reindex(slots)
    chosen, rejected = np.moveaxis(series.to_numpy().reshape(len(prompts), 2, 3), 1, 0)
    return prompts, chosen[:, :, None] - rejected[:, None, :]


def per_prompt(bench: pd.DataFrame, rewards: Array) -> pd.DataFrame:
    """Give each prompt its shares of right comparisons: prompt_id, domain, hard, normal, easy.

    Right is r(chosen_i) > r(rejected_j), strictly: a tie is wrong, as upstream counts it (D40).
    hard is the mean of the strict upper triangle, normal of the diagonal, easy of the strict lower
    triangle (SPEC section 5). Arguments and errors as in `margins`.
    """
    prompts, margin = margins(bench, rewards)
    return prompts.assign(**{name: (margin > 0)[:, CELLS[name]].mean(axis=1) for name in CELLS})


def accuracies(per_prompt: pd.DataFrame) -> dict[str, float]:
    """Average what `per_prompt` gives into the eight numbers of table 2, in percent.

    A domain is the mean of its three difficulties over its prompts, safety over those of
    safety-refuse and safety-response pooled; hard, normal and easy are means over the four domains,
    not over prompts, and overall is the mean of the four domains (upstream's `compute_accuracy`).
    Nothing is a mean of fewer: a domain without all of its files is NaN, and then so are
    hard, normal, easy and overall.
    """
    numbers = {}
    for metric in METRICS:
        values, masks = percent(per_prompt, metric), domain_masks(metric, per_prompt["domain"])
        numbers[metric] = float(np.mean([values[m].mean() for m in masks])) if masks else np.nan
    return numbers


def percent(per_prompt: pd.DataFrame, metric: str) -> Array:
    """Give each prompt (P,) what a metric averages: one difficulty, or all three for a domain."""
    columns = [metric] if metric in DIFFICULTIES else list(DIFFICULTIES)
    return np.asarray(100 * per_prompt[columns].to_numpy(np.float64).mean(axis=1))


def domain_masks(metric: str, domains: pd.Series) -> list[NDArray[np.bool_]]:
    """Mark the prompts (P,) of each domain that a metric averages; none if a file is missing.

    `domains` (P,) are those of the prompts. A domain's own metric has one mask, the others four.
    """
    wanted = [FILES[metric]] if metric in FILES else list(FILES.values())
    if not {part for parts in wanted for part in parts} <= set(domains):
        return []
    return [domains.isin(parts).to_numpy() for parts in wanted]


def spread(values: Array, masks: Sequence[NDArray[np.bool_]]) -> Array:
    """Rewrite the mean over domains of their means as a plain mean over prompts, seed by seed.

    `values` is (S, P), `masks` the prompts of each of D domains. With m_d the seed's mean of a
    domain of n_d prompts and m the mean of the m_d, prompt p of n becomes m + n / (D n_d) (v_p -
    m_d): the influence function of the stratified mean. So the mean over prompts is m to rounding,
    a bootstrap over prompts has the variance sum_d var_d / (D^2 n_d) without a part from how many
    prompts of each domain it happens to draw, and differences of two such matrices are that of
    their differences. One domain comes back as it is. Prompts of no domain are left out, so the
    result is (S, n), and (S, 0) without masks.
    """
    if not masks:
        return values[:, :0]
    total = sum(int(mask.sum()) for mask in masks)
    means = [values[:, mask].mean(axis=1, keepdims=True) for mask in masks]
    mean = np.mean(means, axis=0)
    out = np.full(values.shape, np.nan)
    for mask, own in zip(masks, means, strict=True):
        weight = total / (len(masks) * mask.sum())
        out[:, mask] = mean + weight * (values[:, mask] - own)
    return np.asarray(out[:, np.any(masks, axis=0)])


def bench_path(runs: Path) -> Path:
    """Say where the benchmark lies under a run folder."""
    return runs / "raw" / "rm_bench.parquet"


def table2(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Measure every method's eight accuracies in percent, then the length baseline (SPEC 5).

    `settings`: preset, rm_bench {backbone, objectives, seeds, paper_model, published_as},
    reference, bsr {weight, reduction}, micro_batch, resamples, seed, paper_values. The result has
    a row a cell and the columns of table 5: `value` is the mean over seeds of `accuracies`, its
    95% interval over prompts and seeds; `difference` is against `reference` in points, on the same
    prompts and seeds; `p_holm` corrects over every comparison of the table, overlapping ones
    included, which Holm's method allows; `n_ties` counts the metric's comparisons of equal
    rewards, summed over seeds; `paper` is the published number at the same lambda, which the method
    of `published_as` takes from the one it names (D42). A metric of a missing domain is NaN, with
    n_prompts 0. Raises `InputError` for a missing file, a reference that is not among the
    objectives, and scores of other responses than the benchmark's.
    """
    about = settings["rm_bench"]
    methods, reference = about["objectives"], settings["reference"]
    if reference not in methods:
        raise InputError("rm_bench.objectives", f"{methods}", f"also the reference {reference}")
    columns = ["prompt_id", "response_id", "response", "domain", "style", "kind"]
    bench = read_frame(bench_path(runs), columns)
    published = read_published(Path(settings["paper_values"]))
    measured = {
        method: [
            read_scores(score_path(runs, about["backbone"], method, seed, "rm_bench"), bench)
            for seed in about["seeds"]
        ]
        for method in methods
    }
    rows: list[dict[str, Any]] = []
    for method in methods:
        weight = bsr_weight(method, settings["bsr"]["weight"])
        own = {"backbone": about["backbone"], "method": method, "n_seeds": len(about["seeds"])}
        own["paper_model"] = about["paper_model"]
        own["weight_times_batch"] = effective_weight(weight, settings)
        theirs = published_name(method, about["published_as"])
        against = None if method == reference else measured[reference]
        for row in _rows(bench, measured[method], against, settings):
            place = ("table2", about["paper_model"], theirs, weight, row["metric"])
            rows.append(row | own | {"paper": paper_value(published, *place)})
    correct(rows)
    length = np.array([len(text) for text in bench["response"]], np.float64)
    for row in _rows(bench, [length], None, settings):
        rows.append(row | {"backbone": "-", "method": "length"})
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return frame.assign(preset=settings["preset"], n_seeds=frame["n_seeds"].astype("Int64"))


def published_name(method: str, published_as: Mapping[str, str]) -> str:
    """Name the paper's method whose numbers belong to a method of ours; "" if they are another's.

    `published_as` maps ours to theirs where the two differ, as {"skywork": "bt"}: the numbers that
    the paper prints as bt are then skywork's, and not those of bt itself (D42).
    """
    if method in published_as:
        return published_as[method]
    return "" if method in published_as.values() else method


def read_scores(path: Path, bench: pd.DataFrame) -> Array:
    """Read the rewards (N,) of one score file, row by row those of the benchmark."""
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


def _rows(
    bench: pd.DataFrame,
    rewards: Sequence[Array],
    reference: Sequence[Array] | None,
    settings: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yield each metric's estimate over S reward vectors, and its difference from the reference."""
    sampling = {"seed": settings["seed"], "resamples": settings["resamples"]}
    ours = [per_prompt(bench, own) for own in rewards]
    theirs = [per_prompt(bench, own) for own in reference or []]
    tied = sum((margins(bench, own)[1] == 0).astype(int) for own in rewards)
    for metric in METRICS:
        masks = domain_masks(metric, ours[0]["domain"])
        values = spread(np.stack([percent(frame, metric) for frame in ours]), masks)
        row = estimate_columns(seed_mean(values, **sampling), values)
        cells = CELLS.get(metric, np.ones((3, 3), bool))
        row |= {"metric": metric, "n_ties": sum(int(tied[mask][:, cells].sum()) for mask in masks)}
        if theirs:
            against = spread(np.stack([percent(frame, metric) for frame in theirs]), masks)
            row |= difference_columns(paired_difference(values, against, **sampling))
        yield row


def table2_markdown(frame: pd.DataFrame, note: str = "", reference: str = "bt") -> str:
    """Lay the tidy table out as the paper does: a row a method, the eight accuracies across.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    cells = [["method", *METRICS]]
    for method, rows in frame.groupby("method", sort=False):
        by_metric = {row["metric"]: row for _, row in rows.iterrows()}
        cells.append([str(method), *(cell(by_metric[metric], digits=1) for metric in METRICS)])
    models = frame[frame["method"] != "length"]
    about = (
        f"Preset `{frame['preset'].iloc[0]}`, backbone `{models['backbone'].iloc[0]}`, "
        f"{int(models['n_seeds'].max())} seeds a method. Each cell is the accuracy in percent, "
        "± half of its 95% bootstrap interval over prompts and seeds."
    )
    legend = _legend(frame, models, reference)
    return document("Table 2: RM-Bench", about, note, cells, legend)


def _legend(frame: pd.DataFrame, models: pd.DataFrame, reference: str) -> list[str]:
    prompts = frame[frame["method"] == "length"].set_index("metric")["n_prompts"]
    missing = [name for name in FILES if not prompts[name]]
    ties = frame[frame["metric"].isin(FILES)].groupby(frame["method"] == "length")["n_ties"].sum()
    lines = [
        arrows(reference, "on the same prompts and seeds"),
        "- hard: the rejected response has the richer style; normal: both have one style; "
        "easy: the chosen one has the richer. These and overall are means over the four domains.",
        f"- Prompts: {', '.join(f'{int(prompts[name]):,} {name}' for name in FILES)}.",
        f"- A tie counts as wrong: {ties[False]:,} comparisons (`length`: {ties[True]:,}).",
        "- `length`: the reward is the number of characters; its interval is over prompts alone.",
    ]
    if missing:
        lines.append(
            f"- Files are missing for {', '.join(missing)}: without all of "
            f"{', '.join(DOMAINS)} no mean over the four domains is given."
        )
    if models["paper"].notna().any():
        lines.append("- paper: the published number of the model in `paper_model`, without spread.")
    return [*lines, *strengths(models)]
