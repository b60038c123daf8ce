"""Evaluation of any reward-model checkpoint on a preset's scenarios and on RM-Bench.

The preset's own reward models are listed as references, each with the difference of the checkpoint
from the mean of its seeds, paired by prompt. The difference is about the checkpoint: how it would
vary with other seeds of its own training is not known.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import InputError
from ..experiment.paths import location
from ..frames import check_texts, read_csv, read_frame
from ..models import chat
from ..models.reward_model import load
from ..models.scoring import score_ids
from ..pivot import Array
from ..progress import aligned
from ..ratios import stratified_mean
from ..statistics import NO_ESTIMATE, contrast, seed_mean
from . import rm_bench, scenarios
from .estimates import difference_columns, estimate_columns

BENCH = "rm_bench"
METRICS = {**scenarios.METRICS, **dict.fromkeys(rm_bench.METRICS, BENCH)}  # metric: its set
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DIFFERENCE = ["difference", "difference_low", "difference_high", "p_value", "mdd80"]
COLUMNS = [
    *("preset", "kind", "name", "metric", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", "n_prompts", "n_left_out", "n_undefined", "n_ties"),
    *DIFFERENCE,
]
KEYS = ["prompt_id", "response_id"]
Values = dict[str, Array]  # of each metric the value of each prompt, (1, P)


def evaluate(
    model: str,
    runs: Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    batch_tokens: int = 8192,
    skip_long: bool = False,
) -> pd.DataFrame:
    """Evaluate a reward model: four scenarios and RM-Bench, with intervals over prompts.

    Compares it with the preset's own reward models on the same prompts.

    `model` is a folder or an id of the hub (at `revision`), `runs` the run folder of a preset.
    The result has the columns `COLUMNS` and a row a metric of `METRICS` for each `name` of `kind`
    model, baseline (the number of characters as reward) and reference (a mean over the seeds of a
    backbone and method of the preset, from its tables 5 and 2 where they are). RM-Bench's are in
    percent, and NaN where the preset's rm_bench.parquet has not been made. A reference's row has
    the `DIFFERENCE` of the model from the mean of the reference's `n_seeds` seeds, over the prompts
    that the model was scored on and the seeds; NaN where not all of their score files are there.

    Prompts with a response that exceeds the model's context raise InputError or, with `skip_long`,
    are skipped and counted; responses are never truncated. Raises InputError also for missing
    splits, for what `reward_model.load` rejects, for a tokenizer without a chat template and for a
    reward that is not finite, and for score files of other responses than the preset's. No padding
    token is needed: nothing is padded.
    """
    sets = _read(runs)
    scorer, tokenizer = load(model, DTYPES[dtype], revision)
    if tokenizer.chat_template is None:
        raise InputError(
            model,
            "a tokenizer without chat template",
            "the one that the model was trained with",
            "save it beside the tokenizer (chat_template.jinja)",
        )
    rows: list[dict[str, Any]] = []
    measured: dict[str, tuple[pd.DataFrame, Values]] = {}
    for split, frame in sets.items():
        scored_rows, rewards = _score(scorer, tokenizer, frame, split, batch_tokens, skip_long)
        measured[split] = scored_rows, _values(split, scored_rows, rewards)
        length: Array = scored_rows["response"].map(len).to_numpy(np.float64)
        left_out = frame["prompt_id"].nunique() - scored_rows["prompt_id"].nunique()
        for kind, name, values in (("model", model, rewards), ("baseline", "length", length)):
            for row in _measure(split, scored_rows, values):
                identity = {"kind": kind, "name": name, "n_seeds": 1, "n_left_out": left_out}
                rows.append(row | identity)
    if BENCH not in sets:
        identity = {"n_seeds": 1, "n_prompts": 0}
        rows += [{"kind": "model", "name": model, "metric": m} | identity for m in rm_bench.METRICS]
    references = _compared(_references(runs), measured, runs)
    frame = pd.concat([pd.DataFrame(rows), references]).reindex(columns=COLUMNS)
    counts = ["n_seeds", "n_prompts", "n_left_out", "n_undefined", "n_ties"]
    frame = frame.assign(preset=runs.name).astype(dict.fromkeys(counts, "Int64"))
    order = {kind: n for n, kind in enumerate(("model", "baseline", "reference"))}
    return frame.sort_values("kind", key=lambda k: k.map(order), kind="stable", ignore_index=True)


def make_command(target: Path) -> str:
    """Shell command that makes RUNS/PRESET/FOLDER/FILE."""
    return f"snakemake --configfile config/{target.parts[-3]}.yaml -- {target}"


def _read(runs: Path) -> dict[str, pd.DataFrame]:
    """Read the four scenarios, and RM-Bench if it exists."""
    columns = ["prompt_id", "response_id", "prompt", "response", "gold"]
    sets = {}
    for split in scenarios.METRICS.values():
        path = runs / location("split", split=split)
        if not path.is_file():
            command = make_command(runs / location("splits_manifest"))
            raise InputError(path, "no such file", "a split", f"make it: {command}")
        sets[split] = read_frame(path, columns)
    bench = runs / location("benchmark", benchmark="rm_bench")
    if bench.is_file():
        sets[BENCH] = read_frame(bench, [*columns, "domain", "style", "kind"])
    for name, frame in sets.items():
        check_texts(frame, ["response"], f"{name}, ", filled=True)
    return sets


def _score(
    model: Any, tokenizer: Any, frame: pd.DataFrame, split: str, batch_tokens: int, skip_long: bool
) -> tuple[pd.DataFrame, Array]:
    """Return the rows whose prompts fit the model's context, and their rewards (N,)."""
    limit = model.config.max_position_embeddings
    ids = chat.frame_ids(tokenizer, frame)
    sequences = pd.Series(ids)
    lengths = sequences.map(len)
    if (lengths > limit).any() and not skip_long:
        row = int(lengths.argmax())
        raise InputError(
            f"{split}, response {frame['response_id'][row]}",
            f"{lengths[row]} tokens with its prompt",
            f"{limit} or fewer, the model's context",
            "responses are never truncated; --skip-long skips and counts such prompts",
        )
    fits = ~frame["prompt_id"].isin(frame["prompt_id"][lengths > limit])
    if not fits.any():
        raise InputError(split, f"no prompt that fits {limit} tokens", "some", "use another preset")
    fitting = frame[fits].reset_index(drop=True)
    scores = score_ids(
        model, list(sequences[fits]), batch_tokens, list(fitting["prompt_id"]), split
    )
    wrong = np.flatnonzero(~np.isfinite(scores.rewards))
    if len(wrong):
        raise InputError(
            f"{split}, response {fitting['response_id'][wrong[0]]}",
            f"a reward of {scores.rewards[wrong[0]]}",
            "a finite one",
            "the weights are broken, or --dtype float32 is needed",
        )
    return fitting, scores.rewards.astype(np.float64)


def _values(split: str, frame: pd.DataFrame, rewards: Array) -> Values:
    """Compute the values of each metric of a set from one vector of rewards (N,)."""
    if split == BENCH:
        prompts = rm_bench.per_prompt(frame, rewards)
        values = {}
        for metric in rm_bench.METRICS:
            masks = rm_bench.domain_masks(metric, prompts["domain"])
            values[metric] = stratified_mean(rm_bench.metric_percent(prompts, metric)[None], masks)
        return values
    metric = next(name for name, split_name in scenarios.METRICS.items() if split_name == split)
    reward_rows, gold = _by_prompt(frame, rewards)
    return {metric: scenarios.per_prompt(metric, reward_rows, gold, Path(split))[None]}


def _by_prompt(frame: pd.DataFrame, rewards: Array) -> tuple[Array, Array]:
    """Rewards and gold of the responses of each prompt (P, n)."""
    by_prompt = frame.assign(reward=rewards).groupby("prompt_id", sort=False)
    reward_rows, gold = (np.stack(by_prompt[c].agg(list).to_list()) for c in ("reward", "gold"))
    return reward_rows, gold


def _measure(split: str, frame: pd.DataFrame, rewards: Array) -> list[dict[str, Any]]:
    """Estimate each metric of a set from one vector of rewards (N,)."""
    ties: int | float = np.nan
    if split != BENCH:
        ties = scenarios.tied_rewards(_by_prompt(frame, rewards)[0])
    return [
        {"metric": metric, "n_ties": ties} | estimate_columns(seed_mean(values), values)
        for metric, values in _values(split, frame, rewards).items()
    ]


def _references(runs: Path) -> pd.DataFrame:
    """Read the rows of the preset's reward models from its tables, if these exist."""
    tables = [runs / location("result", name=name) for name in ("table5", "table2")]
    frames = [read_csv(path) for path in tables if path.is_file()]
    if not frames:
        return pd.DataFrame()
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[(frame["method"] != "length") & frame["metric"].isin(list(METRICS))]
    return frame.assign(kind="reference", name=frame["backbone"] + "/" + frame["method"])


def _compared(
    references: pd.DataFrame, measured: dict[str, tuple[pd.DataFrame, Values]], runs: Path
) -> pd.DataFrame:
    """Add the `DIFFERENCE` of the model from each reference, of which all seeds have score files.

    `measured` has the rows that the model was scored on and its values by prompt, for each set.
    """
    by_seed: dict[tuple[str, str, str], list[Values]] = {}
    differences: list[dict[str, Any]] = []
    for _, reference in references.iterrows():
        metric = reference["metric"]
        key = backbone, method, split = reference["backbone"], reference["method"], METRICS[metric]
        if key not in by_seed:
            names = {"backbone": backbone, "objective": method, "seed": "*", "split": split}
            paths = sorted(runs.glob(location("scores", **names)))
            whole = split in measured and len(paths) == reference["n_seeds"]
            rows = measured[split][0] if whole else pd.DataFrame()
            by_seed[key] = [_values(split, rows, _rewards(p, rows)) for p in paths if whole]
        gap = NO_ESTIMATE
        if by_seed[key]:
            seeds = np.concatenate([of_seed[metric] for of_seed in by_seed[key]])
            gap = contrast([measured[split][1][metric], seeds], [1, -1])
        differences.append(difference_columns(gap))
    columns = pd.DataFrame(differences, index=references.index).reindex(columns=DIFFERENCE)
    return references.assign(**columns)


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


def as_json(frame: pd.DataFrame) -> str:
    """Format the frame as a JSON list of rows; missing values are null."""
    rows = json.loads(str(frame.to_json(orient="records", double_precision=10)))
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_text(frame: pd.DataFrame) -> str:
    """Format the frame as text: the model, the length baseline, the references, the differences."""
    preset = frame["preset"].iloc[0]
    model = frame[frame["kind"] == "model"]
    lines = [f"Four scenarios of preset {preset}", "", *_tables(frame, scenarios.HEADINGS, 4)]
    if model["value"][model["metric"].isin(rm_bench.METRICS)].notna().any():
        headings = {metric: metric for metric in rm_bench.METRICS}
        lines += ["RM-Bench, accuracy in percent", "", *_tables(frame, headings, 1)]
    else:
        target = Path("runs") / preset / location("benchmark", benchmark="rm_bench")
        lines += [f"RM-Bench: not measured; to make it: {make_command(target)}", ""]
    lines += [
        "± half of a 95% interval: over prompts for the model and for length (the reward is the",
        "number of characters), over seeds and prompts for the rows below them, which are the",
        "preset's own. The scenarios are named after the data that those were trained on.",
    ]
    references = frame[frame["kind"] == "reference"]
    if references["difference"].notna().any():
        lines += [
            "A difference from one of these, the mean of its seeds, is paired by prompt, with an",
            "interval over prompts and those seeds. It is of this checkpoint, not of its training,",
            "and not corrected for the number of differences.",
        ]
    measured = model["metric"][model["value"].notna()]
    alone = references["difference"].isna() & references["metric"].isin(list(measured))
    missing = references["name"][alone].unique()
    if len(missing):
        lines.append(
            f"No difference from {', '.join(missing)}: score files are missing; dvc pull, or "
            f"snakemake --configfile config/{preset}.yaml -- scores"
        )
    shorter = model[model["n_left_out"] > 0]
    left_out = {METRICS[row["metric"]]: row["n_left_out"] for _, row in shorter.iterrows()}
    if left_out:
        listed = ", ".join(f"{count} of {split}" for split, count in left_out.items())
        lines.append(f"Prompts left out, too long for the model's context: {listed}.")
    return "\n".join(lines)


def _tables(frame: pd.DataFrame, headings: dict[str, str], digits: int) -> list[str]:
    """Lines of the values, then of the differences of the model from the references, if any."""
    lines = [*_aligned_table(frame, headings, digits, ["value", "ci_low", "ci_high"]), ""]
    differences = _aligned_table(frame, headings, digits, DIFFERENCE[:3])
    if len(differences) > 1:
        lines += ["this checkpoint minus", *differences, ""]
    return lines


def _aligned_table(
    frame: pd.DataFrame, headings: dict[str, str], digits: int, columns: list[str]
) -> list[str]:
    """Lines of a text table: a row a name, a column a metric; names without values are omitted.

    `columns` are those of the value and of the ends of its interval.
    """
    value, low, high = columns
    rows = frame[frame["metric"].isin(list(headings)) & frame[value].notna()]
    cells = [["", *headings.values()]]
    for _, model_rows in rows.groupby(["kind", "name"], sort=False):
        name = str(model_rows["name"].iloc[0])
        texts = {
            row["metric"]: f"{row[value]:.{digits}f} ± {(row[high] - row[low]) / 2:.{digits}f}"
            for _, row in model_rows.iterrows()
        }
        shown = "/".join(Path(name).parts[-3:]) or name
        cells.append([shown, *(texts.get(metric, "-") for metric in headings)])
    return aligned(cells, left=len(cells[0]))
