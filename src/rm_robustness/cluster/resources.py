"""Resources of a job: GPUs, memory and time, estimated from the config alone.

Snakemake calls `resources_of` for every job when it starts, so nothing here imports torch. Memory
follows the formulas of `model_cost`, time the floating-point operations of `job_cost`.
"""

import math
from typing import NamedTuple

from ..experiment.config import Settings
from .job_cost import JobCost, cost_of, on_cpu
from .model_cost import Parts

HEADROOM = 0.9  # usable share of a GPU's memory; the rest is for CUDA, NCCL and fragmentation
LONG = 12.0  # hours: a job that lasts longer gets more GPUs
# Floating-point operations a second of one core in float32, by a model's parameters: with rows of
# the demo's 64 numbers it mostly waits, with SmolLM2's 576 it computes. Measured at both.
CPU_FLOPS, CPU_PARAMETERS, CPU_GROWTH = 1e10, (3e5, 4.2e7), 0.395


class Cluster(NamedTuple):
    """The nodes of a cluster, all alike."""

    gpu_memory: float  # GB of one GPU
    gpus_per_node: int
    tflops: float  # dense bfloat16, one GPU
    mfu: float = 0.4  # model FLOPs utilization of training
    cpus_per_gpu: int = 8


class Resources(NamedTuple):
    """Resources that one job requests; `gpus` is the total over its nodes, 0 for a CPU job."""

    gpus: int
    nodes: int
    gpus_per_node: int
    cpus: int  # of a node
    mem_mb: int  # of a node's main memory
    minutes: int  # time limit: twice the expected time, 30 at least
    hours: float  # expected
    gpu_bytes: float  # peak memory of a GPU
    parts: Parts  # of that peak
    problem: str  # why it does not fit, or ""


def resources_of(
    config: Settings, cluster: Cluster, kind: str, name: str = "", seeds: int = 1
) -> Resources:
    """Estimate the resources of a job.

    `kind` and `name`: `backbone`, `reward_model`, `released` or what is measured (`scenarios`,
    benchmarks by name, `ranks`, joined by +) of a backbone; `rloo`, `policy_gold` or `answers` of a
    policy (`answers` of `sft` too); `generate` of a response model; `gold` and `judge`. The job
    processes `seeds` models, one after another. If no number of GPUs that divides the batch
    suffices, `problem` explains why and the other fields are for the number that comes nearest.
    """
    cost = cost_of(config, kind, name, cluster.gpu_memory)
    if on_cpu(config, cost.parameters):
        hours = (30 + seeds * cost.flops / _cpu_rate(cost.parameters)) / 3600
        held = max(2 * cost.weight_bytes, sum(cost.memory(1).values()))
        memory = math.ceil((1.2e9 + held + cost.data_bytes) / 1e6)
        return Resources(0, 1, 0, 1, memory, _minutes(hours), hours, 0.0, {}, "")
    gpus, problem = _gpus(cost, cluster, seeds)
    node = _node(cluster)
    gpus_per_node, hours, parts = (
        min(gpus, node),
        _hours(cost, cluster, seeds, gpus),
        cost.memory(gpus),
    )
    # Every process loads the weights; rank 0 also gathers them when it saves.
    memory = math.ceil(
        (gpus_per_node * (4e9 + cost.data_bytes) + max(gpus_per_node, 2) * cost.weight_bytes) / 1e6
    )
    return Resources(
        gpus,
        gpus // gpus_per_node,
        gpus_per_node,
        gpus_per_node * cluster.cpus_per_gpu,
        memory,
        _minutes(hours),
        hours,
        sum(parts.values()),
        parts,
        problem,
    )


def _cpu_rate(n_parameters: float) -> float:
    """Floating-point operations a second of one core."""
    least, most = CPU_PARAMETERS
    return CPU_FLOPS * float((min(max(n_parameters, least), most) / least) ** CPU_GROWTH)


def _gpus(cost: JobCost, cluster: Cluster, seeds: int) -> tuple[int, str]:
    """Smallest number of GPUs whose memory suffices, doubled while a job lasts above `LONG` hours.

    Returns the number and "", or the number that comes nearest and why it does not suffice.
    """
    if cost.one_node and min(cost.gpu_counts) > cluster.gpus_per_node:
        least = min(cost.gpu_counts)
        return least, f"{least} GPUs of one node, which has {cluster.gpus_per_node}"
    limit = HEADROOM * cluster.gpu_memory * 1e9
    fitting = [n for n in cost.gpu_counts if sum(cost.memory(n).values()) <= limit]
    if not fitting:
        least = min(cost.gpu_counts, key=lambda n: sum(cost.memory(n).values()))
        used = sum(cost.memory(least).values())
        return least, (
            f"{used / 1e9:.0f} GB on each GPU, and {limit / 1e9:.0f} of {cluster.gpu_memory:g} "
            f"can be used: {cost.advice}"
        )
    gpus = fitting[0]
    while (
        2 * gpus in fitting
        and 2 * gpus <= _node(cluster)
        and _hours(cost, cluster, seeds, gpus) > LONG
    ):
        gpus *= 2
    return gpus, ""


def _node(cluster: Cluster) -> int:
    """Largest number of GPUs that a job uses on one node: a power of two."""
    return 1 << (cluster.gpus_per_node.bit_length() - 1)


def _hours(cost: JobCost, cluster: Cluster, seeds: int, gpus: int) -> float:
    """Expected hours, including three minutes to start."""
    rate = gpus * cluster.tflops * 1e12 * cluster.mfu
    return (180 + seeds * (cost.flops / rate + cost.serial_seconds)) / 3600


def _minutes(hours: float) -> int:
    return max(30, math.ceil(120 * hours))
