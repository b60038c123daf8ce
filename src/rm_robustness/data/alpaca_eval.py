"""AlpacaEval: real models' responses with GPT-4's preference over one fixed baseline."""

import difflib
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..files import read_json

ANNOTATIONS = "weighted_alpaca_eval_gpt4_turbo/annotations.json"
COLUMNS = ["example_id", "prompt", "response", "response_model", "preference"]


def responses(folder: Path, models: list[str]) -> pd.DataFrame:
    """Read the responses of `models` from a checkout of tatsu-lab/alpaca_eval, in the given order.

    Returns the raw frame `example_id, prompt, response, response_model, preference`, a row per
    model and instruction. `preference` is in [1, 2]: preference - 1 is GPT-4's probability that
    the response beats the baseline's. `example_id` is a hash of the instruction, so it is the
    same in every model and does not depend on which models are read. Empty responses stay.
    Raises `InputError` with file and row for a missing folder, model, field or preference,
    for broken JSON, and for an instruction that a model answers twice.
    """
    results = folder / "results"
    if not results.is_dir():
        raise InputError(results, "no such folder", "a checkout of tatsu-lab/alpaca_eval")
    repeated = sorted({model for model in models if models.count(model) > 1})
    if repeated:
        raise InputError("models", f"{repeated} twice", "each model once")
    rows = [row for model in models for row in _read_model(results, model)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"preference": "float64"})


def _read_model(results: Path, model: str) -> list[tuple[str, str, str, str, float]]:
    """Read and check one model's annotations."""
    if not (results / model).is_dir():
        known = sorted(path.name for path in results.iterdir() if path.is_dir())
        near = difflib.get_close_matches(model, known, n=1, cutoff=0.0)
        fix = f"did you mean {near[0]}?" if near else "fetch the checkout again"
        raise InputError(results / model, "no such model", f"one of {len(known)} folders", fix)
    path = results / model / ANNOTATIONS
    annotations = read_json(path)
    if not isinstance(annotations, list) or not annotations:
        raise InputError(path, f"{type(annotations).__name__}", "a list with a row per instruction")
    rows: list[tuple[str, str, str, str, float]] = []
    first: dict[str, int] = {}
    for number, row in enumerate(annotations):
        where = f"{path} row {number}"
        prompt, response = _text(row, "instruction", where), _text(row, "output_2", where)
        if prompt in first:
            again = f"the instruction of row {first[prompt]} again ({prompt[:40]!r})"
            raise InputError(where, again, "each instruction once")
        first[prompt] = number
        example_id = hashlib.sha256(prompt.encode()).hexdigest()[:16]
        rows.append((example_id, prompt, response, model, _preference(row, where)))
    return rows


def _text(row: Any, field: str, where: str) -> str:
    """Return a text field of a row; the empty text is a text."""
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        found = f"{field} {row.get(field)!r}" if isinstance(row, dict) else repr(row)[:40]
        raise InputError(where, found, f"a text `{field}`")
    return str(row[field])


def _preference(row: dict[str, Any], where: str) -> float:
    """Return the preference of a row, a number in [1, 2]."""
    value = row.get("preference")
    # NaN compares false, so it is outside too.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= 2:
        raise InputError(where, f"preference {value!r}", "a number in [1, 2]")
    return float(value)
