# The resources of each job, estimated from the size of its model and the machines that a profile
# describes, and checks before the first job. The names are neutral (gpu, mem_mb, runtime, ...), for
# any executor; for Slurm they are translated here.

import sys

from rm_robustness.cluster import claim_designs, gpus, readiness, slurm
from rm_robustness.cluster.job_cost import stored
from rm_robustness.cluster.machines import Machines, machines
from rm_robustness.cluster.resources import resources_of

# Slurm sends SIGTERM to all processes of a job before its time limit. Trainings save a checkpoint
# (preemption.py); the shell around them must outlive it.
shell.prefix("set -euo pipefail; trap '' TERM; ")

# What the profile describes; without one, the nodes that the command `plan` assumes.
DESCRIBED = machines(workflow.resource_settings.default_resources)
MACHINES = DESCRIBED or Machines()
ONE_MACHINE = bool(DESCRIBED) and not MACHINES.slurm


def on_cluster(kind, name="", seeds=1):
    """Resources of a kind of job for a model: `name`, or the value of that wildcard.

    gpu and cpus_per_task are those of each of its nodes.
    """
    # A training saves a checkpoint on SIGTERM; other jobs would only be stopped early.
    trains = kind in ("backbone", "reward_model", "rloo")

    def resources(wildcards):
        model = wildcards.get(name, name)
        return resources_of(config, MACHINES.node, kind, model, seeds)

    def gpu(wildcards):
        return resources(wildcards).gpus_per_node

    def runtime(wildcards, attempt):
        minutes = resources(wildcards).minutes * attempt
        return min(minutes, MACHINES.hours * 60) if MACHINES.slurm else minutes

    def memory(wildcards, attempt):
        return int(
            min(resources(wildcards).mem_mb * attempt, MACHINES.node_memory * 1000)
        )

    def checkpoints(wildcards):
        return int(stored(config, kind, wildcards.get(name, name))[1] / 1e9)

    needed = {
        "gpu": gpu,
        "nodes": lambda wildcards: resources(wildcards).nodes,
        "cpus_per_task": lambda wildcards: resources(wildcards).cpus,
        "mem_mb": memory,
        "runtime": runtime,
        # Bounded by `disk` of the profile: all trainings at once would fill many disks.
        **({"checkpoints_gb": checkpoints} if trains else {}),
    }
    if MACHINES.slurm:
        needed = for_slurm(needed.pop("gpu"), trains) | needed
    if ONE_MACHINE:  # each job gets GPUs of its own
        folder = Path(".snakemake/gpus")
        needed["shell_exec"] = lambda wildcards: gpus.shell_of(gpu(wildcards), folder)
    return needed


def for_slurm(gpu, trains):
    """Slurm's own resources of a job. Its plugin would take `gpu` for the sum over the nodes."""

    def partition(wildcards):
        return MACHINES.gpu_partition if gpu(wildcards) else MACHINES.cpu_partition

    warning = f"--signal=TERM@{60 * MACHINES.save_minutes}"
    return {
        **({"slurm_extra": warning} if trains else {}),
        "slurm_partition": partition,
        "gres": lambda wildcards: MACHINES.gres(gpu(wildcards)),
    }


def require_feasible():
    """Raise InputError for jobs that cannot run, before the first one starts."""
    needed = list(workflow.dag.needrun_jobs())
    for job in needed:
        model = job.wildcards.get("policy") or job.wildcards.get("backbone")
        readiness.require_share(config, job.rule.name, model, slurm.gpus_of(job))
        shell = job.resources.get("shell_exec")
        if shell and not shell.endswith(gpus.shell_name(job.resources.gpu)):
            raise InputError(
                f"resources: {job.rule.name}",
                f"gpu={job.resources.gpu} by --resources or --set-resources",
                "the number that follows from the plan",
                "correct the keys at the top of the profile instead",
            )
    # Elsewhere than here and on Slurm, the executor's machines have the GPUs and the disk.
    if workflow.local_exec or MACHINES.slurm:
        readiness.require_ready(config, DESCRIBED, {job.rule.name for job in needed})
    if MACHINES.slurm:
        submitted = [job for job in needed if not job.is_local]
        slurm.check_requests(slurm.request_of(job) for job in submitted)


onstart:
    if hopeless := claim_designs.warning(config):
        print(hopeless, file=sys.stderr)
    try:
        if MACHINES.slurm or Path(".snakemake/slurm_logs").exists():
            slurm.refuse_queued_jobs(Path.cwd())
    except slurm.UnreachableError as error:
        # Without Slurm the leases on the work folders still exclude a second writer.
        if MACHINES.slurm:
            refuse(error)
    except InputError as error:
        refuse(error)
    try:
        require_feasible()
    except InputError as error:
        refuse(error)
