import re
import tomllib

import yaml
from support.paths import ROOT


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


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return pins([line for line in lines if line.strip() and not line.startswith("#")])


def wanted() -> set[str]:
    """The names of pyproject.toml's dependencies, those for development included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {canonical(re.split(r"[^A-Za-z0-9_.-]", line)[0]) for line in lines}


def environment() -> tuple[list[str], dict[str, str]]:
    """What environment.yml takes from conda, and what it takes from pip."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)["dependencies"]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return [entry for entry in entries if isinstance(entry, str)], pins(pip)


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
