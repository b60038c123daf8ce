"""Whether this machine can run a preset: vLLM, torch, GPUs, disk, Slurm, the judge's key.

Every check returns what it found in order, or raises InputError with the cure. Snakemake makes
those that concern its jobs before the first of them; `rm-robustness check` makes all and lists
them. Nothing here needs the network or imports torch.
"""

import importlib.util
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..experiment.config import Settings
from ..experiment.jobs import jobs
from . import gpus, slurm, vllm
from .job_cost import cost_of
from .launch import no_gpu_for_bf16, on_cpu
from .machines import Machines
from .plan import busiest, disk_bytes, plan

GPUS_PROFILE = "profiles/gpus/config.yaml"
Check = Callable[[], str]  # what is in order; raises InputError


class Finding(NamedTuple):
    """The outcome of a check: what is in order, or what is not and its cure."""

    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else '--':<4} {self.text}"


def findings(checks: Iterable[Check]) -> Iterator[Finding]:
    """Make the checks one after another."""
    for check in checks:
        try:
            yield Finding(True, check())
        except InputError as error:
            yield Finding(False, str(error))


def local_checks(
    config: Settings, machines: Machines | None, rules: Collection[str]
) -> list[Check]:
    """The checks of this machine for the jobs of some rules.

    `machines` is what the profile describes; None without one: jobs that need GPUs then run here,
    one at a time.
    """
    gpu_rules = _gpu_rules(config, machines or Machines()) & set(rules)
    checks: list[Check] = []
    if machines and machines.slurm:
        partitions = [machines.cpu_partition] + [machines.gpu_partition] * bool(gpu_rules)
        checks.append(partial(slurm_answers, partitions))
    served = {rule: key for rule, key in _vllm_rules(config).items() if rule in rules}
    if served:
        checks.append(partial(vllm_fits, ", ".join(served.values())))
    if gpu_rules:
        checks.append(partial(torch_fits, config, machines, gpu_rules))
        if machines or gpus.listed():
            checks.append(partial(gpus_suffice, config, machines, gpu_rules))
    if "judge" in rules:
        checks.append(partial(judge_answers, config))
    checks.append(partial(disk_suffices, config, machines))
    return checks


def rules_of(config: Settings) -> set[str]:
    """The rules of all jobs of a preset."""
    return {job.rule for job in jobs(config)}


def require_ready(config: Settings, machines: Machines | None, rules: Collection[str]) -> None:
    """Raise the InputError of the first check that fails."""
    for check in local_checks(config, machines, rules):
        check()


def _gpu_rules(config: Settings, machines: Machines) -> set[str]:
    """The rules whose jobs need GPUs, by the size of their models."""
    needing = {
        (row.phase, row.name)
        for row in plan(config, machines.node)
        if row.resources and row.resources.gpus
    }
    return {job.rule for job in jobs(config) if (job.phase, job.name) in needing}


def _vllm_rules(config: Settings) -> dict[str, str]:
    """The rules that import vLLM or start its server, and the config key that says so."""
    generate, rloo, judged = config["responses"]["generate"], config["rloo"], config["alpaca_eval"]
    found: dict[str, str] = {}
    if rloo and rloo["generation"] == "vllm":
        found |= {f"rloo_{seed}": "rloo.generation" for seed in rloo["seeds"]}
    options = {
        "generate": (generate or {}).get("options"),
        "answers": (judged or {}).get("generation"),
    }
    keys = {"generate": "responses.generate.options", "answers": "alpaca_eval.generation"}
    for rule, section in options.items():
        if section and section["kind"] == "vllm" and section.get("serve", False):
            found[rule] = keys[rule]
    if judged and (judged["judge"] or {}).get("kind") == "vllm":
        found["judge"] = "alpaca_eval.judge"
    return found


def slurm_answers(partitions: list[str]) -> str:
    """Slurm's programs are here and its controller knows the partitions."""
    slurm.require_slurm(partitions)
    return f"Slurm answers and has {', '.join(dict.fromkeys(partitions))}"


def vllm_fits(keys: str) -> str:
    """VLLM is installed, in the range that TRL supports."""
    vllm.require_vllm(keys)
    return f"{' '.join(vllm.installed() or ())}, for {keys}"


def torch_fits(config: Settings, machines: Machines | None, rules: Collection[str]) -> str:
    """The installed torch can use the GPUs, and bfloat16 trainings have one."""
    toolkit = torch_toolkit()
    if on_cpu():
        return "torch: ACCELERATE_USE_CPU is set, trainings run on the CPU"
    if machines or gpus.listed():
        if toolkit is None:
            raise InputError(
                "torch",
                "a build for CPUs alone",
                "one with CUDA, for the jobs that need GPUs",
                "`rm -r .venv && make env` (without CPU=1) installs it",
            )
        return f"torch with {toolkit}"
    trainings = {"backbone": "sft", "reward_model": "reward_models", "rloo": "rloo"}
    sections = {trainings.get(_kind(rule), "") for rule in rules}
    narrow = [f"{name}.bf16" for name in sorted(sections - {""}) if config[name]["bf16"]]
    if narrow:
        raise no_gpu_for_bf16(", ".join(narrow))
    return "no GPU: all models run on the CPU"


def _kind(rule: str) -> str:
    """The kind of job of a training's rule: of a batch of seeds, which its name ends in, or one."""
    name = rule.rstrip("_0123456789")
    return "reward_model" if name == "reward_models" else name


def torch_toolkit() -> str | None:
    """What the installed torch computes on besides CPUs: `CUDA 12.8`; None for a CPU build.

    Read from its file of versions, because the import takes seconds.
    """
    found = importlib.util.find_spec("torch")
    if not found or not found.origin:
        raise InputError("torch", "no such package", "the environment", "`make env` makes it")
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^(cuda|hip)\b.*= '([^']+)'", text, flags=re.MULTILINE))
    return next((f"{name.upper()} {number}" for name, number in versions.items()), None)


def gpus_suffice(config: Settings, machines: Machines | None, rules: Collection[str]) -> str:
    """The jobs of these rules fit the GPUs of a node, or of this machine."""
    described = machines or _this_machine()
    if machines and not machines.slurm:
        _compare(machines)
    needed = {(job.phase, job.name) for job in jobs(config) if job.rule in rules}
    most = 0
    for row in plan(config, described.node):
        resources = row.resources
        if not resources or (row.phase, row.name) not in needed:
            continue
        where, most = f"GPUs: {row.phase} {row.name}", max(most, resources.gpus)
        if resources.problem:
            raise InputError(where, resources.problem, "a job that fits")
        if resources.nodes > 1 and not described.slurm:
            raise InputError(
                where,
                f"{resources.gpus} GPUs of {described.gpu_memory:.0f} GB needed",
                f"no more than the {described.gpus_per_node} that a job may have here",
                "--profile gpus gives jobs all GPUs of this machine, --profile slurm a cluster's",
            )
    at = f"{described.gpus_per_node} GPUs of {described.gpu_memory:.0f} GB a node"
    return f"every job fits: {most} GPUs at most, {at}"


def _this_machine() -> Machines:
    """This machine without a profile: a job has its first GPU, or those of CUDA_VISIBLE_DEVICES."""
    count = len(gpus.listed()) if gpus.VISIBLE in os.environ else 1
    return Machines(gpus_per_node=count, gpu_memory=min(gpus.memory(), default=80))


def _compare(described: Machines) -> None:
    """Refuse a profile that describes more or larger GPUs than this machine has."""
    here, sizes = gpus.listed(), gpus.memory()
    if len(here) < described.gpus_per_node:
        raise InputError(
            f"{GPUS_PROFILE}: gpus",
            f"{described.gpus_per_node}",
            f"no more than the {len(here)} of this machine",
            "`nvidia-smi` lists them; correct the keys at the top of that file",
        )
    if sizes and min(sizes) < 0.9 * described.gpu_memory:
        raise InputError(
            f"{GPUS_PROFILE}: gpu_memory",
            f"{described.gpu_memory:g} GB",
            f"no more than the {min(sizes):.0f} of this machine",
            "correct the keys at the top of that file",
        )


def require_share(config: Settings, rule: str, name: str, gpus: int) -> None:
    """Raise InputError if the batches of a training cannot be shared by so many GPUs.

    Their number follows from the plan, but `--set-resources` can override it.
    """
    kind = _kind(rule)
    if kind not in ("backbone", "reward_model", "rloo") or gpus == 0:
        return
    counts = cost_of(config, kind, name, Machines().gpu_memory).gpu_counts
    if gpus not in counts:
        raise InputError(
            f"resources: {rule} {name}",
            f"{gpus} GPUs",
            f"one of {', '.join(map(str, counts))}, which share its batches evenly",
            "leave it out of --set-resources: the number then follows from the plan",
        )


def judge_answers(config: Settings) -> str:
    """The environment has the key, or the address, of an external judge."""
    if all(job.kind for job in jobs(config) if job.rule == "judge"):  # a job that computes
        return "AlpacaEval's judge runs here"
    judge = config["alpaca_eval"]["judge"]
    names = [judge[name] for name in ("api_key_env", "base_url_env") if judge[name]]
    if not any(os.environ.get(name) for name in names):
        raise InputError(
            "alpaca_eval.judge",
            f"environment variables {' and '.join(names) or '(none named)'} unset",
            "the judge's key, or the address of another server",
            f"export {names[0]}=..." if names else "set alpaca_eval.judge.api_key_env",
        )
    return f"AlpacaEval's judge: {judge['model']}"


def disk_suffices(config: Settings, machines: Machines | None, run: Path | None = None) -> str:
    """The disk of runs/ has room for the outputs, and for the checkpoints of running trainings."""
    run = run or Path("runs") / config["preset"]
    rows = plan(config, (machines or Machines()).node)
    phase, together = busiest(rows)
    largest = max(row.checkpoints for row in rows)
    limit = machines.disk * 1e9 if machines else math.inf
    if not machines:  # one training at a time on GPUs, else one a core at most
        limit = largest * (1 if gpus.listed() else len(os.sched_getaffinity(0)))
    elif machines and not machines.slurm:  # as many as have GPUs
        shares = [row.checkpoints / max(1, row.resources.gpus) for row in rows if row.resources]
        limit = min(limit, machines.gpus_per_node * max(shares))
    checkpoints = min(together, max(limit, largest))
    outputs = max(0.0, disk_bytes(config, rows) - _stored(run))
    place = next(path for path in (run, *run.parents) if path.exists())
    free = shutil.disk_usage(place).free
    needs = (
        f"{_gb(outputs)} GB of outputs and downloads and {_gb(checkpoints)} GB of checkpoints "
        f"of {phase}"
    )
    if free < outputs + checkpoints:
        raise InputError(
            f"disk of {run.parent.absolute()}",
            f"{_gb(free)} GB free",
            f"{_gb(outputs + checkpoints)}: {needs}",
            "free some, or make `runs` a link to a larger disk; the key `disk` of a profile "
            "bounds the checkpoints",
        )
    return f"disk: {_gb(free)} GB free, {needs}"


def _stored(run: Path) -> float:
    """Bytes of a run's outputs so far; the work folders are links to them, or checkpoints."""
    paths = (path for path in run.rglob("*") if "work" not in path.relative_to(run).parts[:1])
    return float(sum(path.stat().st_size for path in paths if path.is_file()))


def _gb(size: float) -> int:
    return math.ceil(size / 1e9)
