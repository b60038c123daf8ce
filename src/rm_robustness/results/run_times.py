"""Run times and memory by phase, from Snakemake's benchmark files."""

from pathlib import Path

import pandas as pd

from ..errors import InputError
from .tables import markdown_table

COLUMNS = ["s", "max_rss", "cpu_time"]
FETCHED = """\
# Run times

Not measured here: this run was fetched, and run times stay on the machine where its jobs ran.
"""


def run_times(benchmarks: Path) -> str:
    """Format run times and memory by phase as Markdown.

    A phase is a folder of `benchmarks`, or a file there for a phase of one job. Its wall time is
    the sum over its jobs, which may run in parallel; CPU time covers all processes of a job; memory
    is the largest resident set of one job, empty where all were too short to be sampled. A run that
    was fetched has no benchmarks. Raises `InputError` for a file without the columns `COLUMNS`.
    """
    paths = sorted(benchmarks.rglob("*.tsv"))
    if not paths:
        return FETCHED
    jobs = pd.concat([_read_benchmark(path, benchmarks) for path in paths], ignore_index=True)
    cells = [["phase", "jobs", "wall time", "longest", "longest job", "CPU time", "largest memory"]]
    phases = sorted(jobs.groupby("phase"), key=lambda phase: -phase[1]["s"].sum())
    for name, part in phases:
        cells.append([str(name), *_costs(part)])
    cells.append(["total", *_costs(jobs)])
    lines = [
        "# Run times",
        "",
        "Time and memory by phase, the longest first. Wall time is summed over jobs, which run in "
        "parallel, so it exceeds the elapsed time. A job counts with its last run; rules without a "
        "benchmark (downloads, tables, figures) are not listed.",
        "",
        *markdown_table(cells),
    ]
    return "\n".join(lines) + "\n"


def _read_benchmark(path: Path, benchmarks: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, sep="\t", na_values=["-"])
    if missing := [column for column in COLUMNS if column not in frame]:
        raise InputError(path, f"columns {list(frame)}", f"also the columns {missing}")
    job = path.relative_to(benchmarks).with_suffix("")
    return frame[COLUMNS].assign(phase=job.parts[0], job=str(job))


def _costs(jobs: pd.DataFrame) -> list[str]:
    longest = jobs.sort_values("s", kind="stable").iloc[-1]
    memory = jobs["max_rss"].max()
    return [
        f"{len(jobs):,}",
        _clock(jobs["s"].sum()),
        _clock(longest["s"]),
        f"`{longest['job']}`",
        _clock(jobs["cpu_time"].sum()),
        "" if pd.isna(memory) else f"{memory:,.0f} MiB",
    ]


def _clock(seconds: float) -> str:
    """Format seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
