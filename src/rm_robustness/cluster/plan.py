"""Estimated cost of a preset: jobs, GPUs, hours, disk and downloads (`rm-robustness plan`)."""

import json
from collections import Counter
from typing import NamedTuple

from ..errors import InputError
from ..experiment.config import Settings, nearest
from ..experiment.jobs import Job, jobs
from ..progress import aligned
from .claim_designs import Design
from .job_cost import released_size, split_bytes, stored
from .model_cost import parameters, shape_of
from .resources import HEADROOM, Cluster, Resources, resources_of

GPUS = {  # GB, and dense bfloat16 TFLOPS as the maker gives them
    "h100-80gb": (80, 989),
    "h200-141gb": (141, 989),
    "a100-80gb": (80, 312),
    "a100-40gb": (40, 312),
    "l40s-48gb": (48, 362),
    "a6000-48gb": (48, 155),
    "rtx4090-24gb": (24, 165),
}
HEADINGS = (
    *("phase", "of", "jobs", "GPUs a job", "GB a GPU", "hours a job", "GPU hours", "disk GB"),
    "checkpoints GB a job",
)


class Row(NamedTuple):
    """Identical jobs of a phase; `disk` is the bytes of all, `checkpoints` those of one job."""

    phase: str
    name: str
    jobs: int
    resources: Resources | None  # None: a local rule (downloads, tables)
    disk: float
    checkpoints: float

    @property
    def gpu_hours(self) -> float:
        """GPU hours of all jobs of the row."""
        return self.jobs * self.resources.gpus * self.resources.hours if self.resources else 0.0

    @property
    def cpu_hours(self) -> float:
        """Hours of all jobs of the row, each on one core, if they have no GPU."""
        if not self.resources or self.resources.gpus:
            return 0.0
        return self.jobs * self.resources.hours


def cluster_of(gpu: str, tflops: float | None, mfu: float, gpus_per_node: int) -> Cluster:
    """Cluster of a GPU model of `GPUS` (raises InputError for unknown names and bad numbers)."""
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
    """Rows of the plan: one for each phase and model, in topological order of the jobs."""
    counts: Counter[Job] = Counter()
    for job in jobs(config):
        counts[job._replace(rule="") if job.kind else Job(job.phase, "", "")] += 1
    rows = []
    for job, count in counts.items():
        resources = (
            resources_of(config, cluster, job.kind, job.name, job.seeds) if job.kind else None
        )
        model, checkpoints = stored(config, job.kind, job.name)
        rows.append(
            Row(job.phase, job.name, count, resources, count * job.seeds * model, checkpoints)
        )
    return rows


def downloads(config: Settings) -> dict[str, dict[str, float]]:
    """Download sizes of data and models, GB by name (models of the hub: 2 bytes a parameter)."""
    listed_jobs = jobs(config)
    data = {
        job.name: float(config["sizes"]["sources"][job.name]["gigabytes"])
        for job in listed_jobs
        if job.phase == "downloads" and job.rule != "pretrained"
    }
    models = {}
    for name in (job.name for job in listed_jobs if job.rule == "pretrained"):
        if name in config["sizes"]["models"]:
            models[name] = 2 * config["sizes"]["models"][name]
        elif name.startswith("splits/"):
            data[name] = 1e-9 * split_bytes(config, name.removeprefix("splits/"))
        elif name in config["artifacts"]:
            models[name] = 2e-9 * released_size(config, name)
        else:
            width = 1 if config["backbones"][name]["init"]["kind"] == "wheel" else 2
            models[name] = width * 1e-9 * parameters(shape_of(config, name))
    return {"data": data, "models": models}


def as_json(config: Settings, cluster: Cluster, rows: list[Row], designs: list[Design]) -> str:
    """Format the plan as JSON, with the parts of each GPU's memory in bytes, and the designs."""
    row_dicts = [
        {
            "phase": row.phase,
            "name": row.name,
            "jobs": row.jobs,
            "gpu_hours": row.gpu_hours,
            "disk_bytes": row.disk,
            "checkpoint_bytes_a_job": row.checkpoints,
            "job": row.resources._asdict() if row.resources else None,
        }
        for row in rows
    ]
    plan = {
        "preset": config["preset"],
        "estimate": True,
        "cluster": cluster._asdict(),
        "rows": row_dicts,
        "downloads_gb": downloads(config),
        "jobs": sum(row.jobs for row in rows),
        "gpu_hours": sum(row.gpu_hours for row in rows),
        "cpu_hours": sum(row.cpu_hours for row in rows),
        "disk_bytes": disk_bytes(config, rows),
        "designs": [design._asdict() for design in designs],
    }
    return json.dumps(plan, indent=2)


def disk_bytes(config: Settings, rows: list[Row]) -> float:
    """Bytes on disk at the end: outputs and downloads."""
    return sum(row.disk for row in rows) + sum(
        1e9 * size for part in downloads(config).values() for size in part.values()
    )


def as_text(config: Settings, cluster: Cluster, rows: list[Row]) -> str:
    """Format the plan as text: a row a phase and model, totals, jobs too large, assumptions."""
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
    phase, size = busiest(rows)
    lines = [
        f"Preset {config['preset']} on nodes of {cluster.gpus_per_node} GPUs of "
        f"{cluster.gpu_memory:g} GB: an estimate",
        "",
        *aligned([*cells, total], left=2),
        "",
        f"Jobs without a GPU: {sum(row.cpu_hours for row in rows):.1f} hours, each on one core",
        *fetched,
        f"Disk at the end, GB: {disk_bytes(config, rows) / 1e9:.0f}, downloads included; while "
        f"all {phase} train at once, {size / 1e9:.0f} more of checkpoints",
        "",
        *_verdict(cluster, rows),
        "",
        f"Assumptions: {cluster.tflops:g} TFLOPS of dense bfloat16 a GPU, at an MFU of "
        f"{cluster.mfu:.0%}. Memory is",
        "for sequences of maximum length; time is for the mean lengths of the section `sizes`,",
        "times three for padding in the batches of RLOO. Hours can be off by a factor of two,",
        "memory by a tenth.",
    ]
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    """Format a row of the table; a resource that a job does not use is a dash."""
    resources, dash = row.resources, "-"
    gpus = memory = hours = dash
    if resources:
        hours = f"{resources.hours:.1f}"
        if resources.gpus:
            gpus = (
                f"{resources.nodes} x {resources.gpus_per_node}"
                if resources.nodes > 1
                else str(resources.gpus)
            )
            gpus += " (!)" if resources.problem else ""
            memory = f"{resources.gpu_bytes / 1e9:.0f}"
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


def busiest(rows: list[Row]) -> tuple[str, float]:
    """The phase with the most bytes of checkpoints while all of its jobs run at once; how many."""
    most: Counter[str] = Counter()
    for row in rows:
        most[row.phase] += int(row.jobs * row.checkpoints)
    ((phase, size),) = most.most_common(1)
    return phase, size


def _verdict(cluster: Cluster, rows: list[Row]) -> list[str]:
    """List the jobs that do not fit the GPU, with advice."""
    too_large = [row for row in rows if row.resources and row.resources.problem]
    if not too_large:
        return [f"Every job fits into {HEADROOM:.0%} of a GPU's {cluster.gpu_memory:g} GB."]
    names_by_problem: dict[tuple[str, str], list[str]] = {}
    for row in too_large:
        problem = row.resources.problem if row.resources else ""
        names_by_problem.setdefault((row.phase, problem), []).append(row.name)
    return [
        f"Do not fit (!), {HEADROOM:.0%} of a GPU's memory being usable:",
        *(
            f"  {phase} {', '.join(names)}: {text}"
            for (phase, text), names in names_by_problem.items()
        ),
    ]
