"""An installed package brings what the repository has beside src/, and finds it in any folder."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT
from support.real_text import write_alpaca_eval, write_rm_bench

from rm_robustness.experiment.package_files import package_file

BESIDE = ("config", "workflow/schemas", "data/paper")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the files that git knows, or would."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    needed = ["src", *BESIDE, *("pyproject.toml", "setup.py", "MANIFEST.in", "README.md")]
    names = subprocess.check_output([*command, *needed, "LICENSE"], cwd=ROOT, text=True)
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    # The backend of this environment; without one pip asks the package index.
    here = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", *here, "-w", str(out), str(tree)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode and not here:
        pytest.skip(f"no setuptools here, and none to be had: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    [path] = out.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(folder), str(wheel)], check=True)
    return folder


def python(installed: Path, folder: Path, *arguments: str) -> str:
    """Run Python in a folder of its own, with only the installed package on its path."""
    env = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_a_checkout_the_files_are_the_repositorys():
    assert package_file("config/small.yaml") == ROOT / "config/small.yaml"


def test_the_wheel_has_the_files_beside_the_source_as_they_are(wheel):
    files = [path for name in BESIDE for path in (ROOT / name).rglob("*") if path.is_file()]
    with zipfile.ZipFile(wheel) as archive:
        for path in files:
            name = f"rm_robustness/repository/{path.relative_to(ROOT)}"
            assert archive.read(name) == path.read_bytes()
        assert "snakemake_logger_plugin_steps/__init__.py" in archive.namelist()


def test_the_sdist_has_what_the_wheel_needs():
    listed = (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()
    assert listed == [f"graft {name}" for name in BESIDE]


PROGRAM = """
import json, sys
from pathlib import Path
import rm_robustness
from rm_robustness.cluster import launch
from rm_robustness.data import real_text
from rm_robustness.evaluation.sets import real_sets
print(json.dumps({
    "package": rm_robustness.__file__,
    "sets": [own.name for own in real_sets([Path(sys.argv[1])])],
    "launch": sorted(path.name for path in launch.CONFIGS.iterdir()),
    "preset": real_text.preset()["preset"],
}))
"""


def test_an_empty_folder_is_enough_for_real_text_and_for_the_launcher(installed, tmp_path):
    models = real_text_models()
    write_alpaca_eval(tmp_path / "data/alpaca_eval", models)
    write_rm_bench(tmp_path / "data/RM-Bench")
    (tmp_path / "empty").mkdir()
    said = json.loads(python(installed, tmp_path / "empty", "-c", PROGRAM, "../data"))
    assert Path(said["package"]).is_relative_to(installed)
    assert len(said["sets"]) == 5 and said["preset"] == "small"
    assert said["launch"] == ["ddp.yaml", "fsdp2.yaml"]
    assert list((tmp_path / "empty").iterdir()) == []


def real_text_models() -> list[str]:
    from rm_robustness.data.real_text import preset

    return [*preset()["responses"]["train_models"], *preset()["responses"]["valid_models"]]


def test_a_preset_is_planned_in_an_empty_folder(installed, tmp_path):
    command = ("-m", "rm_robustness", "plan", "--configfile", "config/paper.yaml")
    assert "GPU" in python(installed, tmp_path, *command)
    own = tmp_path / "config/paper.yaml"
    own.parent.mkdir()
    own.write_text("preset: [")
    with pytest.raises(AssertionError, match=r"config/paper\.yaml: found broken YAML"):
        python(installed, tmp_path, *command)
