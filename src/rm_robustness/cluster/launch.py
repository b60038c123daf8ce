"""Distributed launch of a training: one process for each GPU of the nodes that Slurm allocated.

The rules' shell commands do not depend on the cluster. A command that trains reads its allocation
and replaces its process: by `srun`, which starts the command once on every node of a multi-node
job, or by a launcher, which starts a trainer for every GPU of a node. This module, run as a
program, is that launcher: `accelerate launch`, except that it forwards SIGTERM and SIGINT and then
waits until the trainers have saved. torch's elastic agent would kill them after 30 seconds.
"""

import os
import signal
import socket
import subprocess
import sys
from types import FrameType

from ..errors import InputError
from ..experiment.package_files import package_file

CONFIGS = package_file("config/accelerate")


def launch_processes(config: str) -> None:
    """Restart this command as one process a GPU, with config/accelerate/`config`.yaml.

    Returns at once in such a process, and where there is no GPU, or one and no FSDP2, which sets
    the number format of a training and therefore runs on a single GPU too (D25). Otherwise this
    process is replaced, and its exit status becomes that of the first trainer that fails. Raises
    InputError when torch does not see the allocated GPUs; ACCELERATE_USE_CPU=true starts CPU
    processes instead.
    """
    if "RANK" in os.environ:
        return
    gpus = _allocated_gpus()
    nodes = _allocated_nodes() if gpus else 1
    if nodes > 1 and not _started_by_srun(nodes):
        command = _srun_command(nodes)
        # `srun` would inherit the limits of the step in which this runs instead of the job's.
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            if name not in ("SLURM_JOB_ID", "SLURM_CONF", "SLURM_CLUSTER_NAME"):
                del os.environ[name]
        _replace(command)
    if gpus * nodes > 1 or (gpus and config == "fsdp2"):
        _replace(_launcher_command(config, gpus, nodes))


def on_cpu() -> bool:
    """Whether ACCELERATE_USE_CPU is set, parsed as accelerate does."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t")


def no_gpu_for_bf16(where: str) -> InputError:
    """The error of a training in bfloat16 where there is no GPU."""
    return InputError(
        where,
        "true without a GPU",
        "a GPU that torch can use, or false",
        "run it where there is one (--profile slurm, --profile gpus); ACCELERATE_USE_CPU=true "
        "trains in bfloat16 on a CPU",
    )


def _replace(command: list[str]) -> None:
    sys.stderr.flush()
    os.execvp(command[0], command)


def _allocated_gpus() -> int:
    """Number of GPUs allocated on this node, by CUDA_VISIBLE_DEVICES or by Slurm."""
    if not {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"} & set(os.environ):
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # no allocation: use one GPU, if any
        return 0 if on_cpu() else _visible_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        allocated = sum(
            name[:1].isdigit() or name[:4] in ("GPU-", "MIG-") for name in visible.split(",")
        )
    else:
        allocated = int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    if on_cpu():
        return allocated
    visible_gpus = _visible_gpus()
    if visible_gpus < allocated:
        import torch

        raise InputError(
            "GPUs",
            f"{visible_gpus} that torch {torch.__version__} sees, of {allocated} allocated "
            f"(CUDA_VISIBLE_DEVICES={visible})",
            "all of them",
            "install a torch with CUDA and see whether `nvidia-smi` works on that node; "
            "ACCELERATE_USE_CPU=true trains on its CPU",
        )
    return allocated


def _visible_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _allocated_nodes() -> int:
    """Number of nodes of the job. Snakemake's Slurm plugin hides all variables but the job id."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return 1
    return int(os.environ.get("SLURM_JOB_NUM_NODES") or _squeue(job, "%D"))


def _started_by_srun(nodes: int) -> bool:
    """Whether this is the process that `_srun_command` started on each of the nodes."""
    return (
        os.environ.get("SLURM_STEP_NUM_TASKS")
        == str(nodes)
        == os.environ.get("SLURM_STEP_NUM_NODES")
    )


def _srun_command(nodes: int) -> list[str]:
    """Command line that runs this one once on every node, with all its CPUs and GPUs."""
    cpus = int(_squeue(os.environ["SLURM_JOB_ID"], "%C")) // nodes
    return [
        *("srun", "--nodes", str(nodes), "--ntasks", str(nodes), "--ntasks-per-node", "1"),
        *("--cpus-per-task", str(cpus), "--overlap", "--wait", "0", "--kill-on-bad-exit=1"),
        *(sys.executable, "-m", "rm_robustness", *sys.argv[1:]),
    ]


def _launcher_command(config: str, gpus: int, nodes: int) -> list[str]:
    """Command line that runs this one in a process for each of the node's GPUs."""
    place = ["--main_process_port", "0"]  # any free one
    if nodes > 1:
        place = [
            *("--machine_rank", os.environ["SLURM_NODEID"]),
            *("--main_process_ip", _main_address()),
            # Every node derives the same port from the job id; below Linux's ephemeral ports.
            *("--main_process_port", str(12000 + int(os.environ["SLURM_JOB_ID"]) % 20000)),
        ]
    return [
        *(sys.executable, "-m", "rm_robustness.cluster.launch"),
        *("--config_file", str(CONFIGS / f"{config}.yaml")),
        *("--num_processes", str(gpus * nodes), "--num_machines", str(nodes), *place),
        *("--module", "rm_robustness", *sys.argv[1:]),
    ]


def _main_address() -> str:
    """Address of the step's first node: its host name resolved, or else Slurm's NodeAddr."""
    names = _query("scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"])
    name = names.split()[0]
    try:
        return socket.gethostbyname(name)
    except OSError:
        facts = _query("scontrol", "show", "node", name, "--oneliner").split()
        return next(fact.removeprefix("NodeAddr=") for fact in facts if "NodeAddr=" in fact)


def _squeue(job: str, field: str) -> str:
    return _query("squeue", "--noheader", "--jobs", job, "--format", field).split()[0]


def _query(*command: str) -> str:
    """Standard output of a Slurm command (raises InputError)."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(" ".join(command), str(error), "what Slurm knows of this job") from error


def main() -> None:
    """Start the trainers of this node, forward signals to them, exit with their status."""
    import psutil  # type: ignore[import-untyped]

    def forward_signal(number: int, frame: FrameType | None) -> None:
        trainers = psutil.Process().children()
        if not trainers:
            sys.exit(128 + number)
        for trainer in trainers:
            trainer.send_signal(number)

    signal.signal(signal.SIGTERM, forward_signal)
    signal.signal(signal.SIGINT, forward_signal)
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
