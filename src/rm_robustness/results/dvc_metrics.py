"""Values of all tables as one nested JSON, for `dvc metrics`."""

from pathlib import Path

from ..experiment.config import Settings
from ..frames import read_csv

KEYS = ("backbone", "run", "method", "metric")


def numbers(tables: list[Path]) -> Settings:
    """Nest `value` by table, backbone or run, method and metric; missing values are omitted.

    `tables` are csv files of tables 1, 2, 3 and 5. Only the rows of table 1 with the largest n are
    included, as in its Markdown.
    """
    values: Settings = {}
    for path in tables:
        frame = read_csv(path)
        if "n" in frame:
            frame = frame[frame["n"] == frame["n"].max()]
        keys = [key for key in KEYS if key in frame]
        for row in frame.dropna(subset="value").to_dict("records"):
            level = values.setdefault(path.stem, {})
            for key in keys[:-1]:
                level = level.setdefault(row[key], {})
            level[row[keys[-1]]] = float(row["value"])
    return values
