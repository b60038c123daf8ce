"""`python -m rehearsal`: run the paper's preset on stand-ins, or another command under their hub.

    python -m rehearsal                            # the rehearsal; run it again to continue
    python -m rehearsal --gpu                      # on GPUs: bfloat16 kernels, NCCL, two GPUs a job
    python -m rehearsal -- rm-robustness check     # a command, with the rehearsal's configuration

The hub, its token, the offline guard and the commits that the preset leaves open are of the
rehearsal; commands, rules, libraries and vLLM are those of the paper's run.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rm_robustness.cli.main import COMMANDS
from rm_robustness.cluster.vllm import require_vllm
from rm_robustness.errors import InputError
from rm_robustness.experiment.checks import read_config
from rm_robustness.files import write_text

from . import stand_ins, summary
from .hub import Hub

WORK = Path(".rehearsal")
PAPER = [Path("config/paper.yaml"), Path("config/judge.yaml")]
REHEARSAL = Path("config/rehearsal.yaml")
CPU = Path("config/rehearsal-cpu.yaml")
PINNED, COMMITS = WORK / "pinned.yaml", WORK / "commits.yaml"
CONNECTIONS = WORK / "connections.log"


def main() -> int:
    """Build the stand-ins, serve them, and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--gpu", action="store_true", help="on GPUs; default: on a CPU")
    parser.add_argument("--profile", default="rehearsal", choices=["rehearsal", "gpus", "slurm"])
    parser.add_argument("--override", type=Path, nargs="*", default=[], help="further config files")
    parser.add_argument("command", nargs="*", help="run this instead, after --")
    options = parser.parse_args()
    files = [*PAPER, PINNED, COMMITS, REHEARSAL, *([] if options.gpu else [CPU]), *options.override]
    try:
        require_vllm("the rehearsal")
        config = read_config(PAPER)
        if stand_ins.build(WORK / "hub", config):  # at the same commits, in the clients' caches too
            for earlier in (Path("runs/stand-ins"), WORK / "home"):
                shutil.rmtree(earlier, ignore_errors=True)
        with stand_ins.hub(WORK / "hub", config) as hub:
            environment = environment_of(hub, options.gpu)
            pin(environment)
            if options.command:
                return run(with_files(options.command, files), environment)
            hub.cut, hub.goes_down = dict(stand_ins.CUT), dict(stand_ins.GOES_DOWN)
            return rehearse(hub, files, options, environment)
    except InputError as error:
        print(f"rehearsal: error: {error}", file=sys.stderr)
        return 2


def environment_of(hub: Hub, gpu: bool) -> dict[str, str]:
    """The environment of every command: this hub and no other, the guard, CPUs for GPUs."""
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and "OFFLINE" not in k}
    start = str(Path(__file__).with_name("start"))
    ours = {
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "PYTHONPATH": ":".join(filter(None, [start, kept.get("PYTHONPATH")])),
        "REHEARSAL_ONLINE": ",".join(name for name, each in COMMANDS.items() if each.online),
        "REHEARSAL_CONNECTIONS": str(CONNECTIONS.absolute()),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str((WORK / "home").absolute()),  # the real cache must not hold stand-ins
        "HF_TOKEN": stand_ins.TOKEN,
        "NO_PROXY": "127.0.0.1,localhost",
        # RM-Bench is cloned from GitHub, by an address that git replaces.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{hub.url}/git/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
        # Every job loads torch: threads of its own for each would only wait for each other.
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    on_cpu = {
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "0,1",  # two processes are planned as two GPUs
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    return kept | ours | ({} if gpu else on_cpu)


def pin(environment: dict[str, str]) -> None:
    """Have the hub name the commits that the preset leaves open, as a user would."""
    commit = (WORK / "hub/rm_bench.commit").read_text(encoding="utf-8")
    write_text(f"sources: {{rm_bench: {{commit: {commit}}}}}\n", COMMITS)
    if not PINNED.is_file():
        files = ["--configfile", *map(str, PAPER), "--output", str(PINNED)]
        if run(["rm-robustness", "pin", *files], environment):
            raise InputError("rm-robustness pin", "a failure", "the commits", "see above")


def with_files(command: list[str], files: list[Path]) -> list[str]:
    """A command with the rehearsal's config files, unless it names its own."""
    if "--configfile" in command or command[0] not in ("rm-robustness", "snakemake"):
        return command
    place = 2 if command[0] == "rm-robustness" else 1
    return [*command[:place], "--configfile", *map(str, files), *command[place:]]


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command to its end; returns its exit status."""
    print(f"$ {' '.join(command)}", flush=True)
    return subprocess.run(command, env=environment, check=False).returncode


def rehearse(
    hub: Hub, files: list[Path], options: argparse.Namespace, environment: dict[str, str]
) -> int:
    """Check, run everything, and print what ran, with what in place of what."""
    CONNECTIONS.unlink(missing_ok=True)
    started = time.monotonic()
    configured = ["--configfile", *map(str, files)]
    for command in (
        ["rm-robustness", "check", "--profile", options.profile, *configured],
        ["snakemake", "--profile", f"profiles/{options.profile}", *configured, "--", "all"],
    ):
        status = run(command, environment)
        if status:
            return status
    config, paper = read_config(files), read_config([*PAPER, PINNED])
    seconds = time.monotonic() - started
    print(summary.text(config, paper, hub.faults, options.gpu, seconds))
    problems = summary.problems(config, CONNECTIONS)
    for problem in problems:
        print(f"rehearsal: {problem}", file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
