"""Commands of planning: the cost of a preset, what it lacks on this machine, its commits."""

import argparse
import sys
from pathlib import Path

from ..errors import InputError
from .command import command, configfile, option

CONFIGFILE = configfile("as Snakemake's: later files override earlier ones", "config/demo.yaml")


@command(
    CONFIGFILE,
    option("--gpu", "type and memory", default="h100-80gb"),
    option("--tflops", "dense bfloat16; default: the type's own", type=float),
    option("--mfu", "model FLOPs utilization of training", type=float, default=0.4),
    option("--gpus-per-node", type=int, default=8),
    option("--json", "print JSON instead of a table", action="store_true"),
    option(
        "--seed-sd",
        "sd between seeds of a difference in tau or accuracy, in place of .005, .01 and .02; "
        "that of other units in proportion",
        type=float,
    ),
    option("--claims", "print the cheapest override that can decide these, as C4,C9"),
    for_people=True,
)
def plan(options: argparse.Namespace) -> None:
    """Estimate a preset's jobs, hours, disk, and what it can find.

    Of each of the paper's claims, the smallest difference found with 80% at 5%, by assumed standard
    deviations of seeds and prompts. With --claims a configuration file instead, to go on top.
    """
    from ..cluster import claim_designs, claim_runs
    from ..cluster.plan import as_json, as_text, cluster_of, plan
    from ..experiment.checks import read_config

    config = read_config(options.configfile)
    cluster = cluster_of(options.gpu, options.tflops, options.mfu, options.gpus_per_node)
    if options.seed_sd is not None and not 0 < options.seed_sd < 1:
        raise InputError("--seed-sd", f"{options.seed_sd:g}", "above 0, below 1")
    if options.claims is not None:
        if options.json:
            raise InputError("--claims, --json", "both", "one: --claims prints YAML")
        names = claim_runs.claims_of(options.claims)
        files = options.configfile
        print(claim_runs.as_yaml(config, files, names, cluster, options.seed_sd), end="")
        return
    phases, designs = plan(config, cluster), claim_designs.designs(config, options.seed_sd)
    if options.json:
        print(as_json(config, cluster, phases, designs))
        return
    print(as_text(config, cluster, phases))
    print(f"\n{claim_designs.as_text(designs)}")
    _warn(claim_designs.warning(config))


def _warn(line: str) -> None:
    if line:
        print(line, file=sys.stderr)


@command(
    CONFIGFILE,
    option(
        "--profile",
        "whose machines are meant; default: this one",
        choices=["slurm", "gpus", "rehearsal"],
    ),
    option("--offline", "do not ask the hub", action="store_true"),
    online=True,
    for_people=True,
)
def check(options: argparse.Namespace) -> None:
    """Check what a preset needs: commits, access, vLLM, GPUs, disk.

    A line for each: `ok`, or `--` with the cure, and then exit status 2. Before them a `note` for
    each licence of what the preset downloads, those with limits first. Snakemake checks what its
    jobs need of this machine again when it starts.
    """
    from ..cluster import claim_designs, readiness
    from ..cluster.machines import machines_of
    from ..experiment.checks import read_config
    from ..experiment.downloads import pinned
    from ..provenance.licences import licence_lines

    config = read_config(options.configfile)
    profile = Path(f"profiles/{options.profile}/config.yaml") if options.profile else None
    machines = machines_of(profile) if profile else None
    print(f"Preset {config['preset']}, {profile or 'this machine, no profile'}")
    for line in licence_lines(config):
        print("note", line)
    _warn(claim_designs.warning(config))
    checks = [lambda: pinned(config, options.configfile)]
    checks += readiness.local_checks(config, machines, readiness.rules_of(config))
    findings = list(readiness.findings(checks))
    if not options.offline:
        from ..data.hub_access import hub_findings

        findings[1:1] = hub_findings(config)
    for finding in findings:
        print(finding)
    failed = [finding for finding in findings if not finding.ok]
    if failed:
        raise InputError(
            "check",
            f"{len(failed)} of {len(findings)} not in order",
            "all",
            "see the lines with --",
        )


@command(
    CONFIGFILE,
    option("--output", "default: config/PRESET-pinned.yaml", type=Path),
    online=True,
    for_people=True,
)
def pin(options: argparse.Namespace) -> None:
    """Write the newest commits of what has none into a config file.

    The file goes on top of the preset: `--configfile config/paper.yaml config/paper-pinned.yaml`.
    """
    from ..data.hub_access import as_yaml, newest_commits
    from ..experiment.checks import read_config
    from ..files import write_text

    config = read_config(options.configfile)
    path = options.output or Path(f"config/{config['preset']}-pinned.yaml")
    if path.exists():
        raise InputError(
            path, "a file", "none", "it keeps the commits that it has; remove it, or give --output"
        )
    pins, repositories = newest_commits(config)
    files = " ".join(map(str, options.configfile))
    if not repositories:
        print(f"{files}: every repository has its commit")
        return
    write_text(as_yaml(pins, files), path)
    print(path.read_text(encoding="utf-8"), end="")
    print(f"{path}: use it with --configfile {files} {path}")


COMMANDS = [plan, check, pin]
