"""The house keeps its plan: tests stand where the code does, and names mean one thing."""

import ast
from collections import defaultdict

import pytest
from support.paths import ROOT

SRC, TESTS = ROOT / "src/rm_robustness", ROOT / "tests"
MODULES = sorted(SRC.rglob("*.py"))
TEST_MODULES = sorted(TESTS.rglob("test_*.py"))


def test_tests_have_the_folders_of_the_package():
    folders = {path.name for path in SRC.iterdir() if (path / "__init__.py").is_file()}
    here = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert here - {"workflow", "slurm", "support", "rehearsal"} == folders


@pytest.mark.parametrize("path", TEST_MODULES, ids=lambda path: path.name)
def test_no_test_module_imports_another(path):
    imported = {
        node.module or ""
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    assert not {name for name in imported if name.rpartition(".")[2].startswith("test_")}


@pytest.mark.parametrize("name", ["run", "rows", "rule"])
def test_a_name_that_says_nothing_is_nobodys(name):
    places = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                places[node.name.strip("_")].append(path.name)
    assert len(places[name]) < 2, places[name]


def test_no_line_is_kept_from_the_formatter():
    marks = ("fmt: " + "skip", "fmt: " + "off")
    others = (TESTS, ROOT / "benchmarks", ROOT / "rehearsal")
    paths = [*MODULES, *(path for folder in others for path in folder.rglob("*.py"))]
    assert [path.name for path in paths if any(m in path.read_text("utf-8") for m in marks)] == []
