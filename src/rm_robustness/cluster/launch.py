"""Several processes for one training: one a GPU, on all the nodes that Slurm gave.

A rule calls a command and says nothing about the cluster. The command reads what was allocated and
replaces its process: by `srun`, which starts the verb again on every node of a job with several, or
by a launcher, which starts a trainer for every GPU of a node. This module, run as a program, is
that launcher: accelerate's, but it hands SIGTERM and SIGINT on and then waits for the trainers,
however long they take to save. torch's own would kill them after 30 seconds.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

from ..errors import InputError

CONFIGS = Path(__file__).parents[3] / "config" / "accelerate"


def spread(config: str) -> None:
    """Run this command in a process a GPU, by `config`/accelerate/`config`.yaml; return in each.

    Returns at once in such a process, and where there is one GPU or none. Otherwise this process
    is replaced and its exit status becomes that of the first trainer that fails. Raises InputError
    when torch does not see the GPUs that were given; ACCELERATE_USE_CPU=true asks for CPU
    processes in their place.
    """
    if "RANK" in os.environ:
        return
    gpus = _gpus()
    nodes = _nodes() if gpus else 1
    if nodes > 1 and not _in_step(nodes):
        command = _on_every_node(nodes)
        # `srun` would take the bounds of the step in which this runs for those of the job.
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            if name not in ("SLURM_JOB_ID", "SLURM_CONF", "SLURM_CLUSTER_NAME"):
                del os.environ[name]
        _replace(command)
    if gpus * nodes > 1:
        _replace(_in_processes(config, gpus, nodes))


def on_cpu() -> bool:
    """Whether CPU processes are asked for, as accelerate reads it too."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t")


def _replace(command: list[str]) -> None:
    sys.stderr.flush()
    os.execvp(command[0], command)


def _gpus() -> int:
    """How many GPUs of this node we were given, by Slurm or by CUDA_VISIBLE_DEVICES."""
    if not {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"} & set(os.environ):
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # nobody gave any: one will do, if there is one
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        given = sum(
            name[:1].isdigit() or name[:4] in ("GPU-", "MIG-") for name in visible.split(",")
        )
    else:
        given = int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    if on_cpu():
        return given
    import torch

    seen = torch.cuda.device_count()
    if seen < given:
        raise InputError(
            "GPUs",
            f"{seen} that torch {torch.__version__} sees, of {given} given "
            f"(CUDA_VISIBLE_DEVICES={visible})",
            "all of them",
            "install a torch with CUDA and see whether `nvidia-smi` works on that node; "
            "ACCELERATE_USE_CPU=true trains on its CPU",
        )
    return given


def _nodes() -> int:
    """How many nodes the job has. Snakemake's plugin hides Slurm's variables, but not its id."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return 1
    return int(os.environ.get("SLURM_JOB_NUM_NODES") or _squeue(job, "%D"))


def _in_step(nodes: int) -> bool:
    """Tell whether this is the one process that `srun` started on each of the nodes."""
    return (
        os.environ.get("SLURM_STEP_NUM_TASKS")
        == str(nodes)
        == os.environ.get("SLURM_STEP_NUM_NODES")
    )


def _on_every_node(nodes: int) -> list[str]:
    """The command that runs this one once on every node, with all its CPUs and GPUs."""
    cpus = int(_squeue(os.environ["SLURM_JOB_ID"], "%C")) // nodes
    return [
        *("srun", "--nodes", str(nodes), "--ntasks", str(nodes), "--ntasks-per-node", "1"),
        *("--cpus-per-task", str(cpus), "--overlap", "--wait", "0", "--kill-on-bad-exit=1"),
        *(sys.executable, "-m", "rm_robustness", *sys.argv[1:]),
    ]


def _in_processes(config: str, gpus: int, nodes: int) -> list[str]:
    """The command that runs this one in a process for each of the node's GPUs."""
    place = ["--main_process_port", "0"]  # any free one
    if nodes > 1:
        place = [
            *("--machine_rank", os.environ["SLURM_NODEID"]),
            *("--main_process_ip", _main_address()),
            # The nodes must agree on it without talking; below the ports that Linux gives away.
            *("--main_process_port", str(12000 + int(os.environ["SLURM_JOB_ID"]) % 20000)),
        ]
    return [
        *(sys.executable, "-m", "rm_robustness.cluster.launch"),
        *("--config_file", str(CONFIGS / f"{config}.yaml")),
        *("--num_processes", str(gpus * nodes), "--num_machines", str(nodes), *place),
        *("--module", "rm_robustness", *sys.argv[1:]),
    ]


def _main_address() -> str:
    """The address of the step's first node, by its name or else as Slurm knows it."""
    names = _ask("scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"])
    name = names.split()[0]
    try:
        return socket.gethostbyname(name)
    except OSError:
        facts = _ask("scontrol", "show", "node", name, "--oneliner").split()
        return next(fact.removeprefix("NodeAddr=") for fact in facts if "NodeAddr=" in fact)


def _squeue(job: str, field: str) -> str:
    return _ask("squeue", "--noheader", "--jobs", job, "--format", field).split()[0]


def _ask(*command: str) -> str:
    """What a command of Slurm's prints."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(" ".join(command), str(error), "what Slurm knows of this job") from error


def main() -> None:
    """Start the trainers of this node, hand signals on to them, and end as they do."""
    import psutil  # type: ignore[import-untyped]

    def hand_on(number: int, frame: FrameType | None) -> None:
        trainers = psutil.Process().children()
        if not trainers:
            sys.exit(128 + number)
        for trainer in trainers:
            trainer.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    signal.signal(signal.SIGINT, hand_on)
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGHUP,SIGQUIT"  # torch leaves the others alone
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args())
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    main()
