"""The evaluation card: one self-contained HTML page of what `evaluate` measured, with figures."""

from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from itertools import groupby
from shlex import join

import numpy as np
import pandas as pd

from ..evaluation.rm_bench import DIFFICULTIES, METRICS
from .evaluation_plots import Row, dots, embedded, forest, lengths, slopes
from .evaluation_rows import (
    BENCH,
    MINUS,
    SHARES,
    STATISTICS,
    brief,
    cells,
    counted,
    cut,
    data_source,
    drawn,
    headline,
    licence,
    main_statistic,
    measured_rows,
    names,
    numbers,
    short_names,
    text_of,
    titles,
)
from .html_page import document

STYLE = """\
:root { --blue: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --blue: #45a5e6; } }
body { max-width: 68rem; } .table { max-height: none; }
section { margin-top: 2.6rem; }
section > h2 { padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
.soft { color: var(--soft); font-size: .92rem; }
thead th.number { min-width: 5.5rem; font-weight: 600; }
.number { padding-left: .5rem; padding-right: 1rem; }
th.set { text-align: right; color: var(--soft); font-weight: 400; font-size: .85rem;
  line-height: 1.35; padding: .6rem 1rem 0 1rem; }
tr:has(+ tr) th { border-bottom: 0; }
th.set span { display: inline-block; max-width: 20rem; }
tr.model td:first-child { font-weight: 600; } tr.published td { color: var(--soft); }
tr[class] td:first-child { overflow-wrap: break-word; min-width: 8rem; max-width: 18rem; }
td.words { min-width: 14rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: 1.6rem 2rem; margin: 1.2rem 0; }
figure { margin: 0; max-width: 32rem; } figure svg { display: block; width: 100%; height: auto; }
figcaption { margin-bottom: .4rem; font-size: .92rem; line-height: 1.4; }
figcaption b { font-weight: 600; } figcaption span { color: var(--soft); }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--soft); }
code.command { display: block; overflow-x: auto; padding: .7rem .9rem; }
@media (max-width: 640px) { body { margin: 1rem auto; padding: 0 .9rem; }
  th, td { padding: .4rem .6rem; } .number { padding-right: .8rem; }
  tr[class] td:first-child { min-width: 7rem; max-width: 9rem; font-size: .82rem; } }
"""
MANY = 12  # rows of a figure of differences, from which on these are folded
CHANCE = {"accuracy": 0.5, BENCH: 50.0}  # of a statistic or set; of every other statistic 0
KINDS = {  # a row of a forest plot, in words
    "model": "filled circles: the models evaluated here",
    "baseline": "squares: the number of characters as the reward",
    "reference": "diamonds: the preset's own models, each a mean over its seeds",
}
READING = """\
<p>± is half of a 95% interval over prompts: how far the number could lie from that of other prompts
of the same kind. It says nothing of another training of the same model. Two intervals that overlap
do not show that two models are alike: look at the difference, which is taken prompt by prompt and
is far more precise. The p-values are of single comparisons, not corrected for their number.</p>
<p>Accuracy: the share of pairs in which the preferred response has the higher reward; chance is
one half. Kendall's tau: agreement of the order of a prompt's responses, from minus 1 to 1; chance
is 0. The dashed line in a figure is chance, or no difference.</p>"""


def card(frame: pd.DataFrame) -> str:
    """The page, of `evaluate`'s frame; what has nothing to show is left out.

    It runs no scripts, loads nothing, and follows the reader's light or dark mode. Everything in
    the frame is escaped.
    """
    shown = short_names(frame)
    models = names(frame)
    title = (
        f"How robust is {shown[models[0]]}?"
        if len(models) == 1
        else f"How robust are these {len(models)} reward models?"
    )
    parts = [
        _header(frame, title),
        _headline(frame),
        _sets(frame),
        _bench(frame),
        _length(frame),
        _differences(frame),
        _transformations(frame),
        _left_out(frame),
        _data(frame),
        _section("How to read the numbers", READING),
        _section("How this was made", _made(frame)),
    ]
    return document("\n".join(filter(None, parts)), title, STYLE)


def _header(frame: pd.DataFrame, title: str) -> str:
    """What was evaluated, on how much, and what an empty page means."""
    models, count = names(frame), len(titles(frame))
    full = ", ".join(f"<code>{escape(name)}</code>" for name in models)
    sets = f"{count} set{'s' * (count != 1)} of prompts with responses of known preference"
    said = f"Measured on {sets}." if count else "Nothing could be measured."
    return f"""\
<header><h1>{escape(title)}</h1>
<p>{full}</p>
<p class="soft">{said} Every response is scored whole: nothing is padded or cut. Intervals are at
95%, over prompts.</p></header>"""


def _headline(frame: pd.DataFrame) -> str:
    columns = headline(frame)
    if not columns:
        return ""
    note = (
        '<p class="soft"><b>length</b> is no model: its reward is the number of characters. A '
        "model that does not beat it ranks no better than a preference for long responses.</p>"
    )
    table = _numbers_table(frame, columns, "model", "baseline", "reference")
    return _section("Results", table + note * bool(names(frame, "baseline")))


def _sets(frame: pd.DataFrame) -> str:
    """A forest plot of each set's main statistic: models, length, the preset's own, others'."""
    everyone, figures = numbers(frame, *KINDS), []
    for n, (name, title) in enumerate(titles(frame).items()):
        statistic = main_statistic(frame, name)
        chance = CHANCE.get(name, CHANCE.get(statistic, 0.0))
        svg = _forest(frame, name, statistic, chance)
        figures.append(_figure(svg, f"set{n}", title, STATISTICS[statistic]))
    kinds = [words for kind, words in KINDS.items() if kind in set(everyone["kind"])]
    kinds += ["ticks: numbers that others published, below"] * ("published" in set(frame["kind"]))
    note = f'<p class="soft">{escape("; ".join(kinds).capitalize())}.</p>'
    return _section("Each set", _grid(figures) + note) if figures else ""


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


def _bench(frame: pd.DataFrame) -> str:
    """RM-Bench by difficulty, with the style gap, and what others published of the same data."""
    rows = numbers(frame, "model")
    if BENCH not in set(rows["set"]):
        return ""
    columns = [(BENCH, m) for m in (*METRICS, "style_gap")]
    table = _numbers_table(frame, columns, "model", "baseline", "reference")
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
    text = """\
<p>Each prompt has three correct and three wrong responses in three styles: concise, detailed, and
with Markdown. <i>Hard</i> compares a correct response with a wrong one in a richer style,
<i>easy</i> the other way round, <i>normal</i> in the same style. A model that style does not sway
has the same accuracy in all three: the <b>style gap</b>, easy minus hard, is then 0.</p>"""
    return _section(
        "RM-Bench: content or style?", text + _grid(figures) + table + _published(frame)
    )


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
    table = _table(head, lines, ["published"] * len(lines))
    note = (
        '<p class="soft">As printed, without intervals, for the same prompts and responses. They '
        "were scored by other code; how it pads and formats is not known.</p>"
    )
    return f"<details><summary>{len(lines)} published models</summary>{table}{note}</details>"


def _length(frame: pd.DataFrame) -> str:
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
        figures.append(
            _figure(
                lengths(by_model, _ends(rows[rows["statistic"].isin(statistics)])),
                f"length{n}",
                title,
                "",
            )
        )
    if not figures:
        return ""
    text = """\
<p>Long responses are often preferred, so a model can look good by preferring length. <i>Tau with
length</i> says how far its rewards follow the number of characters; <i>length-controlled tau</i> is
its agreement with the preference when length is held constant. In the figures, of each model: tau
(hollow circle), length-controlled tau (filled circle) and tau with length (cross).</p>"""
    table = _numbers_table(frame, columns, "model")
    details = f"<details><summary>The numbers</summary>{table}</details>"
    return _section("Length", text + _grid(figures) + details)


def _differences(frame: pd.DataFrame) -> str:
    """Paired differences, as forest plots about zero: one for each set's main statistics."""
    rows = numbers(frame, "difference")
    shown, figures, lines = short_names(frame), [], []
    for n, (name, statistic) in enumerate(headline(frame)):
        own, plotted = _of(rows, name, statistic), []
        for _, row in own.iterrows():
            label = f"{shown[row['name']]} {MINUS} {shown.get(row['against'], row['against'])}"
            found = pd.notna(row["p_value"]) and row["p_value"] < 0.05
            text = text_of(row, "+")
            plotted.append(
                Row(
                    _pair(shown[row["name"]], shown.get(row["against"], row["against"])),
                    *drawn(row),
                    _value_text(row, "+"),
                    "found" if found else "not found",
                    row["mdd80"],
                )
            )
            smallest = f"{row['mdd80']:.{1 if name == BENCH else 3}f}"
            p = "-" if pd.isna(row["p_value"]) else f"{row['p_value']:.3f}"
            title = f"{row['title']}, {_heading(statistic)}"
            lines.append([label, title, text, p, "-" if pd.isna(row["mdd80"]) else smallest])
        if plotted:
            title = titles(frame)[name]
            same = rows[(rows["set"] == BENCH) == (name == BENCH)]
            svg = forest(plotted, 0.0, _ends(same))
            figures.append(_figure(svg, f"difference{n}", title, STATISTICS[statistic]))
    if not figures:
        return ""
    text = """\
<p>The first model minus the second, on the same prompts. Filled: p &lt; 0.05. The grey bar reaches
to the smallest difference that this many prompts find with a probability of 80%: a hollow mark
inside it means that the data cannot tell, not that the models are equal.</p>"""
    head = ["difference", "data", "value", "p", "smallest found"]
    details = f"<details><summary>The numbers</summary>{_table(head, lines)}</details>"
    grid = _grid(figures)
    if len(lines) > MANY * len(figures):
        said = f"Figures of {len(lines)} differences"
        grid = f"<details><summary>{said}</summary>{grid}</details>"
    return _section("Differences, prompt by prompt", text + grid + details)


def _transformations(frame: pd.DataFrame) -> str:
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
    details = f"<details><summary>The numbers</summary>{_table(head, lines)}</details>"
    return _section("Changes that keep the meaning", text + _grid(figures) + details)


def _left_out(frame: pd.DataFrame) -> str:
    sentences = "".join(f"<li>{escape(text)}</li>" for text in counted(frame))
    return _section(
        "Ties and prompts without a number", f"<ul>{sentences}</ul>" if sentences else ""
    )


def _data(frame: pd.DataFrame) -> str:
    """The sets: what they are, how many prompts, where they come from and under which licence."""
    counts = measured_rows(frame).groupby("set")["n_prompts"].max()
    lines = []
    for name, title in titles(frame).items():
        source = data_source(frame, name)
        prompts = "-" if pd.isna(counts[name]) else f"{counts[name]:,}"
        lines.append([title, prompts, source or "-", licence(source) or "-"])
    head = ["data", "prompts measured", "from", "licence"]
    if not any(data_source(frame, name) for name in titles(frame)):
        head, lines = head[:2], [line[:2] for line in lines]
    return _section("What it was measured on", _table(head, lines) if lines else "")


def _made(frame: pd.DataFrame) -> str:
    """The command, as far as the rows tell it, and the version."""
    preset = frame["preset"].iloc[0]
    words = ["rm-robustness", "evaluate", *names(frame)]
    words += ["--preset", preset] if isinstance(preset, str) and preset else []
    words += ["--transformations"] * bool(frame["statistic"].isin(SHARES).any())
    words += ["--skip-long"] * bool(frame["n_left_out"].dropna().gt(0).any())
    return f"""\
<p><code class="command">{escape(join(words))}</code></p>
<p class="soft">rm-robustness {escape(version("rm-robustness"))}. Options that change no number, and
folders of data that were given, are not listed.</p>"""


def _ends(rows: pd.DataFrame) -> tuple[float, float]:
    """The ends of an axis for several figures, which reaches around every number and interval."""
    drawn = rows[["value", "ci_low", "ci_high"]]
    return float(drawn.min().min()), float(drawn.max().max())


def _of(rows: pd.DataFrame, name: str, statistic: str) -> pd.DataFrame:
    return rows[(rows["set"] == name) & (rows["statistic"] == statistic)]


def _heading(statistic: str) -> str:
    return STATISTICS.get(statistic, statistic).removesuffix(", %")


def _pair(first: str, second: str) -> str:
    """Both names of a difference, each short enough for a figure."""
    return f"{cut(first, 13)} {MINUS} {cut(second, 13)}"


def _value_text(row: pd.Series, sign: str = "") -> str:
    """A number without its interval, which is drawn beside it."""
    alone = row.copy()
    alone["ci_low"] = alone["ci_high"] = np.nan
    return text_of(alone, sign)


def _section(heading: str, body: str) -> str:
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


def _numbers_table(frame: pd.DataFrame, columns: list[tuple[str, str]], *kinds: str) -> str:
    """A table: a row a name, a column a (set, statistic), headed also by set where several are."""
    lines, classes = [], []
    for kind in kinds:
        own = cells(frame, columns, kind)
        lines += own
        classes += [kind] * len(own)
    headed = [(brief(titles(frame)[n]), len(list(g))) for n, g in groupby(c[0] for c in columns)]
    spans = headed if len(headed) > 1 else []
    return _table(["", *(_heading(s) for _, s in columns)], lines, classes, spans)


def _table(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    classes: Sequence[str] = (),
    spans: Sequence[tuple[str, int]] = (),
) -> str:
    """A table, columns of numbers to the right; `spans` head columns after the first together."""
    right = [all(_is_number(line[i]) for line in lines) for i in range(len(head))]

    def cell(tag: str, i: int, text: str) -> str:
        kind = ' class="number"' if right[i] else ' class="words"' * (len(text) > 40)
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    above = "".join(
        f'<th colspan="{count}" class="set"><span>{escape(text)}</span></th>'
        for text, count in spans
    )
    above = f"<tr><th></th>{above}</tr>" if spans else ""
    heading = "".join(cell("th", i, text) for i, text in enumerate(head))
    body = "\n".join(
        (f'<tr class="{kind}">' if kind else "<tr>")
        + "".join(cell("td", i, text) for i, text in enumerate(line))
        + "</tr>"
        for line, kind in zip(lines, classes or [""] * len(lines), strict=True)
    )
    return f"""\
<div class="table" tabindex="0"><table>
<thead>{above}<tr>{heading}</tr></thead>
<tbody>
{body}
</tbody></table></div>"""


def _is_number(text: str) -> bool:
    return text == "-" or text.lstrip("+-")[:1].isdigit()
