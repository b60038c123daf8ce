import sys
from pathlib import Path

import pytest

from rm_robustness.errors import InputError
from rm_robustness.experiment.config import merged


def test_a_preset_that_is_not_here_is_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert merged([Path("config/small.yaml")])["preset"] == "small"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/small.yaml").write_text("preset: mine")
    assert merged([Path("config/small.yaml")]) == {"preset": "mine"}
    with pytest.raises(InputError, match=r"config/other\.yaml: found no readable file"):
        merged([Path("config/other.yaml")])


def test_without_snakemake_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "snakemake.utils", None)
    with pytest.raises(InputError, match=r"pip install 'rm-robustness\[workflow\]'"):
        merged([])
