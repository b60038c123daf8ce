"""What a job needs: GPUs, memory and time, reckoned from the config before anything is computed.

`needs` is asked for every job when Snakemake starts, so nothing here imports torch. Its numbers are
estimates: memory by the formula of `footprint`, time from the operations of `work`.
"""

import math
from typing import NamedTuple

from ..experiment.config import Settings
from .job_cost import Work, work_of
from .model_cost import Parts

CPU_ONLY = 50e6  # parameters: models below run on a CPU
HEADROOM = 0.9  # of a GPU's memory, the rest for CUDA, NCCL and what the allocator loses
LONG = 12.0  # hours: a job that lasts longer gets more GPUs
CPU_FLOPS = 1e10  # floating-point operations a second of one core, with what tiny tensors lose


class Cluster(NamedTuple):
    """A node of a cluster, as far as jobs depend on it."""

    gpu_memory: float  # GB of one GPU
    gpus_per_node: int
    tflops: float  # dense bfloat16, one GPU
    mfu: float = 0.4  # the share of it that training reaches
    cpus_per_gpu: int = 8


class Needs(NamedTuple):
    """What one job asks for. `gpus` of all nodes together; 0 runs on a CPU."""

    gpus: int
    nodes: int
    gpus_per_node: int
    cpus: int  # of a node
    mem_mb: int  # of a node's main memory
    minutes: int  # to ask for: twice the expected time, 30 at least
    hours: float  # expected
    gpu_bytes: float  # peak of a GPU
    parts: Parts  # its parts
    problem: str  # why it does not fit, or ""


def needs(config: Settings, cluster: Cluster, kind: str, name: str = "", seeds: int = 1) -> Needs:
    """What a job of this kind needs.

    `kind` and `name`: `backbone`, `reward_model`, `released`, `scores`, `rm_bench_scores` or
    `ranks` of a backbone; `rloo`, `policy_gold` or `answers` of a policy (`answers` of `sft` too);
    `generate` of a response model; `gold` and `judge`. `seeds` models are trained, scored or asked
    by the job, one after another. Where nothing fits, `problem` says so, and the rest is for the
    number of GPUs that comes nearest, of those that the batches allow.
    """
    work = work_of(config, kind, name, cluster.gpu_memory)
    if work.parameters < CPU_ONLY:
        hours = (30 + seeds * work.flops / CPU_FLOPS) / 3600
        memory = math.ceil((1.2e9 + 2 * work.load + work.data) / 1e6)
        return Needs(0, 1, 0, 1, memory, _minutes(hours), hours, 0.0, {}, "")
    gpus, problem = _gpus(work, cluster, seeds)
    node = _node(cluster)
    each, hours, parts = min(gpus, node), _hours(work, cluster, seeds, gpus), work.memory(gpus)
    # Every process reads the weights; the first gathers and writes them in the end.
    memory = math.ceil((each * (4e9 + work.data) + max(each, 2) * work.load) / 1e6)
    return Needs(
        gpus,
        gpus // each,
        each,
        each * cluster.cpus_per_gpu,
        memory,
        _minutes(hours),
        hours,
        sum(parts.values()),
        parts,
        problem,
    )


def _gpus(work: Work, cluster: Cluster, seeds: int) -> tuple[int, str]:
    """The fewest GPUs whose memory suffices, more while it takes long and a node has them.

    Also says what is wrong when none suffice; the number is then the one that comes nearest.
    """
    limit = HEADROOM * cluster.gpu_memory * 1e9
    fitting = [n for n in work.counts if sum(work.memory(n).values()) <= limit]
    if not fitting:
        least = min(work.counts, key=lambda n: sum(work.memory(n).values()))
        used = sum(work.memory(least).values())
        return least, (
            f"{used / 1e9:.0f} GB on each GPU, and {limit / 1e9:.0f} of {cluster.gpu_memory:g} "
            f"can be used: {work.advice}"
        )
    gpus = fitting[0]
    while (
        2 * gpus in fitting
        and 2 * gpus <= _node(cluster)
        and _hours(work, cluster, seeds, gpus) > LONG
    ):
        gpus *= 2
    return gpus, ""


def _node(cluster: Cluster) -> int:
    """The GPUs of a node that a job takes at most: a power of two."""
    return 1 << (cluster.gpus_per_node.bit_length() - 1)


def _hours(work: Work, cluster: Cluster, seeds: int, gpus: int) -> float:
    """Expected hours, three minutes of them to start."""
    rate = gpus * cluster.tflops * 1e12 * cluster.mfu
    return (180 + seeds * (work.flops / rate + work.idle)) / 3600


def _minutes(hours: float) -> int:
    return max(30, math.ceil(120 * hours))
