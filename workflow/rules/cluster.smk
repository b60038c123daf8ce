# The cluster: what each job asks of Slurm, by the size of its model, and what must hold before
# anything is submitted. Where no profile describes a cluster, no job asks for anything.

from rm_robustness.cluster import slurm as cluster
from rm_robustness.cluster.resources import needs

# A job's processes are all told when its time is over. Trainings listen (preemption.py); the
# shell and tee around them must outlive the last checkpoint.
shell.prefix("set -euo pipefail; trap '' TERM; ")

MACHINES = cluster.machines(workflow.resource_settings.default_resources)
TOO_LARGE = {}  # jobs that no node can hold, and why


def on_cluster(kind, name="", seeds=1):
    """The resources of a kind of job on a model: `name`, or what the wildcard of that name says."""
    if not MACHINES:
        return {}

    def asked(wildcards):
        model = wildcards.get(name, name)
        found = needs(config, MACHINES.node, kind, model, seeds)
        if found.problem:
            TOO_LARGE[f"{kind} {model}"] = found.problem
        return found

    def partition(wildcards):
        return (
            MACHINES.gpu_partition if asked(wildcards).gpus else MACHINES.cpu_partition
        )

    def runtime(wildcards, attempt):
        return min(asked(wildcards).minutes * attempt, MACHINES.hours * 60)

    def memory(wildcards, attempt):
        return int(min(asked(wildcards).mem_mb * attempt, MACHINES.node_memory * 1000))

    # A training saves when it is told that its time is nearly over; others would only be cut short.
    trains = kind in ("backbone", "reward_model", "rloo")
    warning = f"--signal=TERM@{60 * MACHINES.save_minutes}"
    return {
        **({"slurm_extra": warning} if trains else {}),
        "slurm_partition": partition,
        "gres": lambda wildcards: MACHINES.gres(asked(wildcards).gpus_per_node),
        "nodes": lambda wildcards: asked(wildcards).nodes,
        "cpus_per_task": lambda wildcards: asked(wildcards).cpus,
        "mem_mb": memory,
        "runtime": runtime,
    }


onstart:
    try:
        if MACHINES:
            cluster.refuse_living(Path.cwd())
            for job, problem in TOO_LARGE.items():
                raise InputError(
                    f"{cluster.PROFILE}: {job}", problem, "a job that fits"
                )
            jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
            cluster.refuse_impossible(cluster.request(job) for job in jobs)
        elif Path(".snakemake/slurm_logs").exists():
            cluster.refuse_living(Path.cwd())
    except cluster.UnreachableError as error:
        # Without Slurm the leases on the work folders still keep two writers apart.
        if MACHINES:
            refuse(error)
    except InputError as error:
        refuse(error)
