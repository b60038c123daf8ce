"""Evaluation of any reward-model checkpoint on a preset's scenarios and on RM-Bench.

The preset's own reward models are listed as references. There is no paired comparison with them,
on purpose: seeds of different trainings do not correspond.
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
from ..statistics import seed_mean
from . import rm_bench, scenarios
from .estimates import estimate_columns

BENCH = "rm_bench"
METRICS = {**scenarios.METRICS, **dict.fromkeys(rm_bench.METRICS, BENCH)}  # metric: its set
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COLUMNS = [
    *("preset", "kind", "name", "metric", "value", "ci_low", "ci_high", "seed_std"),
    *("n_seeds", "n_prompts", "n_left_out", "n_undefined", "n_ties"),
]


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

    `model` is a folder or an id of the hub (at `revision`), `runs` the run folder of a preset.
    The result has the columns `COLUMNS` and a row a metric of `METRICS` for each `name` of `kind`
    model, baseline (the number of characters as reward) and reference (a mean over the seeds of a
    backbone and method of the preset, from its tables 5 and 2 where they are). RM-Bench's are in
    percent, and NaN where the preset's rm_bench.parquet has not been made.

    Prompts with a response that exceeds the model's context raise InputError or, with `skip_long`,
    are skipped and counted; responses are never truncated. Raises InputError also for missing
    splits, for what `reward_model.load` rejects, for a tokenizer without a chat template and for a
    reward that is not finite. No padding token is needed: nothing is padded.
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
    for split, frame in sets.items():
        scored_rows, rewards = _score(scorer, tokenizer, frame, split, batch_tokens, skip_long)
        length: Array = scored_rows["response"].map(len).to_numpy(np.float64)
        left_out = frame["prompt_id"].nunique() - scored_rows["prompt_id"].nunique()
        for kind, name, values in (("model", model, rewards), ("baseline", "length", length)):
            for row in _measure(split, scored_rows, values):
                identity = {"kind": kind, "name": name, "n_seeds": 1, "n_left_out": left_out}
                rows.append(row | identity)
    if BENCH not in sets:
        identity = {"n_seeds": 1, "n_prompts": 0}
        rows += [{"kind": "model", "name": model, "metric": m} | identity for m in rm_bench.METRICS]
    frame = pd.concat([pd.DataFrame(rows), _references(runs)]).reindex(columns=COLUMNS)
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
    scores = score_ids(model, list(sequences[fits]), batch_tokens, split)
    wrong = np.flatnonzero(~np.isfinite(scores.rewards))
    if len(wrong):
        raise InputError(
            f"{split}, response {fitting['response_id'][wrong[0]]}",
            f"a reward of {scores.rewards[wrong[0]]}",
            "a finite one",
            "the weights are broken, or --dtype float32 is needed",
        )
    return fitting, scores.rewards.astype(np.float64)


def _measure(split: str, frame: pd.DataFrame, rewards: Array) -> list[dict[str, Any]]:
    """Estimate each metric of a set from one vector of rewards (N,)."""
    values: dict[str, Array] = {}
    ties: int | float = np.nan
    if split == BENCH:
        prompts = rm_bench.per_prompt(frame, rewards)
        for metric in rm_bench.METRICS:
            masks = rm_bench.domain_masks(metric, prompts["domain"])
            values[metric] = stratified_mean(rm_bench.metric_percent(prompts, metric)[None], masks)
    else:
        metric = next(name for name, split_name in scenarios.METRICS.items() if split_name == split)
        by_prompt = frame.assign(reward=rewards).groupby("prompt_id", sort=False)
        reward_rows, gold = (np.stack(by_prompt[c].agg(list).to_list()) for c in ("reward", "gold"))
        values[metric] = scenarios.per_prompt(metric, reward_rows, gold, Path(split))[None]
        ties = scenarios.tied_rewards(reward_rows)
    return [
        {"metric": metric, "n_ties": ties}
        | estimate_columns(seed_mean(metric_values), metric_values)
        for metric, metric_values in values.items()
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


def as_json(frame: pd.DataFrame) -> str:
    """Format the frame as a JSON list of rows; missing values are null."""
    rows = json.loads(str(frame.to_json(orient="records", double_precision=10)))
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_text(frame: pd.DataFrame) -> str:
    """Format the frame as text: the model first, then the length baseline and the references."""
    preset = frame["preset"].iloc[0]
    model = frame[frame["kind"] == "model"]
    lines = [
        f"Four scenarios of preset {preset}",
        "",
        *_aligned_table(frame, scenarios.HEADINGS, 4),
        "",
    ]
    if model["value"][model["metric"].isin(rm_bench.METRICS)].notna().any():
        headings = {metric: metric for metric in rm_bench.METRICS}
        lines += ["RM-Bench, accuracy in percent", "", *_aligned_table(frame, headings, 1), ""]
    else:
        target = Path("runs") / preset / location("benchmark", benchmark="rm_bench")
        lines += [f"RM-Bench: not measured; to make it: {make_command(target)}", ""]
    lines += [
        "± half of a 95% interval: over prompts for the model and for length (the reward is the",
        "number of characters), over seeds and prompts for the rows below them, which are the",
        "preset's own. The scenarios are named after the data that those were trained on.",
    ]
    shorter = model[model["n_left_out"] > 0]
    left_out = {METRICS[row["metric"]]: row["n_left_out"] for _, row in shorter.iterrows()}
    if left_out:
        listed = ", ".join(f"{count} of {split}" for split, count in left_out.items())
        lines.append(f"Prompts left out, too long for the model's context: {listed}.")
    return "\n".join(lines)


def _aligned_table(frame: pd.DataFrame, headings: dict[str, str], digits: int) -> list[str]:
    """Lines of a text table: a row a name, a column a metric; names without values are omitted."""
    rows = frame[frame["metric"].isin(list(headings)) & frame["value"].notna()]
    cells = [["", *headings.values()]]
    for _, model_rows in rows.groupby(["kind", "name"], sort=False):
        name = str(model_rows["name"].iloc[0])
        texts = {
            row["metric"]: f"{row['value']:.{digits}f} ± "
            f"{(row['ci_high'] - row['ci_low']) / 2:.{digits}f}"
            for _, row in model_rows.iterrows()
        }
        shown = "/".join(Path(name).parts[-3:]) or name
        cells.append([shown, *(texts.get(metric, "-") for metric in headings)])
    return aligned(cells, left=len(cells[0]))
