"""What people read of `evaluate`'s rows: main statistics, short names, cells, data and licences."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import pandas as pd

from ..evaluation.rm_bench import METRICS
from ..evaluation.sets import BENCH
from ..experiment.scenarios import SCENARIOS
from ..provenance.licences import LICENCES
from .tables import interval, markdown_table

MINUS = "\N{MINUS SIGN}"
STATISTICS = {  # of a set: its heading
    "accuracy": "accuracy",
    "tau": "Kendall's tau",
    "length_controlled_tau": "length-controlled tau",
    "length_tau": "tau with length",
    **{metric: f"{metric}, %" for metric in METRICS},
    "style_gap": "style gap, %",
}
SHARES = ("accuracy_drop", "flips", "changed")  # of a transformation, shown in percent
# What the sets of real text are made from, by the keys of `LICENCES`.
ALPACA_EVAL = "https://github.com/tatsu-lab/alpaca_eval.git"
RM_BENCH = "https://github.com/THU-KEG/RM-Bench.git"
WIDEST = 30  # characters of a name in a figure


def numbers(frame: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    """The rows of some kinds that have a number, without those of transformations."""
    plain = frame["transformation"].isna() | (frame["transformation"] == "")
    return frame[frame["kind"].isin(kinds) & plain & frame["value"].notna()]


def names(frame: pd.DataFrame, kind: str = "model") -> list[str]:
    """The names of a kind, in their order."""
    return [str(name) for name in frame["name"][frame["kind"] == kind].unique()]


def titles(frame: pd.DataFrame) -> dict[str, str]:
    """The title of each set on which a model has a number, in their order."""
    rows = numbers(frame, "model").drop_duplicates("set")
    return {str(row["set"]): str(row["title"]) for _, row in rows.iterrows()}


def brief(title: str) -> str:
    """A title without what stands in brackets, for a heading."""
    return re.sub(r" \([^()]*\)", "", title)


def drawn(row: pd.Series) -> tuple[float, float, float]:
    """The number of a row and the ends of its interval."""
    return float(row["value"]), float(row["ci_low"]), float(row["ci_high"])


def main_statistic(frame: pd.DataFrame, name: str) -> str:
    """The statistic of a set that stands for it: a scenario's own, RM-Bench's overall, tau, ...

    The first of these on which a model has a number.
    """
    rows = numbers(frame, "model")
    measured = list(rows["statistic"][rows["set"] == name])
    first = ["overall", *METRICS] if name == BENCH else []
    first += [SCENARIOS[name].statistic] if name in SCENARIOS else []
    return next(str(s) for s in (*first, "tau", "accuracy", *measured) if s in measured)


def headline(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The (set, statistic) of the first table: a set's main one, of RM-Bench also two of style.

    Of a part of RM-Bench, which has no number overall, the domains that are measured.
    """
    rows = numbers(frame, "model")
    measured = set(zip(rows["set"], rows["statistic"], strict=True))
    shown = []
    for name in titles(frame):
        wanted = [main_statistic(frame, name)]
        if name == BENCH:
            wanted = ["overall", "hard", "style_gap"] if wanted == ["overall"] else list(METRICS)
        shown += [(name, statistic) for statistic in wanted if (name, statistic) in measured]
    return shown


def short_name(name: str, others: Sequence[str]) -> str:
    """The shortest end of a path or hub id that none of the others, each another one, has too."""
    parts = PurePosixPath(name).parts
    for count in range(1, len(parts) + 1):
        end = parts[-count:]
        if not any(PurePosixPath(o).parts[-count:] == end for o in others if o != name):
            return "/".join(end).replace("//", "/")
    return name


def short_names(frame: pd.DataFrame) -> dict[str, str]:
    """The `short_name` of every model; other names as they are."""
    models = names(frame)
    known = {str(name): str(name) for name in frame["name"].unique()}
    return known | {name: short_name(name, models) for name in models}


def cut(name: str, widest: int = WIDEST) -> str:
    """A name that fits a figure: without its middle if it is long."""
    return name if len(name) <= widest else f"{name[: widest // 2 - 1]}…{name[-widest // 2 :]}"


def text_of(row: pd.Series, sign: str = "") -> str:
    """A number with its interval; RM-Bench's and those of transformations in percent."""
    scale = 100 if row["statistic"] in SHARES else 1
    digits = 1 if row["statistic"] in SHARES or row["set"] == BENCH else 3
    value, low, high = (scale * row[c] for c in ("value", "ci_low", "ci_high"))
    return interval(value, low, high, f"{sign}.{digits}f")


def cells(frame: pd.DataFrame, columns: list[tuple[str, str]], *kinds: str) -> list[list[str]]:
    """A row a name, short where it is a model's: its numbers of the given (set, statistic)."""
    shown, rows = short_names(frame), numbers(frame, *kinds)
    lines = []
    for name in rows["name"].unique():
        own = rows[rows["name"] == name].drop_duplicates(["set", "statistic"])
        texts = {(row["set"], row["statistic"]): text_of(row) for _, row in own.iterrows()}
        if any(column in texts for column in columns):
            lines.append([shown[str(name)], *(texts.get(column, "-") for column in columns)])
    return lines


def measured_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a set and model: the counts of prompts, of those left out or undefined, and of ties."""
    rows = numbers(frame, "model")
    return rows[rows["statistic"] == rows["set"].map(lambda name: main_statistic(frame, name))]


def counted(frame: pd.DataFrame) -> list[str]:
    """Sentences about ties, undefined prompts and prompts left out, where there are any."""
    shown = short_names(frame)
    several = len(names(frame)) > 1
    sentences = []
    for _, row in measured_rows(frame).iterrows():
        where = f"{row['title']}{', ' + shown[row['name']] if several else ''}: "
        left_out, undefined, ties = (
            _count(row[f"n_{name}"]) for name in ("left_out", "undefined", "ties")
        )
        if left_out:
            sentences.append(
                f"{where}{_several(left_out, 'prompt')} left out, because a response does not fit "
                "the model's context; the number is of the others."
            )
        if undefined:
            sentences.append(
                f"{where}the statistic is not defined for {_several(undefined, 'prompt')} (no two "
                "responses of different preference, or rewards that are all equal); the number is "
                "of the others."
            )
        if ties:
            sentences.append(
                f"{where}{_several(ties, 'pair')} of responses of one prompt with equal rewards; a "
                "tie is no agreement."
            )
    return sentences


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _count(value: object) -> int:
    return 0 if pd.isna(value) else int(value)  # type: ignore[call-overload]


def data_source(frame: pd.DataFrame, name: str) -> str:
    """Where the data of a set come from: the rows' own `source`, else what is known; "" if nothing.

    Of a preset that is not made from real text, and of one's own file, nothing is known here.
    """
    rows = numbers(frame, "model")
    rows = rows[rows["set"] == name]
    stated = rows["source"].iloc[0]
    if isinstance(stated, str) and stated:
        return stated
    preset = rows["preset"].iloc[0]
    if isinstance(preset, str) and preset not in ("", "small"):
        return ""
    return ALPACA_EVAL if name in SCENARIOS else RM_BENCH if name == BENCH else ""


def licence(source: str) -> str:
    """The licence of a source of `data_source`, in words; "" where it is not known."""
    return str(LICENCES[source.split()[0]]) if source and source.split()[0] in LICENCES else ""


def data_lines(frame: pd.DataFrame) -> list[str]:
    """A line for each source of data: where it comes from, and its licence."""
    sources = dict.fromkeys(filter(None, (data_source(frame, name) for name in titles(frame))))
    return [f"{source}: {licence(source) or 'licence not known here'}" for source in sources]


def markdown(frame: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """Lines of a Markdown table: a row a statistic of a set, a column a model, and length's."""
    shown, rows = short_names(frame), numbers(frame, "model", "baseline")
    columns = [*models, *names(frame, "baseline")]
    texts = {(r["set"], r["statistic"], r["name"]): text_of(r) for _, r in rows.iterrows()}
    own = rows[rows["name"] == models[0]]
    prompts = own.set_index(["set", "statistic"])["n_prompts"].to_dict()
    listed = [(s, t) for s in titles(frame) for t in STATISTICS if (s, t) in prompts]
    head = ["data", "statistic", *(shown[name] for name in columns), "prompts"]
    lines = [
        [
            titles(frame)[name],
            STATISTICS[statistic],
            *(texts.get((name, statistic, model), "-") for model in columns),
            str(_count(prompts[name, statistic]) or "-"),
        ]
        for name, statistic in listed
    ]
    return markdown_table([[plain(text) for text in line] for line in [head, *lines]])


def plain(text: str) -> str:
    """A text as Markdown, in which none of its characters mean anything."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))
