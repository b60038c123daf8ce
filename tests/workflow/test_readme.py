"""The README's numbers and picture are those of the release, read from the store in the clone."""

import json
from pathlib import Path

import pytest
import yaml
from support.paths import ROOT
from support.readme import FIGURE, README, filled


def stored(md5: str) -> Path:
    return ROOT / "dvcstore" / "files" / "md5" / md5[:2] / md5[2:]


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The released results that the README shows."""
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    md5s = {}
    for stage in lock["stages"].values():
        for out in stage.get("outs", []):
            md5s[out["path"]] = out["md5"]
            if out["md5"].endswith(".dir") and out["path"].endswith("results"):
                files = json.loads(stored(out["md5"]).read_text(encoding="utf-8"))
                md5s |= {f"{out['path']}/{f['relpath']}": f["md5"] for f in files}
    for name in ("table5.csv", "claims.csv", "figure4.png"):
        content = stored(md5s[f"runs/demo/results/{name}"]).read_bytes()
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_readme_shows_the_release(released):
    text = README.read_text(encoding="utf-8")
    assert text == filled(text, released), "PYTHONPATH=tests python -m support.readme RESULTS"
    assert FIGURE.read_bytes() == (released / "figure4.png").read_bytes()
