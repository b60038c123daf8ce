"""The evaluation card: one self-contained HTML page of what `evaluate` measured, with figures."""

from html import escape
from importlib.metadata import version
from shlex import join

import pandas as pd

from .evaluation_rows import (
    SHARES,
    counted,
    data_source,
    headline,
    licence,
    names,
    numbers,
    short_names,
    titles,
)
from .evaluation_sections import (
    bench,
    differences,
    length,
    numbers_table,
    section,
    sets,
    transformations,
)
from .html_page import document
from .html_table import html_table

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
        sets(frame),
        bench(frame),
        length(frame),
        differences(frame),
        transformations(frame),
        _left_out(frame),
        _data(frame),
        section("How to read the numbers", READING),
        section("How this was made", _made(frame)),
    ]
    return document("\n".join(filter(None, parts)), title, STYLE)


def _header(frame: pd.DataFrame, title: str) -> str:
    """What was evaluated, on how much, and what an empty page means."""
    models, count = names(frame), len(titles(frame))
    full = ", ".join(f"<code>{escape(name)}</code>" for name in models)
    measured = f"{count} set{'s' * (count != 1)} of prompts with responses of known preference"
    said = f"Measured on {measured}." if count else "Nothing could be measured."
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
    table = numbers_table(frame, columns, "model", "baseline", "reference")
    return section("Results", table + note * bool(names(frame, "baseline")))


def _left_out(frame: pd.DataFrame) -> str:
    sentences = "".join(f"<li>{escape(text)}</li>" for text in counted(frame))
    return section(
        "Ties and prompts without a number", f"<ul>{sentences}</ul>" if sentences else ""
    )


def _data(frame: pd.DataFrame) -> str:
    """The sets: what they are, how many prompts, where they come from and under which licence."""
    counts = numbers(frame, "model").groupby("set")["n_prompts"].max()
    lines = []
    for name, title in titles(frame).items():
        source = data_source(frame, name)
        prompts = "-" if pd.isna(counts[name]) else f"{counts[name]:,}"
        lines.append([title, prompts, source or "-", licence(source) or "-"])
    head = ["data", "prompts measured", "from", "licence"]
    if not any(data_source(frame, name) for name in titles(frame)):
        head, lines = head[:2], [line[:2] for line in lines]
    return section("What it was measured on", html_table(head, lines) if lines else "")


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
