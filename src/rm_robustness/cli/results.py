"""Commands of results: tables, figures, claims, metrics, run times and the page of them all."""

import argparse
from importlib import import_module
from typing import Any

from ..experiment.catalog import EVERY_RESULT, Result, is_figure
from ..provenance.record import write_record
from .command import Command, command, path, paths, settings


def _function(name: str) -> Any:
    """A function of the package `results`, named as module:function."""
    module, _, function = name.partition(":")
    return getattr(import_module(f"rm_robustness.results.{module}"), function)


def result_command(name: str, result: Result) -> Command:
    """The command of a table, a figure or the claims, named like it."""
    drawn = ".png, .pdf, " if result.draw else ""
    files = f"{name}.csv; .md, {drawn}.html and .record.json go beside it"
    if is_figure(name):
        files = "figure without its suffix: .png, .pdf, .csv and a record"

    def write(options: argparse.Namespace) -> None:
        if is_figure(name):
            _write_figure(options, _function(result.measure))
        else:
            draw = _function(result.draw) if result.draw else None
            _write_table(options, _function(result.measure), _function(result.render), draw)

    write.__doc__ = f"{result.title}."
    arguments = (
        settings("what the result shows"),
        path("--runs", "folder runs/PRESET"),
        path("--output", files),
    )
    return command(*arguments, name=name)(write)


def _write_table(options: argparse.Namespace, measure: Any, render: Any, draw: Any) -> None:
    """Write a table's csv, md and html, the figure that it may have, and last its record."""
    from ..files import write_text
    from ..frames import write_csv
    from ..results.html import page

    csv = options.output
    markdown, html = csv.with_suffix(".md"), csv.with_suffix(".html")
    drawn = [csv.with_suffix(suffix) for suffix in (".png", ".pdf")] if draw else []
    files = [csv, markdown, html, *drawn]
    with write_record(options.settings, files, to=csv.with_suffix(".record.json")):
        frame = measure(options.runs, options.settings)
        text = render(frame, options.settings["note"])
        if draw:
            from ..results.plot_style import save_figure

            save_figure(draw(frame), frame, csv.with_suffix(""))  # with the csv
        else:
            write_csv(frame, csv)
        write_text(text, markdown)
        write_text(page(text, csv.stem), html)


def _write_figure(options: argparse.Namespace, draw: Any) -> None:
    """Write a figure's png, pdf and csv (the plotted frame), and last its record."""
    from ..results.plot_style import save_figure

    stem = options.output
    files = [stem.with_suffix(suffix) for suffix in (".png", ".pdf", ".csv")]
    with write_record(options.settings, files, to=stem.with_suffix(".record.json")):
        figure, frame = draw(options.runs, options.settings)
        save_figure(figure, frame, stem)


@command(paths("--tables", "csv files of tables"), path("--output", "metrics.json"))
def metrics(options: argparse.Namespace) -> None:
    """Write the numbers of all tables as one JSON file, for DVC."""
    from ..files import write_json
    from ..results.dvc_metrics import numbers

    with write_record({}, [options.output]):
        write_json(numbers(options.tables), options.output)


@command(
    settings("which results the preset has, and its scope"),
    path("--results", "folder runs/PRESET/results"),
    path("--captions", "folder of the report's captions"),
    path("--output", "index.html, which shows the figures beside it"),
)
def index(options: argparse.Namespace) -> None:
    """Write one page of all results of a preset."""
    from ..files import read_json, write_text
    from ..results.index_page import index_page

    # Read outside of the block: a job's record is beside its outputs, and no input of another job.
    made = {
        name: read_json(options.results / f"{name}.record.json")
        for name in options.settings["results"]
    }
    with write_record(options.settings, [options.output]):
        text = index_page(options.results, options.captions, options.settings, made)
        write_text(text, options.output)


@command(
    path("--benchmarks", "folder of Snakemake's benchmark files"),
    path("--output", "html page"),
    name="run-times",
)
def run_times(options: argparse.Namespace) -> None:
    """Write the run time of each phase as a page."""
    from ..files import write_text
    from ..results.html import page
    from ..results.run_times import run_times

    write_text(page(run_times(options.benchmarks), "Run times"), options.output)


@command(paths("--paths", "files of one runs/PRESET/results, with their records"))
def publish(options: argparse.Namespace) -> None:
    """Copy results of a run to results/, in place of another preset's."""
    from ..provenance.publish import publish

    publish(options.paths)


COMMANDS = [
    *(result_command(*item) for item in sorted(EVERY_RESULT.items())),
    *(metrics, index, run_times, publish),
]
