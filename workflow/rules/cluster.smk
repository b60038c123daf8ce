# The cluster: the resources of each job, estimated from the size of its model, and checks before
# the first submission. Without a profile that describes a cluster, no resources are set.

from rm_robustness.cluster import slurm as cluster
from rm_robustness.cluster.resources import resources_of

# Slurm sends SIGTERM to all processes of a job before its time limit. Trainings save a checkpoint
# (preemption.py); the shell and tee around them must outlive it.
shell.prefix("set -euo pipefail; trap '' TERM; ")

MACHINES = cluster.machines(workflow.resource_settings.default_resources)
TOO_LARGE = {}  # jobs that no node can hold, and why


def on_cluster(kind, name="", seeds=1):
    """Slurm resources of a kind of job for a model: `name`, or the value of that wildcard."""
    if not MACHINES:
        return {}

    def resources(wildcards):
        model = wildcards.get(name, name)
        job_resources = resources_of(config, MACHINES.node, kind, model, seeds)
        if job_resources.problem:
            TOO_LARGE[f"{kind} {model}"] = job_resources.problem
        return job_resources

    def partition(wildcards):
        return (
            MACHINES.gpu_partition
            if resources(wildcards).gpus
            else MACHINES.cpu_partition
        )

    def runtime(wildcards, attempt):
        return min(resources(wildcards).minutes * attempt, MACHINES.hours * 60)

    def memory(wildcards, attempt):
        return int(
            min(resources(wildcards).mem_mb * attempt, MACHINES.node_memory * 1000)
        )

    # A training saves a checkpoint on this signal; other jobs would only be stopped early.
    trains = kind in ("backbone", "reward_model", "rloo")
    warning = f"--signal=TERM@{60 * MACHINES.save_minutes}"
    return {
        **({"slurm_extra": warning} if trains else {}),
        "slurm_partition": partition,
        "gres": lambda wildcards: MACHINES.gres(resources(wildcards).gpus_per_node),
        "nodes": lambda wildcards: resources(wildcards).nodes,
        "cpus_per_task": lambda wildcards: resources(wildcards).cpus,
        "mem_mb": memory,
        "runtime": runtime,
    }


onstart:
    try:
        if MACHINES:
            cluster.refuse_queued_jobs(Path.cwd())
            for job, problem in TOO_LARGE.items():
                raise InputError(
                    f"{cluster.PROFILE}: {job}", problem, "a job that fits"
                )
            jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
            cluster.check_requests(cluster.request_of(job) for job in jobs)
        elif Path(".snakemake/slurm_logs").exists():
            cluster.refuse_queued_jobs(Path.cwd())
    except cluster.UnreachableError as error:
        # Without Slurm the leases on the work folders still exclude a second writer.
        if MACHINES:
            refuse(error)
    except InputError as error:
        refuse(error)
