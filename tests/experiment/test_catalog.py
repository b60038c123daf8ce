"""RESULTS is the one list of tables, figures and claims: whoever shows them agrees with it."""

from importlib import import_module

import grimp
import pytest
import yaml
from support.paths import ROOT
from support.presets import preset

from rm_robustness.experiment.catalog import (
    CODE,
    EVERY_RESULT,
    ON_REQUEST,
    RESULTS,
    is_figure,
    results,
)

# The base of all: files, their errors and their progress. No number depends on them alone.
BASE = {f"rm_robustness.{name}" for name in ("errors", "files", "frames", "progress")}


def closure(module: str) -> set[str]:
    """All modules of the package that one imports, within functions too."""
    graph = grimp.build_graph("rm_robustness", exclude_type_checking_imports=True)
    return {module, *graph.find_upstream_modules(module)}


def within(module: str, parts: tuple[str, ...]) -> bool:
    """Whether a module is one of some folders and files of the package."""
    names = [f"rm_robustness.{part.removesuffix('.py').replace('/', '.')}" for part in parts]
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("name", EVERY_RESULT)
def test_a_result_names_functions_and_has_a_caption(name):
    result = EVERY_RESULT[name]
    for text in filter(None, (result.measure, result.render, result.draw)):
        module, _, function = text.partition(":")
        assert callable(getattr(import_module(f"rm_robustness.results.{module}"), function))
    assert bool(result.render) != is_figure(name)
    assert (ROOT / f"workflow/report/{name}.rst").is_file()


@pytest.mark.parametrize("name", EVERY_RESULT)
def test_an_edit_of_any_code_that_a_result_rests_on_makes_it_again(name):
    modules = {text.partition(":")[0] for text in EVERY_RESULT[name][-3:] if text}
    for module in [*modules, "html", "plot_style"]:
        needed = closure(f"rm_robustness.results.{module}") - BASE
        assert {name for name in needed if not within(name, CODE)} == set()


def test_a_preset_makes_what_its_sections_allow():
    assert results(preset("demo")) == list(RESULTS)
    small = results(preset("small"))
    assert "table2" in small and not {"table3", "table4", "figure5", "figure6"} & set(small)


def test_what_is_made_on_request_is_no_part_of_all_in_any_preset():
    assert not RESULTS.keys() & ON_REQUEST.keys()
    assert all(result.requires for result in ON_REQUEST.values())


def test_dvc_shows_the_numbers_and_every_figure_of_each_released_preset():
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))
    released = pipeline["vars"][0]["presets"]
    assert pipeline["metrics"] == [f"runs/{name}/results/metrics.json" for name in released]
    assert pipeline["plots"] == [
        f"runs/{name}/results/{figure}.png"
        for name in released
        for figure in sorted(filter(is_figure, results(preset(name))))
    ]
