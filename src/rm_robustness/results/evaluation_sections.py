"""Sections of the evaluation card with figures: sets, RM-Bench, length, differences, changes."""

from collections.abc import Sequence
from html import escape
from itertools import compress, groupby

import numpy as np
import pandas as pd

from ..evaluation.rm_bench import DIFFICULTIES, METRICS
from ..evaluation.sets import BENCH
from .evaluation_plots import Row, dots, embedded, forest, lengths, slopes
from .evaluation_rows import (
    MINUS,
    SHARES,
    STATISTICS,
    brief,
    cells,
    cut,
    drawn,
    headline,
    main_statistic,
    numbers,
    short_names,
    text_of,
    titles,
)
from .html_table import html_table

MANY = 12  # rows of a figure of differences, above which these figures are folded
CHANCE = {"accuracy": 0.5, BENCH: 50.0}  # of a statistic or set; of every other statistic 0
KINDS = {  # a row of a forest plot, in words
    "model": "filled circles: the models evaluated here",
    "baseline": "squares: the number of characters as the reward",
    "reference": "diamonds: the preset's own models, each a mean over its seeds",
}

BENCH_TEXT = """\
<p>Each prompt has three correct and three wrong responses in three styles: concise, detailed, and
with Markdown. <i>Hard</i> compares a correct response with a wrong one in a richer style,
<i>easy</i> the other way round, <i>normal</i> in the same style. A model that style does not sway
has the same accuracy in all three: the <b>style gap</b>, easy minus hard, is then 0.</p>"""
PART_TEXT = """\
<p>A part of RM-Bench: hard, normal, easy and overall are means over all domains, so they, and the
style gap, have no number here.</p>"""


def sets(frame: pd.DataFrame) -> str:
    """A forest plot of each set's main statistic: models, length, the preset's own, others'."""
    everyone, figures = numbers(frame, *KINDS), []
    for n, (name, title) in enumerate(titles(frame).items()):
        statistic = main_statistic(frame, name)
        chance = CHANCE.get(name, CHANCE.get(statistic, 0.0))
        svg = _forest(frame, name, statistic, chance)
        figures.append(_figure(svg, f"set{n}", title, STATISTICS.get(statistic, statistic)))
    kinds = [words for kind, words in KINDS.items() if kind in set(everyone["kind"])]
    kinds += ["ticks: numbers that others published, below"] * ("published" in set(frame["kind"]))
    note = f'<p class="soft">{escape("; ".join(kinds).capitalize())}.</p>'
    return section("Each set", _grid(figures) + note) if figures else ""


def _forest(frame: pd.DataFrame, name: str, statistic: str, chance: float) -> str:
    """A forest plot of one statistic of a set, on an axis for all sets with that statistic."""
    shown, everyone = short_names(frame), numbers(frame, *KINDS)
    rows = [
        Row(shown[row["name"]], *drawn(row), _value_text(row), row["kind"])
        for _, row in _of(everyone, name, statistic).iterrows()
    ]
    ends = _ends(everyone[everyone["statistic"] == statistic])
    published = list(_of(numbers(frame, "published"), name, statistic)["value"])
    return forest(rows, chance, ends, published, f"{len(published)} published")


def bench(frame: pd.DataFrame) -> str:
    """RM-Bench by difficulty, with the style gap, and what others published of the same data."""
    rows = numbers(frame, "model")
    if BENCH not in set(rows["set"]):
        return ""
    columns = [(BENCH, m) for m in (*METRICS, "style_gap")]
    table = numbers_table(frame, columns, "model", "baseline", "reference")
    shown, series, others = short_names(frame), [], []
    for (kind, name), own in numbers(frame, *KINDS, "published").groupby(
        ["kind", "name"], sort=False
    ):
        by_place = own[own["set"] == BENCH].drop_duplicates("statistic").set_index("statistic")
        if not set(DIFFICULTIES) <= set(by_place.index):
            continue
        if kind == "published":
            others.append(by_place["value"])
        elif kind != "reference":
            series.append((shown[str(name)], str(kind), by_place))
    figures = []
    if series:
        svg = slopes(series, others)
        figures.append(_figure(svg, "bench", "RM-Bench", "accuracy by difficulty, %"))
    if "style_gap" in set(rows["statistic"]):
        svg = _forest(frame, BENCH, "style_gap", 0.0)
        figures.append(_figure(svg, "gap", "RM-Bench", STATISTICS["style_gap"]))
    text = BENCH_TEXT if figures else PART_TEXT
    return section("RM-Bench: content or style?", text + _grid(figures) + table + _published(frame))


def _published(frame: pd.DataFrame) -> str:
    """A table of the published numbers, folded."""
    rows = numbers(frame, "published")
    if rows.empty:
        return ""
    statistics = [m for m in (*METRICS, "style_gap") if m in set(rows["statistic"])]
    head = ["published", *(_heading(m) for m in statistics), "by"]
    lines = []
    for _, own in rows.groupby(["name", "source"], sort=False):
        values = own.drop_duplicates("statistic").set_index("statistic")["value"]
        texts = [f"{values[m]:.1f}" if m in values else "-" for m in statistics]
        lines.append([own["name"].iloc[0], *texts, own["source"].iloc[0]])
    table = html_table(head, lines, ["published"] * len(lines))
    note = (
        '<p class="soft">As printed, without intervals, for the same prompts and responses. They '
        "were scored by other code; how it pads and formats is not known.</p>"
    )
    return f"<details><summary>{len(lines)} published models</summary>{table}{note}</details>"


def length(frame: pd.DataFrame) -> str:
    """Agreement with the preference, with length, and with the preference at equal length."""
    statistics = ("tau", "length_controlled_tau", "length_tau")
    rows = numbers(frame, "model")
    shown, figures, columns = short_names(frame), [], []
    for n, (name, title) in enumerate(titles(frame).items()):
        own = rows[(rows["set"] == name) & rows["statistic"].isin(statistics)]
        if not set(own["statistic"]) & set(statistics[1:]):
            continue
        columns += [(name, s) for s in statistics if s in set(own["statistic"])]
        by_model = [
            (shown[str(model)], {row["statistic"]: row for _, row in of_model.iterrows()})
            for model, of_model in own.groupby("name", sort=False)
        ]
        svg = lengths(by_model, _ends(rows[rows["statistic"].isin(statistics)]))
        figures.append(_figure(svg, f"length{n}", title, ""))
    if not figures:
        return ""
    text = """\
<p>Long responses are often preferred, so a model can look good by preferring length. <i>Tau with
length</i> says how far its rewards follow the number of characters; <i>length-controlled tau</i> is
its agreement with the preference when length is held constant. In the figures, of each model: tau
(hollow circle), length-controlled tau (filled circle) and tau with length (cross).</p>"""
    table = numbers_table(frame, columns, "model")
    details = f"<details><summary>The numbers</summary>{table}</details>"
    return section("Length", text + _grid(figures) + details)


def differences(frame: pd.DataFrame) -> str:
    """Paired differences, as forest plots about zero: one for each set's main statistics."""
    rows = numbers(frame, "difference")
    shown, figures, lines = short_names(frame), [], []
    columns = headline(frame)
    for n, (name, statistic) in enumerate(columns):
        own = _of(rows, name, statistic)
        if own.empty:
            continue
        plotted = []
        for _, row in own.iterrows():
            first, second = shown[row["name"]], shown.get(row["against"], row["against"])
            label = f"{cut(first, 13)} {MINUS} {cut(second, 13)}"
            found = "found" if row["p_value"] < 0.05 else "not found"
            plotted.append(Row(label, *drawn(row), _value_text(row, "+"), found, row["mdd80"]))
            digits = 1 if name == BENCH else 3
            smallest = "-" if pd.isna(row["mdd80"]) else f"{row['mdd80']:.{digits}f}"
            p = "-" if pd.isna(row["p_value"]) else f"{row['p_value']:.2g}"
            data = f"{row['title']}, {_heading(statistic)}"
            lines.append([f"{first} {MINUS} {second}", data, text_of(row, "+"), p, smallest])
        same = [_of(rows, *column) for column in columns if (column[0] == BENCH) == (name == BENCH)]
        svg = forest(plotted, 0.0, _ends(pd.concat(same)))
        heading = STATISTICS.get(statistic, statistic)
        figures.append(_figure(svg, f"difference{n}", titles(frame)[name], heading))
    if not figures:
        return ""
    text = """\
<p>The first model minus the second, on the same prompts. Filled: p &lt; 0.05. The grey bar reaches
to the smallest difference that this many prompts find with a probability of 80%: a hollow mark
inside it means that the data cannot tell, not that the models are equal.</p>"""
    head = ["difference", "data", "value", "p", "smallest found"]
    details = f"<details><summary>The numbers</summary>{html_table(head, lines)}</details>"
    grid = _grid(figures)
    if len(lines) > MANY * len(figures):
        said = f"Figures of {len(lines)} differences"
        grid = f"<details><summary>{said}</summary>{grid}</details>"
    return section("Differences, prompt by prompt", text + grid + details)


def transformations(frame: pd.DataFrame) -> str:
    """Drop of accuracy and share of flipped preferences, by transformation and set."""
    rows = frame[frame["statistic"].isin(SHARES) & frame["value"].notna()]
    rows = rows[rows["kind"] == "model"]
    shown, figures, lines = short_names(frame), [], []
    for n, (_, of_set) in enumerate(rows.groupby("set", sort=False)):
        changes = list(of_set["transformation"].unique())
        title = str(of_set["title"].iloc[0])
        for statistic, axis in (
            ("accuracy_drop", "drop of accuracy, percentage points"),
            ("flips", "preferences that flip, %"),
        ):
            of_statistic = of_set[of_set["statistic"] == statistic]
            series = [
                (
                    shown[str(model)],
                    100 * own.set_index("transformation")[["value", "ci_low", "ci_high"]],
                )
                for model, own in of_statistic.groupby("name", sort=False)
            ]
            if series:
                svg = dots(changes, series, axis)
                figures.append(_figure(svg, f"{statistic}{n}", title, axis.partition(",")[0]))
        for (model, change), own in of_set.groupby(["name", "transformation"], sort=False):
            by = {row["statistic"]: row for _, row in own.iterrows()}
            texts = [text_of(by[s]) if s in by else "-" for s in SHARES]
            lines.append([shown[str(model)], title, str(change).replace("_", " "), *texts])
    if not figures:
        return ""
    text = """\
<p>The same responses, changed in a way that leaves their meaning alone. A robust model ranks them
as before: its accuracy does not drop, and no preference flips.</p>"""
    head = ["model", "data", "change", "drop of accuracy, %", "flips, %", "changed texts, %"]
    details = f"<details><summary>The numbers</summary>{html_table(head, lines)}</details>"
    return section("Changes that keep the meaning", text + _grid(figures) + details)


def numbers_table(frame: pd.DataFrame, columns: list[tuple[str, str]], *kinds: str) -> str:
    """A table: a row a name, a column a (set, statistic), headed also by set where several are."""
    lines, classes = [], []
    for kind in kinds:
        own = cells(frame, columns, kind)
        lines += own
        classes += [kind] * len(own)
    used = [any(line[i] != "-" for line in lines) for i in range(1, len(columns) + 1)]
    columns = list(compress(columns, used))
    lines = [[line[0], *compress(line[1:], used)] for line in lines]
    headed = [(brief(titles(frame)[n]), len(list(g))) for n, g in groupby(c[0] for c in columns)]
    spans = headed if len(headed) > 1 else []
    return html_table(["", *(_heading(s) for _, s in columns)], lines, classes, spans)


def section(heading: str, body: str) -> str:
    """A section of the page; nothing without a body."""
    return f"<section><h2>{escape(heading)}</h2>\n{body}</section>" if body else ""


def _figure(svg: str, key: str, title: str, statistic: str) -> str:
    """A figure with its caption, and the caption again for those who do not see it."""
    title = brief(title)
    said = f"<br/><span>{escape(statistic)}</span>" if statistic else ""
    caption = f"<figcaption><b>{escape(title)}</b>{said}</figcaption>"
    text = ": ".join(filter(None, ("Figure", title, statistic)))
    return f"<figure>{caption}{embedded(svg, key, text)}</figure>"


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""


def _ends(rows: pd.DataFrame) -> tuple[float, float]:
    """The ends of an axis for several figures, which reaches around every number and interval."""
    drawn = rows[["value", "ci_low", "ci_high"]]
    return float(drawn.min().min()), float(drawn.max().max())


def _of(rows: pd.DataFrame, name: str, statistic: str) -> pd.DataFrame:
    return rows[(rows["set"] == name) & (rows["statistic"] == statistic)]


def _heading(statistic: str) -> str:
    return STATISTICS.get(statistic, statistic).removesuffix(", %")


def _value_text(row: pd.Series, sign: str = "") -> str:
    """A number without its interval, which is drawn beside it."""
    alone = row.copy()
    alone["ci_low"] = alone["ci_high"] = np.nan
    return text_of(alone, sign)
