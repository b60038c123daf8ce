"""Everything that is measured of a reward model, loaded once: scores, and effective ranks."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from ..cluster.lease import hold_lease
from ..experiment.config import Settings
from ..frames import check_texts, read_frame, write_frame
from ..models import scoring
from ..models.reward_model import load
from ..models.score_log import ScoreLog
from ..provenance.record import write_record
from .effective_rank import measure_ranks

COLUMNS = ["prompt_id", "response_id", "prompt", "response", "response_model", "gold"]


def measure(
    settings: Settings,
    models: Path,
    seeds: Sequence[int],
    data: list[Path],
    ranked: dict[str, Path],
    scores: Path,
    ranks: Path,
) -> None:
    """Measure the reward models of some seeds, one after another.

    `models` has a folder seed-N for each. The scores on each set of `data` are written to
    scores/seed-N under its name; effective ranks on the sets `ranked`, by name, to
    ranks/seed-N.parquet. `settings` has batch_tokens and, with `ranked`, the section `ranks`. A
    record is written for the scores of a model, and one for its ranks. Raises InputError for what
    cannot be read, before anything is measured, and for a response that does not fit the model.
    """
    logs = []
    for seed in seeds:
        logs += _measure(settings, models / f"seed-{seed}", seed, data, ranked, scores, ranks)
    for log in logs:  # kept until all is done: Snakemake deletes a killed job's outputs
        log.remove()


def _measure(
    settings: Settings,
    folder: Path,
    seed: int,
    data: list[Path],
    ranked: dict[str, Path],
    scores: Path,
    ranks: Path,
) -> list[ScoreLog]:
    """Measure one model; returns the logs of its scores."""
    weights, label = [folder / "model.safetensors"], "/".join(folder.parts[-3:])
    outputs = [scores / folder.name / path.name for path in data]
    output = ranks / f"{folder.name}.parquet"
    with hold_lease([*outputs, output][0]), ExitStack() as records:
        if data:
            record = write_record(settings, outputs, weights, scores / folder.name / "record.json")
            records.enter_context(record)["seed"] = seed
        frames = [read_set(path) for path in data]
        if ranked:
            records.enter_context(write_record(settings, [output], weights))["seed"] = seed
        sets = {name: read_frame(path, ["prompt", "response"]) for name, path in ranked.items()}
        model, tokenizer = load(folder)
        files = list(zip(data, frames, outputs, strict=True))
        logs = score_sets(model, tokenizer, folder, files, settings["batch_tokens"])
        if ranked:
            options = settings["ranks"]["rows"], settings["ranks"]["seed"], settings["batch_tokens"]
            write_frame(measure_ranks(model, tokenizer, sets, *options, f"{label} ranks,"), output)
    return logs


def read_set(path: Path) -> pd.DataFrame:
    """Read an evaluation set; InputError for missing columns and for an empty response."""
    frame = read_frame(path, COLUMNS)
    check_texts(frame, ["response"], f"{path}, ", filled=True)
    return frame


def score_sets(
    model: Any,
    tokenizer: Any,
    folder: Path,
    sets: list[tuple[Path, pd.DataFrame, Path]],
    batch_tokens: int,
) -> list[ScoreLog]:
    """Score sets (file, its frame, file of the scores); returns the logs, to be removed."""
    logs, settings = [], {"batch_tokens": batch_tokens}
    for path, frame, output in sets:
        label = f"{'/'.join(folder.parts[-3:])} {path.stem}"
        with ScoreLog(output, settings, [path], folder) as log:
            write_frame(scoring.score(model, tokenizer, frame, batch_tokens, label, log), output)
        logs.append(log)
    return logs
