"""Command of planning: the estimated cost of a preset."""

import argparse

from .command import command, configfile, option


@command(
    configfile("as Snakemake's: later files override earlier ones", "config/demo.yaml"),
    option("--gpu", "type and memory", default="h100-80gb"),
    option("--tflops", "dense bfloat16; default: the type's own", type=float),
    option("--mfu", "model FLOPs utilization of training", type=float, default=0.4),
    option("--gpus-per-node", type=int, default=8),
    option("--json", "print JSON instead of a table", action="store_true"),
    for_people=True,
)
def plan(options: argparse.Namespace) -> None:
    """Estimate a preset's jobs, GPUs, memory, hours and disk."""
    from ..cluster.plan import as_json, as_text, cluster_of, plan
    from ..experiment.checks import read_config

    config = read_config(options.configfile)
    cluster = cluster_of(options.gpu, options.tflops, options.mfu, options.gpus_per_node)
    phases = plan(config, cluster)
    print((as_json if options.json else as_text)(config, cluster, phases))


COMMANDS = [plan]
