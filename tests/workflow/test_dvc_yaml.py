"""dvc.yaml: a stage depends on the code that its jobs rest on, and on the settings they get."""

import ast
import inspect
from pathlib import Path

import grimp
import pytest
import yaml
from support.paths import ROOT
from support.presets import preset

from rm_robustness.cli.main import COMMANDS
from rm_robustness.experiment.catalog import CODE
from rm_robustness.experiment.paths import RECORDS
from rm_robustness.experiment.scenarios import BENCHMARKS
from rm_robustness.experiment.settings import configured

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))
STAGES = {name: stage["do"] for name, stage in PIPELINE["stages"].items()}
# The command of each kind of job that DVC records; results have their own test (test_catalog.py).
NOT_HERE = ("metrics", "pretrained")  # of no stage, or of the results
JOBS = {kind: kind for kind in RECORDS if kind in COMMANDS and kind not in NOT_HERE} | {
    "policy": "rloo",
    "policy_gold": "gold",
    "reward_model": "train",
    "benchmark": "rm_bench",
    "ranks": "measure",
    "scores": "measure",
}
# Files, and what runs and records a job: what it computes follows from its settings.
SERVING = {"cli", "cluster", "errors", "experiment", "files", "frames", "progress", "provenance"}
GRAPH = grimp.build_graph("rm_robustness", exclude_type_checking_imports=True)


def stage_of(kind: str) -> str:
    """The stage that a kind of job belongs to, by where its record is."""
    folder = RECORDS[kind].split("/")[0]
    outs = {name: [Path(next(iter(out))).name for out in s["outs"]] for name, s in STAGES.items()}
    return next(name for name, folders in outs.items() if folder in folders)


def imported(command: str) -> set[str]:
    """The modules that a command's body imports, and all that these import."""
    if command in BENCHMARKS:
        reader = f"rm_robustness.data.{BENCHMARKS[command].reader.partition(':')[0]}"
        return {reader, *GRAPH.find_upstream_modules(reader)}
    body = COMMANDS[command].body
    tree = ast.parse(inspect.getsource(inspect.getmodule(body)))
    [function] = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == body.__name__
    ]
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.ImportFrom):
            module = f"rm_robustness.{node.module}" if node.module else "rm_robustness"
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    names &= GRAPH.modules
    return names.union(*(GRAPH.find_upstream_modules(name) for name in names))


@pytest.mark.parametrize("kind", JOBS)
def test_a_stage_depends_on_the_code_of_its_jobs(kind):
    deps = [dep.removeprefix("src/rm_robustness/") for dep in STAGES[stage_of(kind)]["deps"]]
    parts = {name.split(".")[1] for name in imported(JOBS[kind]) if "." in name}
    assert parts, "its command imports nothing: is this the right one?"
    assert parts - SERVING <= {dep.removesuffix(".py") for dep in deps}


def test_every_stage_is_one_of_each_released_preset():
    assert PIPELINE["vars"][0]["presets"][0] == "demo"
    for name, stage in PIPELINE["stages"].items():
        assert stage["foreach"] == "${presets}", name
        [params] = stage["do"]["params"]
        assert [*params] == ["config/${item}.yaml"]
        assert all("runs/${item}/" in path for out in stage["do"]["outs"] for path in out)


def test_a_folder_that_a_preset_may_lack_is_made_by_its_stage():
    """DVC refuses a stage without its outs: a preset without RLOO has an empty one."""
    optional = {"ranks", "policies", "policy_gold", "alpaca_eval"}
    made = set()
    for stage in STAGES.values():
        for line in stage["cmd"] if isinstance(stage["cmd"], list) else []:
            if line.startswith("mkdir -p "):
                made |= {Path(path).name for path in line.split()[2:]}
    assert made == optional


def test_the_results_depend_on_the_code_that_makes_them_again():
    deps = STAGES["results"]["deps"]
    assert {f"src/rm_robustness/{part}" for part in CODE} <= set(deps)


# What stands in the place of each wildcard: of the laptop's, what only sensitivity has.
NAMES = {
    "demo": {"source": "world", "backbone": "llama", "objective": "bt", "name": "claims"},
    "laptop": {"backbone": "SmolLM2", "objective": "bt-b1", "name": "sensitivity"},
}
SHARED = {"seed": "0", "policy": "standard-bt", "benchmark": "rm_bench"}
NO_JOB = {
    "demo": ("preferences", "generate"),
    "laptop": ("preferences", "generate", "chats", "instructions", "answers", "judge"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [*JOBS, "result"])
def test_a_stage_has_the_settings_of_its_jobs_as_parameters(kind, name):
    if kind in NO_JOB[name]:
        pytest.skip(f"{name} has no such job")
    config, part = preset(name), {}
    [params] = STAGES[stage_of(kind)]["params"]
    for path in next(iter(params.values())):
        section, _, key = path.partition(".")
        part[path] = config[section][key] if key else config[section]
    record = f"runs/{name}/" + RECORDS[kind].format(**SHARED | NAMES[name])
    assert configured(part, record) == configured(config, record)
