"""AlpacaEval's instructions with its baseline's answers, and what its length-controlled GLM needs.

`instructions.parquet` has example_id, prompt, reference (the baseline's answer) and
reference_model. `df_gamed.csv` is the file that the `alpaca_eval` package downloads: the baseline
against itself, told to be concise and told to be verbose.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.alpaca_eval.judge_server import SCALE
from ..experiment.config import Settings
from ..files import atomic_write, read_json
from ..frames import write_csv, write_frame
from .git_checkout import require_commit
from .synthetic.responders import TRAIN_ROWS, TRAIN_STYLE, respond, responders
from .synthetic.responses import _prompts
from .synthetic.tasks import gold

BASELINE = "alpaca_eval_gpt4_baseline.json"
GAMED = "df_gamed.csv"
GAMED_COLUMNS = [
    *("index", "model", "preference", "std_delta_len", "instruction_difficulty"),
    "not_gamed_baseline",
]
REFERENCE = TRAIN_ROWS[0][0]  # the synthetic world's best responder


def instructions(settings: Settings, folder: Path) -> None:
    """Write `instructions.parquet` and `df_gamed.csv` of a source into `folder`.

    `settings` is a source of kind `hub` (`repo`, a hub id, and `revision`, a commit) or
    `synthetic` (`seed`, `instructions`, `length_quality_correlation`). Raises `InputError` for a
    file that cannot be fetched or read, and for an instruction that is empty or there twice.
    """
    if settings["kind"] == "synthetic":
        frame, gamed = synthetic(
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
    found: dict[str, tuple[int, str, str]] = {}
    for number, row in enumerate(rows):
        where = f"{path} row {number}"
        texts = [
            row.get(key) if isinstance(row, dict) else None
            for key in ("instruction", "output", "generator")
        ]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(where, repr(row)[:60], "texts instruction, output and generator")
        prompt, reference, model = map(str, texts)
        if not prompt.strip():
            raise InputError(where, "an empty instruction", "a text")
        if prompt in found:
            again = f"the instruction of row {found[prompt][0]} again ({prompt[:40]!r})"
            raise InputError(where, again, "each instruction once")
        found[prompt] = (number, reference, model)
    return pd.DataFrame(
        [(hashlib.sha256(p.encode()).hexdigest()[:16], p, r, m) for p, (_, r, m) in found.items()],
        columns=["example_id", "prompt", "reference", "reference_model"],
    )


def synthetic(seed: int, count: int, correlation: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw `count` instructions of the synthetic world, and compute their `df_gamed`.

    The prompts come from a stream of their own; some may be prompts of the training set, as the
    world is small. The baseline is the best responder. Gamed, it gives the same items with next to
    no talk, or with as much as there is. `preference` is the probability of the judge's rule that
    the gamed answer wins, `std_delta_len` (baseline - gamed, characters) over its standard
    deviation, and `instruction_difficulty` the mean log-odds of all other training responders.
    """
    made = responders(TRAIN_ROWS, [TRAIN_STYLE], correlation)
    prompts = _prompts(seed, "instructions", count, 0.0)
    reference = [respond(seed, prompt, made[REFERENCE]) for prompt in prompts]
    own = _gold(prompts, reference)
    others = [
        _gold(prompts, [respond(seed, prompt, each) for prompt in prompts])
        for name, each in made.items()
        if name != REFERENCE
    ]
    frame = pd.DataFrame(
        {
            "example_id": [f"instruction-{i:04}" for i in range(count)],
            "prompt": prompts,
            "reference": reference,
            "reference_model": REFERENCE,
        }
    )
    parts = []
    for style, talk in (("concise", 0.0), ("verbose", 1.0)):
        responder = replace(made[REFERENCE], talk=talk)
        gamed = [respond(seed, prompt, responder) for prompt in prompts]
        shorter = frame["reference"].str.len() - pd.Series(gamed).str.len()
        # All of one model, then all of the other: the package finds a difficulty by row number.
        part = {
            "index": range(count),
            "model": f"{REFERENCE}_{style}",
            "preference": 1 / (1 + np.exp(-SCALE * (_gold(prompts, gamed) - own))),
            "std_delta_len": shorter / shorter.std(),
            "instruction_difficulty": SCALE * (np.mean(others, axis=0) - own),
            "not_gamed_baseline": False,
        }
        parts.append(pd.DataFrame(part))
    return frame, pd.concat(parts, ignore_index=True)[GAMED_COLUMNS]


def _gold(prompts: list[str], answers: list[str]) -> np.ndarray:
    return np.array([gold(p, a) for p, a in zip(prompts, answers, strict=True)])


def _fetch(repo: str, revision: str, name: str) -> Path:
    """Download one file of a hub data set at a commit."""
    require_commit(revision, repo)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, name, repo_type="dataset", revision=revision))
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"{repo} at {revision}",
            f"no readable file {name} ({line})",
            "a data set that can be fetched",
            "check the network, the name, the commit and the access rights (HF_TOKEN)",
        ) from error
