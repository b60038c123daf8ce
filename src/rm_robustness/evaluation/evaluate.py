"""Evaluation of any reward models on any sets: metrics, baselines, and paired differences.

Every row of the result is one number with its interval. Models read the same responses, so they are
compared by the difference on each prompt; so are a model and the seeds of a preset's own reward
models. A difference is about these checkpoints: how they would vary with other seeds of their
training is not known.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import InputError
from ..experiment.paths import location
from ..frames import read_csv, read_frame
from ..models.adapters import model_sums
from ..models.heads import context
from ..models.hub import folder_of
from ..models.reward_model import load
from ..models.scoring import Plan, plan_frame
from ..pivot import Array
from ..progress import Progress
from ..statistics import NO_ESTIMATE, Estimate, contrast, seed_mean
from . import rm_bench, scenarios
from .estimates import estimate_columns
from .invariance import invariance_rows
from .published import published
from .score_cache import ScoreCache
from .set_metrics import RM_BENCH, Values, lengths, metric, set_values, tied_pairs
from .sets import EvaluationSet
from .transformations import TRANSFORMATIONS, changed_rows, transformed

COLUMNS = [
    *("preset", "set", "title", "statistic", "metric", "kind", "name", "against"),
    *("transformation", "value", "ci_low", "ci_high", "p_value", "mdd80", "seed_std"),
    *("n_seeds", "n_prompts", "n_left_out", "n_undefined", "n_ties", "contains_model", "source"),
]
KINDS = ("model", "baseline", "reference", "published", "difference")
COUNTS = ("n_seeds", "n_prompts", "n_left_out", "n_undefined", "n_ties")
KEYS = ["prompt_id", "response_id"]
BASELINE = "length"  # the number of characters as reward
SEED = 0  # of the transformations
SKIP_LONG = "responses are never truncated; --skip-long leaves such prompts out and counts them"
Row = dict[str, Any]


class Measured(NamedTuple):
    """What one model, or a baseline, gives to the responses of a set that it could read."""

    frame: pd.DataFrame
    rewards: Array

    def at(self, prompts: pd.Index) -> "Measured":
        """The part of some prompts."""
        rows = self.frame["prompt_id"].isin(prompts).to_numpy()
        return Measured(self.frame[rows], self.rewards[rows])


class _Planned(NamedTuple):
    """One set as one model will read it, or those texts of it that a transformation changes.

    `frame` keeps the index of the set's frame.
    """

    set_name: str
    transformation: str
    frame: pd.DataFrame
    left_out: int
    plan: Plan


class _Result(NamedTuple):
    """What one model gives to each set, the prompts left out, and what transformations change."""

    sets: dict[str, Measured]
    left_out: dict[str, int]
    changed: dict[tuple[str, str], tuple[pd.DataFrame, Array]]  # the whole set, rewards or NaN


def evaluate(
    models: Sequence[str],
    sets: Sequence[EvaluationSet],
    cache: Path,
    *,
    runs: Path | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    batch_tokens: int = 8192,
    skip_long: bool = False,
    transformations: bool = False,
) -> pd.DataFrame:
    """Evaluate reward models on sets of prompts with responses and their gold.

    A model is a folder or an id of the hub, at `revision` or as ID@REVISION. `runs` is the run
    folder of a preset, whose own reward models become references where its tables are there.
    `transformations` also scores the sets of pairs under each meaning-preserving change.

    Returns a tidy frame with `COLUMNS`, a row a number. `kind` is one of `KINDS`: a model; the
    baseline `length`; a reference, the mean over the seeds of a backbone and objective of the
    preset; a difference `name` minus `against`, paired by prompt, of every model from the first one
    and from each reference (NaN where not all of its seeds' score files are there or the model is
    one of them, `contains_model`). `metric` is unique to set and statistic (`set_metrics`);
    RM-Bench's are in percent.

    All texts of all models are tokenised, and all models loaded, before anything is scored. Scores
    are kept in `cache`. Prompts with a response beyond a model's context raise InputError or, with
    `skip_long`, are left out and counted; responses are never truncated. Raises InputError also for
    what `reward_model.load` rejects, for a model given twice, for a template that is missing or
    loses a text, and for a reward that is not finite.
    """
    sources = _distinct(models, revision)
    titles = {s.name: s.title for s in sets}
    results = _score_all(sources, sets, cache, dtype, batch_tokens, skip_long, transformations)
    rows: list[Row] = []
    for name, result in results.items():
        for set_name, measured in result.sets.items():
            identity = {"kind": "model", "name": name, "set": set_name, "n_seeds": 1}
            identity["n_left_out"] = result.left_out[set_name]
            rows += [row | identity for row in _estimates(set_name, measured)]
        for (set_name, transformation), (other, after) in result.changed.items():
            before = result.sets[set_name]
            rows += invariance_rows(
                before.rewards,
                after,
                before.frame,
                other,
                set_name=set_name,
                transformation=transformation,
                model=name,
            )
    first, *others = results
    for set_name, measured in results[first].sets.items():
        length = Measured(measured.frame, lengths(measured.frame))
        identity = {"kind": "baseline", "name": BASELINE, "set": set_name, "n_seeds": 1}
        rows += [row | identity for row in _estimates(set_name, length)]
    for name in others:
        for set_name, measured in results[name].sets.items():
            rows += _differences(name, first, set_name, measured, results[first].sets[set_name])
    if runs:
        references = _references(runs, list(titles))
        for name, result in results.items():
            rows += _compared(references, name, result.sets, runs)
        rows += _rows(references)
    rows += _rows(published(sets))
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=COLUMNS)
    return finished(frame, titles, runs.name if runs else "")


def _rows(frame: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for _, row in frame.iterrows()]


def finished(frame: pd.DataFrame, titles: dict[str, str], preset: str = "") -> pd.DataFrame:
    """Rows as `evaluate` returns them: titles and metrics filled in, types set, sets in order."""
    texts = ("against", "transformation", "source")
    places = {name: n for n, name in enumerate(titles)}
    frame = frame.assign(
        preset=preset,
        title=frame["set"].map(titles),
        metric=[metric(s, name) for s, name in zip(frame["set"], frame["statistic"], strict=True)],
        contains_model=frame["contains_model"].eq(True),
        **{name: frame[name].fillna("") for name in texts},
    ).astype(dict.fromkeys(COUNTS, "Int64"))
    order = frame["set"].map(places) * len(KINDS) + frame["kind"].map(KINDS.index)
    return frame.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def folder_of_model(name: str, revision: str | None) -> Path:
    """The folder that a model of `evaluate` was read from."""
    [(source, commit)] = _distinct([name], revision).values()
    return folder_of(source, commit)


def _distinct(models: Sequence[str], revision: str | None) -> dict[str, tuple[str, str | None]]:
    """Source and revision of each model by its name; InputError for one that is given twice."""
    sources: dict[str, tuple[str, str | None]] = {}
    seen: dict[object, str] = {}
    for name in models:
        source, at, commit = name.rpartition("@")
        if not at or Path(name).exists():
            source, commit = name, ""
        if commit and revision:
            raise InputError("--revision", f"{revision} beside {name}", "one of them")
        where = Path(source).resolve() if Path(source).exists() else source
        key = (where, commit or revision)
        if key in seen:
            raise InputError(name, f"the model of {seen[key]} again", "each model once")
        seen[key] = name
        sources[name] = source, commit or revision
    if revision and len(models) > 1:
        fix = "write it behind each model: NAME@COMMIT"
        raise InputError("--revision", f"{len(models)} models", "one", fix)
    return sources


def _score_all(
    sources: dict[str, tuple[str, str | None]],
    sets: Sequence[EvaluationSet],
    cache: Path,
    dtype: str,
    batch_tokens: int,
    skip_long: bool,
    transformations: bool,
) -> dict[str, _Result]:
    """Score all sets with each model, one model in memory at a time."""
    planned: dict[str, list[_Planned]] = {}
    work: dict[str, int] = {}  # of a token: its part in the whole
    loaded: tuple[Any, Any] | None = None
    for name, (source, commit) in sources.items():
        loaded = None
        loaded = load(source, dtype, commit)
        planned[name] = _plan(*loaded, sets, batch_tokens, skip_long, transformations)
        millions = sum(weight.numel() for weight in loaded[0].parameters()) // 10**6
        work[name] = max(millions, 1) if len(sources) > 1 else 1
    total = sum(work[name] * item.plan.tokens for name in planned for item in planned[name])
    unit = "tokens" if len(sources) == 1 else "tokens x million parameters"
    progress = Progress("", total, unit)
    results = {}
    for name, (source, commit) in sources.items():
        if len(sources) > 1:
            loaded = None
            loaded = load(source, dtype, commit)
        assert loaded is not None
        model, progress.label = loaded[0], "/".join(Path(name).parts[-3:])
        depends_on = model_sums(folder_of(source, commit)), dtype, batch_tokens, model.device.type
        scores, part = ScoreCache(cache, *depends_on), _Part(progress, work[name])
        rewards = [
            _finite(scores.score(model, item.plan, item.frame, part)["reward"], item)
            for item in planned[name]
        ]
        results[name] = _result(planned[name], rewards)
    return results


def _result(planned: list[_Planned], rewards: list[Array]) -> _Result:
    """Arrange what a model gave to what was planned for it."""
    result = _Result({}, {}, {})
    for item, own in zip(planned, rewards, strict=True):
        if not item.transformation:
            result.sets[item.set_name] = Measured(item.frame, own)
            result.left_out[item.set_name] = item.left_out
            continue
        before = result.sets[item.set_name].frame
        other, after = before.copy(), np.full(len(before), np.nan)
        read = before.index.isin(item.frame.index)
        other[read], after[read] = item.frame, own
        result.changed[item.set_name, item.transformation] = other, after
    return result


class _Part(Progress):
    """A model's part in the progress of all: its tokens count by its parameters."""

    def __init__(self, whole: Progress, weight: int) -> None:
        super().__init__(whole.label, whole.total, whole.unit)
        self.whole, self.weight = whole, weight

    def skip(self, count: int) -> None:
        self.done += count
        self.whole.skip(count * self.weight)

    def update(self, done: int, note: str = "") -> None:
        self.whole.update(self.whole.done + (done - self.done) * self.weight, note)
        self.done = done


def _plan(
    model: Any,
    tokenizer: Any,
    sets: Sequence[EvaluationSet],
    batch_tokens: int,
    skip_long: bool,
    transformations: bool,
) -> list[_Planned]:
    """Each set as the model will read it, and if asked each set of pairs under each transformation.

    Without a set of pairs every set is transformed. Of a transformed set only the texts that differ
    are read.
    """
    pairs = [s.name for s in sets if s.frame.groupby("prompt_id").size().max() == 2]
    changed = (pairs or [s.name for s in sets]) if transformations else []
    planned = []
    for of_set in sets:
        frame = of_set.frame
        plan = _plan_set(of_set.name, model, tokenizer, frame, batch_tokens, skip_long)
        if not len(plan.rows):
            found = f"no prompt that fits the {context(model)} tokens of the model's context"
            raise InputError(of_set.name, found, "some", "use other data")
        fitting = frame.iloc[plan.rows]
        left_out = frame["prompt_id"].nunique() - fitting["prompt_id"].nunique()
        planned.append(_Planned(of_set.name, "", fitting, left_out, plan))
        for name in TRANSFORMATIONS if of_set.name in changed else ():
            other = transformed(fitting, name, SEED)
            other = other[changed_rows(fitting, other)]
            if len(other):  # what it makes too long is left as it was
                plan = _plan_set(of_set.name, model, tokenizer, other, batch_tokens, True)
                planned.append(_Planned(of_set.name, name, other.iloc[plan.rows], 0, plan))
    return planned


def _plan_set(
    set_name: str,
    model: Any,
    tokenizer: Any,
    frame: pd.DataFrame,
    batch_tokens: int,
    skip_long: bool,
) -> Plan:
    """`scoring.plan_frame`, with the set in an error."""
    try:
        return plan_frame(model, tokenizer, frame, batch_tokens, skip_long=skip_long, fix=SKIP_LONG)
    except InputError as error:
        if not error.where.startswith("response "):
            raise
        where = f"{set_name}, {error.where}"
        raise InputError(where, error.found, error.expected, error.fix) from error


def _finite(scores: "pd.Series[float]", item: _Planned) -> Array:
    """The rewards (N,) of a set; InputError for one that is not finite."""
    rewards = np.asarray(scores, np.float64)
    wrong = np.flatnonzero(~np.isfinite(rewards))
    if len(wrong):
        raise InputError(
            f"{item.set_name}, response {item.frame['response_id'].iloc[wrong[0]]}",
            f"a reward of {rewards[wrong[0]]}",
            "a finite one",
            "the weights are broken, or --dtype float32 is needed",
        )
    return rewards


def _estimates(set_name: str, measured: Measured) -> list[Row]:
    """Rows of a set's statistics."""
    ties: int | float = np.nan
    if set_name != RM_BENCH:
        ties = tied_pairs(measured.frame, measured.rewards)
    return [
        {"statistic": name, "n_ties": ties} | estimate_columns(seed_mean(values), values)
        for name, values in set_values(set_name, measured.frame, measured.rewards).items()
    ]


def _differences(
    name: str, against: str, set_name: str, measured: Measured, other: Measured
) -> list[Row]:
    """Rows of one model's statistics minus another's, on the prompts that both could read."""
    prompts = pd.Index(measured.frame["prompt_id"].unique())
    prompts = prompts.intersection(other.frame["prompt_id"].unique(), sort=False)
    if not len(prompts):
        return []
    values, others = (set_values(set_name, *m.at(prompts)) for m in (measured, other))
    identity = {"kind": "difference", "name": name, "against": against, "set": set_name}
    return [
        identity
        | {"statistic": statistic, "n_seeds": 1}
        | _difference(contrast([values[statistic], others[statistic]], [1, -1]))
        for statistic in values
    ]


def _difference(gap: Estimate) -> Row:
    """Columns of a paired difference; `mdd80` is the smallest one that is found with 80%."""
    return {
        "value": gap.value,
        "ci_low": gap.low,
        "ci_high": gap.high,
        "p_value": gap.p_value,
        "mdd80": gap.smallest_found(),
        "n_prompts": gap.n_prompts,
    }


def _references(runs: Path, sets: list[str]) -> pd.DataFrame:
    """Read the rows of the preset's reward models from its tables, if these exist."""
    tables = [runs / location("result", name=name) for name in ("table5", "table2")]
    frames = [read_csv(path) for path in tables if path.is_file()]
    if not frames:
        return pd.DataFrame()
    frame = pd.concat(frames, ignore_index=True)
    of_metric = {**scenarios.METRICS, **dict.fromkeys(rm_bench.METRICS, RM_BENCH)}
    frame = frame.assign(set=frame["metric"].map(of_metric))
    frame = frame[(frame["method"] != BASELINE) & frame["set"].isin(sets)]
    statistics = [
        m.removeprefix(f"{s}_") for m, s in zip(frame["metric"], frame["set"], strict=True)
    ]
    names = frame["backbone"] + "/" + frame["method"]
    kept = [*estimate_columns(NO_ESTIMATE, np.empty((0, 0))), "n_seeds", "n_ties"]
    kept = [name for name in kept if name in frame]
    return frame[["set", "backbone", "method", *kept]].assign(
        kind="reference", name=names, statistic=statistics
    )


def _compared(
    references: pd.DataFrame, name: str, measured: dict[str, Measured], runs: Path
) -> list[Row]:
    """Differences of a model from each reference, of which all seeds have score files.

    There is no difference from a mean that the model is one of: its interval would take the two for
    independent.
    """
    values = {set_name: set_values(set_name, *of_set) for set_name, of_set in measured.items()}
    by_seed: dict[tuple[str, str, str], list[Values]] = {}
    contains: dict[tuple[str, str, str], bool] = {}
    rows: list[Row] = []
    for _, reference in references.iterrows():
        key = backbone, method, split = reference["backbone"], reference["method"], reference["set"]
        if key not in by_seed:
            names = {"backbone": backbone, "objective": method, "seed": "*", "split": split}
            paths = sorted(runs.glob(location("scores", **names)))
            trained = [file.parent for file in runs.glob(location("reward_model", **names))]
            own = [f.name for f in trained if f.resolve() == Path(name).resolve()]
            contains[key] = any(path.parent.name in own for path in paths)
            whole = len(paths) == reference["n_seeds"] and not contains[key]
            frame = measured[split].frame
            by_seed[key] = [set_values(split, frame, _rewards(p, frame)) for p in paths if whole]
        gap, statistic = NO_ESTIMATE, reference["statistic"]
        if by_seed[key]:
            seeds = np.concatenate([of_seed[statistic] for of_seed in by_seed[key]])
            gap = contrast([values[split][statistic], seeds], [1, -1])
        identity = {"kind": "difference", "name": name, "against": reference["name"], "set": split}
        identity |= {"statistic": statistic, "n_seeds": reference["n_seeds"]}
        rows.append(identity | _difference(gap) | {"contains_model": contains[key]})
    return rows


def _rewards(path: Path, rows: pd.DataFrame) -> Array:
    """Read one score file's rewards (N,) of the responses in `rows`, whatever its order."""
    frame = read_frame(path, [*KEYS, "reward"])
    rewards: pd.Series = frame.set_index(KEYS)["reward"].astype(np.float64)
    fix = "score the split again, or remove the file"
    if not rewards.index.is_unique:
        twice = rewards.index[rewards.index.duplicated()][0]
        raise InputError(path, f"response_id {twice[1]} twice", "a row a response", fix)
    found = rewards.reindex(pd.MultiIndex.from_frame(rows[KEYS])).to_numpy()
    if not np.isfinite(found).all():
        response = rows["response_id"].iloc[int(np.flatnonzero(~np.isfinite(found))[0])]
        raise InputError(path, f"no finite reward of response_id {response}", "one", fix)
    return np.asarray(found)
