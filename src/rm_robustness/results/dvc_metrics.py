"""The numbers of all tables as one nested JSON, for `dvc metrics`."""

from pathlib import Path

from ..experiment.config import Settings
from ..frames import read_csv

KEYS = ("backbone", "run", "method", "metric")


def numbers(tables: list[Path]) -> Settings:
    """Give `value` by table, backbone or run, method and metric; what was not measured is left out.

    `tables` are csv files of tables 1, 2, 3 and 5. Of table 1 those of the largest n are taken,
    which are the table.
    """
    found: Settings = {}
    for path in tables:
        frame = read_csv(path)
        if "n" in frame:
            frame = frame[frame["n"] == frame["n"].max()]
        keys = [key for key in KEYS if key in frame]
        for row in frame.dropna(subset="value").to_dict("records"):
            place = found.setdefault(path.stem, {})
            for key in keys[:-1]:
                place = place.setdefault(row[key], {})
            place[row[keys[-1]]] = float(row["value"])
    return found
