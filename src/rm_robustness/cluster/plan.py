"""What a preset will cost: jobs, GPUs, hours, disk and downloads, before anything is computed."""

import argparse
import json
from collections import Counter
from typing import NamedTuple

from ..errors import InputError
from ..experiment.checks import read_config
from ..experiment.config import Settings, nearest
from ..experiment.jobs import Job, jobs
from ..progress import aligned
from .job_cost import released_size, split_bytes
from .model_cost import parameters, shape_of
from .resources import HEADROOM, Cluster, Needs, needs

GPUS = {  # GB, and dense bfloat16 TFLOPS as the maker gives them
    "h100-80gb": (80, 989),
    "h200-141gb": (141, 989),
    "a100-80gb": (80, 312),
    "a100-40gb": (40, 312),
    "l40s-48gb": (48, 362),
    "a6000-48gb": (48, 155),
    "rtx4090-24gb": (24, 165),
}
CHECKPOINT = 12 * 3  # bytes a parameter: weights and two moments; two are kept, a third is written
HEADINGS = (
    *("phase", "of", "jobs", "GPUs a job", "GB a GPU", "hours a job", "GPU hours", "disk GB"),
    "checkpoints GB a job",
)


class Row(NamedTuple):
    """The jobs of a phase that are alike; bytes are those of all of them, or of one checkpoint."""

    phase: str
    name: str
    jobs: int
    needs: Needs | None  # None: a download or a table, where Snakemake runs
    disk: float
    checkpoints: float

    @property
    def gpu_hours(self) -> float:
        """Hours of all GPUs of all these jobs."""
        return self.jobs * self.needs.gpus * self.needs.hours if self.needs else 0.0


def run(options: argparse.Namespace) -> None:
    """Print the plan, or JSON: what the verb `plan` does.

    `options`: configfile (a list), gpu, tflops (None: the maker's), mfu, gpus_per_node and json.
    """
    config = read_config(options.configfile)
    cluster = cluster_of(options.gpu, options.tflops, options.mfu, options.gpus_per_node)
    rows = plan(config, cluster)
    print(as_json(config, cluster, rows) if options.json else table(config, cluster, rows))


def cluster_of(gpu: str, tflops: float | None, mfu: float, gpus_per_node: int) -> Cluster:
    """A cluster of GPUs known by name; InputError for an unknown one and for impossible numbers."""
    if gpu not in GPUS:
        raise InputError("--gpu", f"'{gpu}'", "a known GPU", nearest(gpu, list(GPUS)))
    if not 0 < mfu <= 1:
        raise InputError("--mfu", f"{mfu:g}", "above 0, to 1")
    if gpus_per_node < 1 or (tflops is not None and tflops <= 0):
        raise InputError(
            "--gpus-per-node, --tflops", f"{gpus_per_node}, {tflops}", "more than none"
        )
    memory, peak = GPUS[gpu]
    return Cluster(memory, gpus_per_node, tflops or peak, mfu)


def plan(config: Settings, cluster: Cluster) -> list[Row]:
    """A row for the jobs of a phase and a model, in the order in which data flow."""
    counts: Counter[Job] = Counter()
    for job in jobs(config):
        counts[job._replace(rule="") if job.kind else Job(job.phase, "", "")] += 1
    rows = []
    for job, count in counts.items():
        found = needs(config, cluster, job.kind, job.name, job.seeds) if job.kind else None
        kept, size = _stored(config, job)
        rows.append(
            Row(job.phase, job.name, count, found, count * job.seeds * kept, CHECKPOINT * size)
        )
    return rows


def _stored(config: Settings, job: Job) -> tuple[float, float]:
    """Bytes that a job's model has in the end, and the parameters that its checkpoints hold."""
    backbones, rloo = config["backbones"], config["rloo"]
    match job.kind:
        case "backbone":
            size = parameters(shape_of(config, job.name))
            return 4 * size, size if backbones[job.name]["sft"] else 0
        case "reward_model":
            size = parameters(shape_of(config, job.name), reward=True)
            return 4 * size, size
        case "released":
            return 4 * released_size(config, job.name), 0
        case "rloo":
            run = job.name.partition("-")[0]
            size = parameters(shape_of(config, rloo["runs"][run]["policy"]))
            return 4 * size, size
    return 0, 0


def downloads(config: Settings) -> dict[str, dict[str, float]]:
    """GB of all data and models that are fetched (models of the hub: 2 bytes a parameter)."""
    wanted = jobs(config)
    data = {
        job.name: float(config["sizes"]["sources"][job.name]["gigabytes"])
        for job in wanted
        if job.phase == "downloads" and job.rule != "pretrained"
    }
    found = {}
    for name in (job.name for job in wanted if job.rule == "pretrained"):
        if name in config["sizes"]["models"]:
            found[name] = 2 * config["sizes"]["models"][name]
        elif name.startswith("splits/"):
            data[name] = 1e-9 * split_bytes(config, name.removeprefix("splits/"))
        elif name in config["artifacts"]:
            found[name] = 2e-9 * released_size(config, name)
        else:
            width = 1 if config["backbones"][name]["init"]["kind"] == "wheel" else 2
            found[name] = width * 1e-9 * parameters(shape_of(config, name))
    return {"data": data, "models": found}


def as_json(config: Settings, cluster: Cluster, rows: list[Row]) -> str:
    """The plan as JSON, with the parts of each GPU's memory in bytes."""
    listed = [
        {
            "phase": row.phase,
            "name": row.name,
            "jobs": row.jobs,
            "gpu_hours": row.gpu_hours,
            "disk_bytes": row.disk,
            "checkpoint_bytes_a_job": row.checkpoints,
            "job": row.needs._asdict() if row.needs else None,
        }
        for row in rows
    ]
    whole = {
        "preset": config["preset"],
        "estimate": True,
        "cluster": cluster._asdict(),
        "rows": listed,
        "downloads_gb": downloads(config),
        "jobs": sum(row.jobs for row in rows),
        "gpu_hours": sum(row.gpu_hours for row in rows),
        "disk_bytes": _disk(config, rows),
    }
    return json.dumps(whole, indent=2)


def _disk(config: Settings, rows: list[Row]) -> float:
    """Bytes of everything that stays: what was made and what was downloaded."""
    return sum(row.disk for row in rows) + sum(
        1e9 * size for part in downloads(config).values() for size in part.values()
    )


def table(config: Settings, cluster: Cluster, rows: list[Row]) -> str:
    """The plan for a terminal: a row a phase and model, totals, what does not fit, assumptions."""
    cells = [list(HEADINGS), *(_cells(row) for row in rows)]
    total = [""] * len(HEADINGS)
    total[0], total[2] = "total", str(sum(row.jobs for row in rows))
    total[6] = f"{sum(row.gpu_hours for row in rows):.0f}"
    total[7] = f"{sum(row.disk for row in rows) / 1e9:.0f}"
    fetched = [
        f"Downloads, {part}, GB: {sum(sizes.values()):.1f} ("
        + (", ".join(f"{name} {size:.1f}" for name, size in sizes.items()) or "none")
        + ")"
        for part, sizes in downloads(config).items()
    ]
    lines = [
        f"Preset {config['preset']} on nodes of {cluster.gpus_per_node} GPUs of "
        f"{cluster.gpu_memory:g} GB: an estimate",
        "",
        *aligned([*cells, total], left=2),
        "",
        *fetched,
        f"Disk in the end, GB: {_disk(config, rows) / 1e9:.0f}, downloads included; while "
        f"{_busiest(rows)}",
        "",
        *_verdict(cluster, rows),
        "",
        f"Assumed: {cluster.tflops:g} TFLOPS of dense bfloat16 a GPU, of which training reaches "
        f"{cluster.mfu:.0%}; the longest",
        "sequences allowed for memory, and the mean ones of the section `sizes`, tripled by padding"
        " in",
        "reward-model batches, for time. Hours can be off by a factor of two, memory by a tenth.",
    ]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    """A row of the table; what a job does not need is a dash."""
    found, dash = row.needs, "-"
    gpus = memory = hours = dash
    if found:
        hours = f"{found.hours:.1f}"
        if found.gpus:
            gpus = f"{found.nodes} x {found.gpus_per_node}" if found.nodes > 1 else str(found.gpus)
            gpus += " (!)" if found.problem else ""
            memory = f"{found.gpu_bytes / 1e9:.0f}"
    return [
        row.phase,
        row.name,
        str(row.jobs),
        gpus,
        memory,
        hours,
        f"{row.gpu_hours:.0f}" if row.gpu_hours else dash,
        f"{row.disk / 1e9:.1f}" if row.disk else dash,
        f"{row.checkpoints / 1e9:.1f}" if row.checkpoints else dash,
    ]


def _busiest(rows: list[Row]) -> str:
    """What checkpoints take on top while the phase with the most of them runs all at once."""
    most: Counter[str] = Counter()
    for row in rows:
        most[row.phase] += int(row.jobs * row.checkpoints)
    (phase, size), *_ = most.most_common(1)
    return f"all {phase} train at once, {size / 1e9:.0f} more of checkpoints"


def _verdict(cluster: Cluster, rows: list[Row]) -> list[str]:
    """Say which jobs do not fit the GPU, and what to do."""
    wrong = [row for row in rows if row.needs and row.needs.problem]
    if not wrong:
        return [f"Every job fits into {HEADROOM:.0%} of a GPU's {cluster.gpu_memory:g} GB."]
    together: dict[tuple[str, str], list[str]] = {}
    for row in wrong:
        problem = row.needs.problem if row.needs else ""
        together.setdefault((row.phase, problem), []).append(row.name)
    return [
        f"Do not fit (!), {HEADROOM:.0%} of a GPU's memory being usable:",
        *(f"  {phase} {', '.join(names)}: {text}" for (phase, text), names in together.items()),
    ]
