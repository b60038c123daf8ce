import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from rm_robustness.provenance.snakemake_metadata import (
    METADATA,
    Metadata,
    pack,
    packed_path,
    unpack,
)

RUN = Path("runs/demo")
MODEL, TABLE, OTHER = RUN / "models/model", RUN / "results/table.csv", Path("runs/small/model")


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
    now = packed_path(RUN).stat().st_mtime
    write(MODEL, "bytes of model", now + 1)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), now + 2)
    unpack(RUN)
    assert known(MODEL) == "mine"


@pytest.mark.parametrize("brought", ["file", "history"])
def test_what_is_brought_later_is_learnt_again(run, brought):
    now = packed_path(RUN).stat().st_mtime
    write(MODEL, "bytes of model", now + 1)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), now + 2)
    os.utime(MODEL if brought == "file" else packed_path(RUN), (now + 3, now + 3))
    unpack(RUN)
    assert known(MODEL) == "model"


def test_what_was_run_here_before_keeps_its_own_history_until_it_is_removed(run):
    before = packed_path(RUN).stat().st_mtime - 2
    write(MODEL, "other bytes", before)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), before + 1)
    unpack(RUN)
    assert known(MODEL) == "mine"
    MODEL.unlink()
    unpack(RUN)
    assert known(MODEL) == "model"


def test_equal_histories_have_equal_bytes(run):
    before = packed_path(RUN).read_bytes()
    pack(RUN)
    assert packed_path(RUN).read_bytes() == before


def test_a_long_path_is_found_again(run):
    path = RUN / ("x" * 120) / ("y" * 120)
    coded = urlsafe_b64encode(str(path).encode()).decode()
    write(path, "bytes", 1000)
    write(METADATA / f"@{coded[:254]}" / coded[254:], json.dumps({"rule": "long"}), 1001)
    pack(RUN)
    (METADATA / f"@{coded[:254]}" / coded[254:]).unlink()
    unpack(RUN)
    assert json.loads((METADATA / f"@{coded[:254]}" / coded[254:]).read_text()) == {"rule": "long"}


def another_clone() -> None:
    """What Snakemake knows of other runs is not pulled."""
    forget()
    unpack(RUN)


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_clone_without_some_files_packs_what_it_knows_of_them(run, unpacked):
    """Else a pull of it says "Nothing to be done" after an edit of these files' settings."""
    before = packed_path(RUN).read_bytes()
    MODEL.unlink()
    forget()
    if unpacked:
        unpack(RUN)
    pack(RUN)
    assert packed_path(RUN).read_bytes() == before
    another_clone()
    assert (known(MODEL), known(TABLE)) == ("model", "table.csv")


def test_an_absent_file_that_was_made_here_since_is_packed_as_it_was_made_here(run):
    write(metadata(MODEL), json.dumps({"rule": "mine"}), packed_path(RUN).stat().st_mtime + 1)
    MODEL.unlink()
    pack(RUN)
    another_clone()
    assert known(MODEL) == "mine"
    forget()
    MODEL.write_text("of whatever making")
    unpack(RUN)
    assert known(MODEL) is None


def test_a_file_with_other_bytes_of_unknown_making_is_not_packed(run):
    forget()
    MODEL.write_text("edited")
    pack(RUN)
    another_clone()
    assert (known(MODEL), known(TABLE)) == (None, "table.csv")


def remove_model() -> None:
    MODEL.unlink()


def remake_here() -> None:
    now = packed_path(RUN).stat().st_mtime
    write(MODEL, "bytes of model", now + 1)
    write(metadata(MODEL), json.dumps({"rule": "mine"}), now + 2)


def bring_again() -> None:
    remake_here()
    write(MODEL, "bytes of model", packed_path(RUN).stat().st_mtime + 3)


@pytest.mark.parametrize("history", [forget, lambda: None, remove_model, remake_here, bring_again])
def test_reading_finds_what_unpacking_would_write_and_writes_nothing(run, history):
    history()
    before = {path: known(path) for path in (MODEL, TABLE)}
    read = {path: Metadata().of(str(path)).get("rule") for path in (MODEL, TABLE)}
    assert {path: known(path) for path in (MODEL, TABLE)} == before
    unpack(RUN)
    assert read == {path: known(path) for path in (MODEL, TABLE)}
