"""What a rehearsal ran: rules, jobs and seconds, what stood in, changed keys, missing results."""

import csv
from pathlib import Path
from typing import Any

from rm_robustness.experiment.catalog import RESULTS, is_figure
from rm_robustness.experiment.config import Settings
from rm_robustness.progress import aligned, clock
from rm_robustness.provenance.snakemake_metadata import Metadata

HUB = "a hub on this machine, random weights, made-up text"
TINY = "a tiny model"
# What is not as in the paper's run, by rule; what is not here works on the numbers of these.
STOOD_IN = {
    "responses": HUB,
    "chats": HUB,
    "preferences": HUB,
    "rm_bench": "a git server on this machine, made-up text",
    "instructions": HUB,
    "pretrained": HUB,
    "released": TINY,
    "gold": TINY,
    "backbone": TINY,
    "reward_models": TINY,
    "measure": TINY,
    "generate": TINY,
    "rloo": TINY,
    "policy_gold": TINY,
    "answers": TINY,
    "judge": f"{TINY}, random verdicts",
}
ON_CPU = {
    "generate": "vLLM's CPU build",
    "answers": "vLLM's CPU build",
    "judge": "vLLM's CPU build, one process for the GPUs",
    "rloo": "vLLM's CPU build in the trainer's process, with oneDNN switched off",
    "backbone": "FSDP2 over gloo processes for GPUs",
    "reward_models": "FSDP2 over gloo processes for GPUs",
}


def text(config: Settings, paper: Settings, faults: list[str], gpu: bool, seconds: float) -> str:
    """The tables that a rehearsal ends with."""
    changes = changed(paper, config)
    planned = [key for key, _ in changes if key.startswith("sizes.")]
    changes = [change for change in changes if change[0] not in planned]
    keys = [["key", "paper", "rehearsal"], *([key, *map(_short, pair)] for key, pair in changes)]
    jobs = timed(config["preset"])
    total = sum(sum(times) for times in jobs.values())
    rules = [["rule", "jobs", "seconds", "in place of the real thing"]]
    for rule, times in jobs.items():
        kind = "measure" if rule.startswith("measure_") else rule.rstrip("_0123456789")
        what = [STOOD_IN.get(kind), None if gpu else ON_CPU.get(kind)]
        rules.append([rule, str(len(times)), f"{sum(times):.0f}", "; ".join(filter(None, what))])
    rules.append(["total", str(sum(map(len, jobs.values()))), f"{total:.0f}", ""])
    return "\n".join(
        [
            "",
            f"Config keys that the rehearsal changes ({len(changes)})",
            "",
            *aligned(keys, 3),
            f"and {len(planned)} of sizes, which jobs are planned with",
            "",
            "Rules, and what stood in for what the paper's run has",
            "",
            *_numbers_right(rules),
            "",
            *(f"On purpose: {fault}; the job went on." for fault in faults),
            f"{len(RESULTS)} results in results/ and runs/{config['preset']}/results, of stand-ins;"
            f" `snakemake publish` puts the demo's back. {clock(seconds)} in all.",
        ]
    )


def problems(config: Settings, connections: Path) -> list[str]:
    """What a rehearsal must not have: results that are absent or empty, connections of jobs."""
    found = [problem for name in RESULTS for problem in _problems(name, config["preset"])]
    if connections.is_file():
        lines = connections.read_text(encoding="utf-8").splitlines()
        found += [f"the offline guard ended a connection to {line}" for line in lines]
    return found


def _problems(name: str, preset: str) -> list[str]:
    """What is wrong with one result."""
    suffixes = ("png", "pdf", "csv") if is_figure(name) else ("csv", "md")
    paths = [Path("results") / f"{name}.{suffix}" for suffix in suffixes]
    found = [f"{path}: absent or empty" for path in paths if not _size(path)]
    if found:
        return found
    with Path("results", f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not is_figure(name) and {row["preset"] for row in rows} != {preset}:
        found.append(f"results/{name}.csv: not of preset {preset}")
    if not any(_is_number(value) for row in rows for value in row.values()):
        found.append(f"results/{name}.csv: no number")
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _is_number(value: str | None) -> bool:
    try:
        return value is not None and float(value) == float(value)
    except ValueError:
        return False


def timed(preset: str) -> dict[str, list[float]]:
    """Seconds of every job, by rule in the order of their first start, from Snakemake's memory."""
    metadata, logs = Metadata(), f"logs/{preset}/"
    jobs: dict[tuple[str, str], tuple[float, float]] = {}
    for output in metadata.outputs():
        job = metadata.of(output)
        log = (job.get("log") or [""])[0]
        if log.startswith(logs):  # a job with several outputs has the same entry for each
            jobs[job["rule"], log] = job["starttime"], job["endtime"]
    times: dict[str, list[float]] = {}
    for (rule, _), (start, end) in sorted(jobs.items(), key=lambda item: item[1]):
        times.setdefault(rule, []).append(end - start)
    return times


def changed(before: Any, after: Any, key: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    """The keys of a configuration that another sets to something else, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change
            for name in after
            for change in changed(
                before.get(name), after[name], f"{key}.{name}" if key else str(name)
            )
        ]
    return [] if before == after else [(key, (before, after))]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _numbers_right(rows: list[list[str]]) -> list[str]:
    """Align rows of rule, jobs, seconds and a text."""
    texts = [row[3] for row in rows]
    numbers = aligned([row[:3] for row in rows], 1)
    return [f"{line}  {what}".rstrip() for line, what in zip(numbers, texts, strict=True)]
