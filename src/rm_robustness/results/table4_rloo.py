"""Table 4: configuration of RLOO, compared with the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .tables import markdown_page

# The paper's values; lengths and temperature are from its released code (D10-D14).
PAPER: dict[str, tuple[str, float | str]] = {
    "epochs": ("epochs", 5),
    "beta": ("weight of the KL, beta", 0.05),
    "k": ("completions a prompt, k", 2),
    "prompts_per_update": ("effective batch (prompts an update)", 128),
    "schedule": ("decay of the learning rate", "linear"),
    "warmup": ("warm-up (share of the steps)", 0.03),
    "response_length": ("response length (tokens)", 1024),
    "prompt_length": ("prompt length (tokens)", 512),
    "temperature": ("temperature", 0.7),
}
PAPER_LEARNING_RATES = {"standard": 2e-6, "large": 1e-6}  # sections 3.2 and 3.3
NO_PARAMETERS = ("runs", "seeds_per_job")


def table4(runs: Path, settings: Mapping[str, Any]) -> pd.DataFrame:
    """List the parameters of every run, those of the paper's table 4 first.

    `settings` has `preset` and the whole section `rloo`. Columns: preset, run, parameter, value,
    paper (empty where the paper gives none) and key, the parameter's place in the config. The model
    that labels the samples is listed where there is one (`rloo.gold`, D51).
    """
    shared = {k: v for k, v in settings["rloo"].items() if k not in NO_PARAMETERS}
    if shared["gold"] is None:
        del shared["gold"]
    rows = []
    for run, section in settings["rloo"]["runs"].items():
        printed = {"learning_rate": ("learning rate", PAPER_LEARNING_RATES[run]), **PAPER}
        parameters = {**section, **shared}
        for name in sorted(parameters, key=lambda name: name not in printed):
            parameter, paper = printed.get(name, (name.replace("_", " "), None))
            rows.append(
                {
                    "preset": settings["preset"],
                    "run": run,
                    "parameter": parameter,
                    "value": _text(parameters[name]),
                    "paper": None if paper is None else _text(paper),
                    "key": f"rloo.runs.{run}.{name}" if name in section else f"rloo.{name}",
                }
            )
    return pd.DataFrame(rows)


def table4_markdown(frame: pd.DataFrame, note: str = "") -> str:
    """Format the tidy table: a row a parameter, a column a run, the paper's value in brackets.

    `note` is a sentence of the preset about what its numbers can and cannot show.
    """
    runs = list(dict.fromkeys(frame["run"]))
    cells = [["parameter", *runs]]
    for parameter, rows in frame.groupby("parameter", sort=False):
        by_run = {row["run"]: row for _, row in rows.iterrows()}
        cells.append([str(parameter), *(_cell(by_run[run]) for run in runs)])
    caption = (
        f"Preset `{frame['preset'].iloc[0]}`; run `standard` is the paper's section 3.2, `large` "
        "its section 3.3. The paper's value is in brackets where it gives one."
    )
    return markdown_page("Table 4: configuration of RLOO", caption, note, cells, [])


def _cell(row: pd.Series) -> str:
    return row["value"] if pd.isna(row["paper"]) else f"{row['value']} (paper {row['paper']})"


def _text(value: Any) -> str:
    """Format a config value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
