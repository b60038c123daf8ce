import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from rm_robustness.provenance.snakemake_metadata import METADATA, kept, pack, unpack

RUN = Path("runs/demo")
MODEL, TABLE, OTHER = RUN / "models/model", Path("results/table.csv"), Path("runs/small/model")


def metadata(path: Path) -> Path:
    return METADATA / urlsafe_b64encode(str(path).encode()).decode()


def write(path: Path, text: str, age: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (age, age))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of long ago: three files, and what Snakemake knows of them."""
    monkeypatch.chdir(tmp_path)
    for path in (MODEL, TABLE, OTHER):
        write(path, f"bytes of {path.name}", 1000)
        write(metadata(path), json.dumps({"rule": path.name}), 1001)
    pack(RUN)
    return tmp_path


def known(path: Path) -> str | None:
    return json.loads(metadata(path).read_text())["rule"] if metadata(path).is_file() else None


def forget() -> None:
    for path in METADATA.iterdir():
        path.unlink()


def test_a_fresh_clone_learns_of_its_files_and_of_no_other_preset(run):
    forget()
    unpack(RUN)
    assert (known(MODEL), known(TABLE), known(OTHER)) == ("model", "table.csv", None)


def test_it_learns_of_absent_files_and_not_of_those_with_other_bytes(run):
    forget()
    MODEL.unlink()
    TABLE.write_text("edited")
    unpack(RUN)
    assert (known(MODEL), known(TABLE)) == ("model", None)


def test_what_was_run_here_since_is_left_alone(run):
    now = kept(RUN).stat().st_mtime
    write(MODEL, "bytes of model", now + 1)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), now + 2)
    unpack(RUN)
    assert known(MODEL) == "mine"


@pytest.mark.parametrize("brought", ["file", "history"])
def test_what_is_brought_later_is_learnt_again(run, brought):
    now = kept(RUN).stat().st_mtime
    write(MODEL, "bytes of model", now + 1)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), now + 2)
    os.utime(MODEL if brought == "file" else kept(RUN), (now + 3, now + 3))
    unpack(RUN)
    assert known(MODEL) == "model"


def test_what_was_run_here_before_keeps_its_own_history_until_it_is_removed(run):
    before = kept(RUN).stat().st_mtime - 2
    write(MODEL, "other bytes", before)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), before + 1)
    unpack(RUN)
    assert known(MODEL) == "mine"
    MODEL.unlink()
    unpack(RUN)
    assert known(MODEL) == "model"


def test_equal_histories_have_equal_bytes(run):
    before = kept(RUN).read_bytes()
    pack(RUN)
    assert kept(RUN).read_bytes() == before


def test_a_long_path_is_found_again(run):
    path = RUN / ("x" * 120) / ("y" * 120)
    coded = urlsafe_b64encode(str(path).encode()).decode()
    write(path, "bytes", 1000)
    write(METADATA / f"@{coded[:254]}" / coded[254:], json.dumps({"rule": "long"}), 1001)
    pack(RUN)
    (METADATA / f"@{coded[:254]}" / coded[254:]).unlink()
    unpack(RUN)
    assert json.loads((METADATA / f"@{coded[:254]}" / coded[254:]).read_text()) == {"rule": "long"}
