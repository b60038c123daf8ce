"""Commands that write what people read: tables, figures, claims, metrics and run times."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from ..experiment.config import Settings
from ..provenance.record import recorded
from .command import Command, command, path, paths, settings

# name: its help, what measures or draws it, and what lays a table out; each as "module:function".
RESULTS = {
    "table1": (
        "Write table 1: effective rank on the train set and RM-Bench.",
        "evaluation.effective_rank:table1",
        "evaluation.effective_rank:table1_markdown",
    ),
    "table2": (
        "Write table 2: RM-Bench with the ablation of lambda.",
        "evaluation.rm_bench:table2",
        "evaluation.rm_bench:table2_markdown",
    ),
    "table3": (
        "Write table 3: AlpacaEval 2.0, win rates and lengths.",
        "evaluation.alpaca_eval.win_rates:table3",
        "evaluation.alpaca_eval.win_rates:table3_markdown",
    ),
    "table4": (
        "Write table 4: the RLOO hyperparameters in effect.",
        "results.table4_rloo:table4",
        "results.table4_rloo:table4_markdown",
    ),
    "table5": (
        "Write table 5: the four metrics of every reward model.",
        "evaluation.scenarios:table5",
        "evaluation.scenarios:table5_markdown",
    ),
    "figure1": (
        "Draw figure 1: ||W_p|| during training with bt.",
        "results.figures_reward_models:figure1",
        None,
    ),
    "figure2": (
        "Draw figure 2: ||h_w - h_l|| during training with bt.",
        "results.figures_reward_models:figure2",
        None,
    ),
    "figure3": (
        "Draw figure 3: ||h|| per scenario, bt against bt-bsr.",
        "results.figures_reward_models:figure3",
        None,
    ),
    "figure4": ("Draw figure 4: table 5 as a plot.", "cli.results:_figure4", None),
    "figure5": (
        "Draw figure 5: RLOO, proxy reward against KL, and gold.",
        "results.figures_rloo:figure5",
        None,
    ),
    "figure6": (
        "Draw figure 6: RLOO with the large reward models.",
        "results.figures_rloo:figure6",
        None,
    ),
    "claims": (
        "Give a verdict on each of the paper's claims.",
        "results.claims:claims",
        "results.claims_page:claims_markdown",
    ),
}


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(f"rm_robustness.{module}"), function)


def _figure4(runs: Path, settings: Settings) -> Any:
    from ..frames import read_csv
    from ..results.figures_reward_models import figure4

    return figure4(read_csv(runs / "results" / "table5.csv"))


def result_command(name: str) -> Command:
    """The command of a table, a figure or the claims, named like it."""
    text, measure, render = RESULTS[name]
    files = "figure without its suffix: .png, .pdf, .csv and a record"
    if render:
        files = f"{name}.csv; .md, .html and .record.json go beside it"

    def write(options: argparse.Namespace) -> None:
        if render:
            _write_table(options, _function(measure), _function(render))
        else:
            _write_figure(options, _function(measure))

    write.__doc__ = text
    make = command(
        settings("what the result shows"),
        path("--runs", "folder runs/PRESET"),
        path("--output", files),
        name=name,
    )
    return make(write)


def _write_table(options: argparse.Namespace, measure: Any, render: Any) -> None:
    """Write a table's csv, md and html, and last its record."""
    from ..files import write_text
    from ..frames import write_csv
    from ..results.html import page

    csv = options.output
    markdown, html = csv.with_suffix(".md"), csv.with_suffix(".html")
    with recorded(options.settings, [csv, markdown, html], to=csv.with_suffix(".record.json")):
        frame = measure(options.runs, options.settings)
        text = render(frame, options.settings["note"])
        write_csv(frame, csv)
        write_text(text, markdown)
        write_text(page(text, csv.stem), html)


def _write_figure(options: argparse.Namespace, draw: Any) -> None:
    """Write a figure's png, pdf and csv (what was drawn), and last its record."""
    from ..results.plot_style import save

    stem = options.output
    files = [stem.with_suffix(suffix) for suffix in (".png", ".pdf", ".csv")]
    with recorded(options.settings, files, to=stem.with_suffix(".record.json")):
        figure, frame = draw(options.runs, options.settings)
        save(figure, frame, stem)


@command(paths("--tables", "csv files of tables"), path("--output", "metrics.json"))
def metrics(options: argparse.Namespace) -> None:
    """Write the numbers of all tables as one JSON file, for DVC."""
    from ..files import write_json
    from ..results.dvc_metrics import numbers

    with recorded({}, [options.output]):
        write_json(numbers(options.tables), options.output)


@command(
    path("--benchmarks", "folder of Snakemake's benchmark files"),
    path("--output", "html page"),
    name="run-times",
)
def run_times(options: argparse.Namespace) -> None:
    """Write the run time of each phase as a page."""
    from ..files import write_text
    from ..results.html import page, run_times

    write_text(page(run_times(options.benchmarks), "Run times"), options.output)


COMMANDS = [*map(result_command, RESULTS), metrics, run_times]
