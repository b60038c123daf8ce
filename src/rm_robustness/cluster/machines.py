"""The machines of a profile: nodes of a Slurm cluster, or one machine with GPUs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .resources import Cluster


class Machines(NamedTuple):
    """Nodes, all alike; memory and disk in GB, times in hours. The defaults are those of `plan`."""

    gpu_memory: float = 80
    tflops: float = 989
    gpus_per_node: int = 8
    node_memory: float = math.inf
    cpus_per_gpu: int = 8
    disk: float = math.inf  # for the checkpoints of all unfinished trainings together
    # Slurm's alone.
    gpu: str = ""
    gpu_partition: str = ""
    cpu_partition: str = ""
    hours: int = 24
    save_minutes: int = 5

    @property
    def slurm(self) -> bool:
        """Whether they are nodes of a Slurm cluster, which has partitions."""
        return bool(self.cpu_partition)

    @property
    def node(self) -> Cluster:
        """The node that the resources of a job are estimated for."""
        return Cluster(
            self.gpu_memory, self.gpus_per_node, self.tflops, cpus_per_gpu=self.cpus_per_gpu
        )

    def gres(self, gpus: int) -> str:
        """Slurm's `--gres` of a job for `gpus` GPUs of a node; "" for none."""
        return ":".join(filter(None, ("gpu", self.gpu, str(gpus)))) if gpus else ""


def machines(default_resources: Any) -> Machines | None:
    """Parse `machines` of a profile's default-resources; None without one."""
    if not default_resources or "machines" not in default_resources:
        return None
    return _parsed(str(default_resources["machines"].raw))


def machines_of(profile: Path) -> Machines:
    """The machines that a profile describes."""
    import yte  # type: ignore[import-untyped]

    content: Mapping[str, Any] = yte.process_yaml(profile.read_text(encoding="utf-8"))
    return _parsed(content["default-resources"]["machines"])


def _parsed(text: str) -> Machines:
    facts = dict(pair.split("=", 1) for pair in text.strip("'").split())
    kinds = Machines.__annotations__
    return Machines(**{name: kinds[name](value) for name, value in facts.items()})
