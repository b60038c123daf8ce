"""A model card with what `evaluate` measured: the hub's metadata, and a section with a table.

The card that a model has is kept: its text, its metadata, and results of other evaluations. Nothing
is said that neither the rows nor the model's own files say.
"""

import logging
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from huggingface_hub import EvalResult, ModelCard

from ..errors import InputError
from ..evaluation.sets import BENCH
from ..files import read_json
from .evaluation_rows import (
    STATISTICS,
    counted,
    data_lines,
    data_source,
    markdown,
    numbers,
    plain,
    short_names,
)

START, END = "<!-- rm-robustness evaluate: start -->", "<!-- rm-robustness evaluate: end -->"
# The hub shows any type of task in `model-index`; its own list has none for reward models.
TASK = {"task_type": "reward-modeling", "task_name": "Reward modeling"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
BASES = {"config.json": "_name_or_path", "adapter_config.json": "base_model_name_or_path"}


def model_card(frame: pd.DataFrame, name: str, folder: Path | None) -> str:
    """The README.md of a model, by its `name` in `evaluate`'s frame, with these results in it.

    `folder` is the model's, None if it has none here. The results of an earlier call are replaced,
    in the metadata those of the same data; everything else of the card stays. Without a card one is
    begun. Raises InputError for a card that the hub's library cannot read.
    """
    card = _own_card(folder)
    data = card.data
    if not data.get("base_model") and (base := _base_model(folder)):
        data.base_model = base
    data.model_name = data.model_name or short_names(frame)[name]
    new = list(eval_results(frame, name))
    replaced = {(r.task_type, r.dataset_type, r.dataset_config) for r in new}
    kept = [
        result
        for result in data.eval_results or []
        if (result.task_type, result.dataset_type, result.dataset_config) not in replaced
    ]
    data.eval_results = [*kept, *new] or None
    section = f"{START}\n{_section(frame, name)}\n{END}"
    before, start, rest = card.text.partition(START)
    _, end, after = rest.partition(END)
    if start and end:
        card.text = before + section + after
    else:
        title = "" if card.text.strip() else f"\n# {plain(data.model_name)}"
        card.text = f"{card.text.rstrip()}{title}\n\n{section}\n"
    return str(card)


def eval_results(frame: pd.DataFrame, name: str) -> Iterator[EvalResult]:
    """The hub's form of a model's numbers with their intervals: one result a statistic of a set."""
    rows = numbers(frame, "model")
    for _, row in rows[rows["name"] == name].iterrows():
        source = data_source(frame, row["set"])
        digits = 2 if row["set"] == BENCH else 4
        facts: dict[str, Any] = {}
        if pd.notna(row["ci_low"]):
            facts["interval_95"] = [round(float(row[c]), digits) for c in ("ci_low", "ci_high")]
        if pd.notna(row["n_prompts"]):
            facts["prompts"] = int(row["n_prompts"])
        yield EvalResult(
            **TASK,
            dataset_type=_dataset(source) or str(row["set"]),
            dataset_name=str(row["title"]),
            dataset_config=str(row["set"]),
            dataset_args={"source": source} if source else None,
            metric_type=str(row["statistic"]),
            metric_name=STATISTICS.get(row["statistic"], str(row["statistic"])),
            metric_value=round(float(row["value"]), digits),
            metric_args=facts or None,
        )


def _dataset(source: str) -> str:
    """The id under which the hub has data of a source: the last two parts of its address."""
    found = re.search(r"([\w.-]+/[\w.-]+?)(?:\.git)?(?: |$)", source)
    return found[1] if found and source.startswith("https://") else ""


def _own_card(folder: Path | None) -> ModelCard:
    """The card of a folder, or one that says what every reward model is."""
    path = folder / "README.md" if folder else None
    if path is None or not path.is_file():
        front = "library_name: transformers\npipeline_tag: text-classification\n"
        return ModelCard(f"---\n{front}tags:\n- reward-model\n---\n")
    logger = logging.getLogger("huggingface_hub.repocard")
    level = logger.level
    logger.setLevel(logging.ERROR)  # a card without metadata is no reason for a warning
    try:
        return ModelCard(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            path, f"metadata that the hub cannot read ({reason})", "a model card", "correct it"
        ) from error
    finally:
        logger.setLevel(level)


def _base_model(folder: Path | None) -> str:
    """The hub id that a model's own files name as its origin; "" for a path or nothing."""
    for file, key in BASES.items() if folder else ():
        path = Path(folder or "") / file
        if path.is_file():
            config = read_json(path)
            named = config.get(key) if isinstance(config, dict) else None
            if isinstance(named, str) and HUB_ID.fullmatch(named) and not Path(named).exists():
                return named
    return ""


def _section(frame: pd.DataFrame, name: str) -> str:
    """The Markdown between the marks: table, sentences about prompts, data, how it was made."""
    own = frame[(frame["kind"] != "model") | (frame["name"] == name)]
    lines = ["## Evaluation", "", *markdown(frame, [name]), ""]
    lines += [
        "± half of a 95% interval over prompts. `length` is no model: its reward is the number of "
        "characters.",
        "",
    ]
    lines += [f"- {plain(text)}" for text in [*counted(own), *data_lines(own)]]
    made = f"Measured with `rm-robustness evaluate`, version {version('rm-robustness')}."
    return "\n".join([*lines, "", made])
