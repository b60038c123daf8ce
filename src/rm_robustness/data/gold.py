"""Gold reward r*: a real number per prompt and response, the ground truth of all evaluations."""

from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..models.score_log import ScoreLog

KINDS = ("programmatic", "column", "model", "reward_models")


def add_gold(frame: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    """Return a copy of a raw frame with the column `gold` (float64), r*(prompt, response).

    `settings["kind"]` is its origin: `programmatic` (the rule of the synthetic world),
    `column` (a preference in [1, 2] through `preference_logit`; keys `column`, `transform: logit`,
    `clip`), `model` (ArmoRM, paper section 3.1; keys of `armorm_scores`, which has the model's
    folder) or `reward_models` (this run's own, D51; keys of `mean_rewards`). Raises `InputError`
    for an unknown kind or transform, a missing column and a value that is not a preference.
    """
    return label(frame, settings)[0]


def label(
    frame: pd.DataFrame, settings: dict[str, Any], log: ScoreLog | None = None
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Label as `add_gold` does, and list the rows that are left out, which the copy lacks.

    Each is {example_id, response_model, why}: with kind `model` a chat longer than its context, as
    long as these are at most the share `max_left_out`. A long job goes on from `log`.
    """
    kind = settings["kind"]
    why: dict[int, str] = {}
    if kind == "programmatic":
        from .synthetic import responses as synthetic

        pairs = zip(frame["prompt"], frame["response"], strict=True)
        gold = np.array([synthetic.gold(prompt, response) for prompt, response in pairs], float)
    elif kind == "column":
        gold = _from_column(frame, settings)
    elif kind == "model":
        # Imports torch and transformers, which the other kinds do not need.
        from ..models import armorm

        texts = frame["prompt"].tolist(), frame["response"].tolist()
        gold, why = armorm.armorm_scores(*texts, settings, log)
    elif kind == "reward_models":
        from ..models.ensemble import mean_rewards

        gold = mean_rewards(frame["prompt"].tolist(), frame["response"].tolist(), settings)
    else:
        raise InputError("gold.kind", repr(kind), f"one of {', '.join(KINDS)}")
    names = ["example_id", "response_model"]
    left_out = [
        {name: str(frame[name].iloc[row]) for name in names} | {"why": reason}
        for row, reason in why.items()
    ]
    whole = ~np.isin(np.arange(len(frame)), list(why))
    return frame.assign(gold=gold)[whole], left_out


def preference_logit(preference: np.ndarray, clip: float) -> np.ndarray:
    """Map preferences in [1, 2], shape (n,), to the log-odds of beating the baseline, shape (n,).

    preference - 1 is a win probability; it is clipped to [clip, 1 - clip] first, so that a
    certain preference stays finite. The baseline is one and the same response per prompt, so under
    Bradley-Terry the log-odds are r*(x, y) - r*(x, y_baseline): a gold score up to a constant
    per prompt.
    """
    probability = np.clip(preference.astype(float) - 1, clip, 1 - clip)
    return np.asarray(np.log(probability) - np.log1p(-probability), dtype=np.float64)


def _from_column(frame: pd.DataFrame, settings: dict[str, Any]) -> np.ndarray:
    """Check the settings and the preferences, then take the logit."""
    column, transform, clip = settings["column"], settings["transform"], settings["clip"]
    if transform != "logit":
        raise InputError("gold.transform", repr(transform), "logit")
    if not 0 < clip < 0.5:
        raise InputError("gold.clip", repr(clip), "a number between 0 and 0.5")
    if column not in frame:
        raise InputError("gold.column", repr(column), f"one of {list(frame.columns)}")
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
    # Comparisons with NaN are false, so that this way round NaN counts as outside.
    wrong = np.flatnonzero(~((values >= 1) & (values <= 2)))
    if wrong.size:
        row = frame.iloc[wrong[0]]
        raise InputError(
            f"column {column}, row {wrong[0]} ({row['response_model']}, {row['example_id']})",
            f"{row[column]!r}" + (f" and {wrong.size - 1} more" if wrong.size > 1 else ""),
            "a preference in [1, 2]",
        )
    return preference_logit(values, clip)
