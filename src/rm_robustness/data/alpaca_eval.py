"""AlpacaEval: models' responses with GPT-4's preference, and the instructions for other models.

`responses` reads a checkout of tatsu-lab/alpaca_eval, in which GPT-4 compares real models with one
fixed baseline. `instructions` writes instructions.parquet (example_id, prompt, reference: the
baseline's answer, reference_model) and df_gamed.csv, which the length-controlled GLM of the
`alpaca_eval` package needs: the baseline against itself, prompted to be concise or verbose.
"""

import difflib
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..experiment.config import Settings
from ..files import atomic_write, read_json
from ..frames import require_text, write_csv, write_frame
from .git_checkout import require_commit
from .hub_errors import explained
from .hub_files import fetch_file
from .synthetic import alpaca_eval as synthetic

BASELINE = "alpaca_eval_gpt4_baseline.json"
GAMED = "df_gamed.csv"
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
        model_names = sorted(path.name for path in results.iterdir() if path.is_dir())
        near = difflib.get_close_matches(model, model_names, n=1, cutoff=0.0)
        fix = f"did you mean {near[0]}?" if near else "fetch the checkout again"
        raise InputError(
            results / model, "no such model", f"one of {len(model_names)} folders", fix
        )
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
    if not isinstance(row, dict):
        raise InputError(where, repr(row)[:40], f"a text `{field}`")
    return require_text(row.get(field), field, where)


def _preference(row: dict[str, Any], where: str) -> float:
    """Return the preference of a row, a number in [1, 2]."""
    value = row.get("preference")
    # NaN compares false, so it is outside too.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= 2:
        raise InputError(where, f"preference {value!r}", "a number in [1, 2]")
    return float(value)


def instructions(settings: Settings, folder: Path) -> None:
    """Write `instructions.parquet` and `df_gamed.csv` of a source into `folder`.

    `settings` is a source of kind `hub` (`repo`, a hub id, and `revision`, a commit) or
    `synthetic` (`seed`, `instructions`, `length_quality_correlation`). Raises `InputError` for a
    file that cannot be fetched or read, and for an instruction that is empty or there twice.
    """
    if settings["kind"] == "synthetic":
        frame, gamed = synthetic.instructions(
            settings["seed"], settings["instructions"], settings["length_quality_correlation"]
        )
        write_csv(gamed, folder / GAMED)
    else:
        repo, revision = settings["repo"], settings["revision"]
        frame = read_baseline(_fetch(repo, revision, BASELINE))
        with atomic_write(folder / GAMED) as draft:
            shutil.copyfile(_fetch(repo, revision, GAMED), draft)
    write_frame(frame, folder / "instructions.parquet")


def read_baseline(path: Path) -> pd.DataFrame:
    """Read the baseline's answers: JSON, a list of rows with instruction, output, generator.

    The rows keep their order, which is that of `df_gamed.csv`; `example_id` is a hash of the
    instruction. Raises `InputError` with the row for a field that is no text, and for an
    instruction that is empty or there twice.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(path, f"{type(rows).__name__}", "a list with a row per instruction")
    first: dict[str, tuple[int, str, str]] = {}
    for number, row in enumerate(rows):
        where = f"{path} row {number}"
        texts = [
            row.get(key) if isinstance(row, dict) else None
            for key in ("instruction", "output", "generator")
        ]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(where, repr(row)[:60], "texts instruction, output and generator")
        prompt, reference, model = (require_text(text, "text", where) for text in texts)
        if not prompt.strip():
            raise InputError(where, "an empty instruction", "a text")
        if prompt in first:
            again = f"the instruction of row {first[prompt][0]} again ({prompt[:40]!r})"
            raise InputError(where, again, "each instruction once")
        first[prompt] = (number, reference, model)
    return pd.DataFrame(
        [(hashlib.sha256(p.encode()).hexdigest()[:16], p, r, m) for p, (_, r, m) in first.items()],
        columns=["example_id", "prompt", "reference", "reference_model"],
    )


def _fetch(repo: str, revision: str, name: str) -> Path:
    """Download one file of a hub data set at a commit."""
    require_commit(revision, repo)
    with explained(f"{repo} at {revision}", f"no readable file {name}"):
        return fetch_file(repo, revision, name)
