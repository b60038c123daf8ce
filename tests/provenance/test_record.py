import base64
import json
import sys

import pytest

from rm_robustness.files import read_json, sha256, write_json
from rm_robustness.provenance import record
from rm_robustness.provenance.record import records, write_record


def test_inputs_are_those_that_were_read_with_the_bytes_that_were_read(tmp_path):
    write_json({"a": 1}, tmp_path / "read.json")
    write_json({}, tmp_path / "unread.json")
    (tmp_path / "weights").write_bytes(b"w")
    before = sha256(tmp_path / "read.json")
    with write_record({"seed": 7}, [tmp_path / "made.json"], [tmp_path / "weights"]):
        read_json(tmp_path / "read.json")
        write_json({"a": 2}, tmp_path / "read.json")  # changed while the job runs
        write_json({"b": 3}, tmp_path / "made.json")
    made = read_json(tmp_path / "made.record.json")
    assert {entry["path"]: entry["sha256"] for entry in made["inputs"].values()} == {
        str(tmp_path / "read.json"): before,
        str(tmp_path / "weights"): sha256(tmp_path / "weights"),
    }
    assert made["files"] == {"made.json": sha256(tmp_path / "made.json")}
    assert made["seed"] == 7


def test_what_fails_has_no_record(tmp_path):
    with pytest.raises(RuntimeError), write_record({}, [tmp_path / "made.json"]):
        write_json({}, tmp_path / "made.json")
        raise RuntimeError
    assert not list(tmp_path.glob("*record.json"))


def test_the_command_has_a_word_in_the_place_of_its_settings(monkeypatch):
    words = ["rm-robustness", "gold", "--settings", '{"kind": "column"}', "--output", "a b.parquet"]
    monkeypatch.setattr(sys, "argv", words)
    assert record.command() == "rm-robustness gold --settings SETTINGS --output 'a b.parquet'"


@pytest.mark.slow
def test_every_file_of_a_run_is_in_one_record_with_its_hash(finished):
    run = finished / "runs/cut"
    found = [
        (path.with_name(name), digest)
        for path, made in records(run).items()
        for name, digest in made["files"].items()
    ]
    assert all(sha256(path) == digest for path, digest in found)
    others = {
        path
        for path in run.rglob("*")
        if path.is_file() and path.relative_to(run).parts[0] not in ("work", "benchmarks")
    }
    named = [path for path, _ in found]
    assert len(set(named)) == len(named)
    assert others == {*named, *records(run)}


@pytest.mark.slow
def test_every_job_read_what_its_rule_declares_and_nothing_else(finished):
    known = {
        base64.urlsafe_b64decode(path.name).decode(): json.loads(path.read_text())
        for path in (finished / ".snakemake/metadata").iterdir()
    }
    checked = 0
    by_job: dict[str, list[set[str]]] = {}  # a job of several seeds has a record for each
    for path, made in records(finished / "runs/cut").items():
        job = known[str(path.relative_to(finished))]
        # Code is in the record by its hash, and records are read as what they are, not as data.
        sources = (name for name in job["input"] if not name.endswith(".record.json"))
        declared = {name for name in sources if not name.startswith("src/")}
        read = {each["path"] for each in made["inputs"].values()}
        assert read <= declared, (path, job["rule"])
        by_job.setdefault(f"{job['rule']} {sorted(declared)}", [declared, set()])[1].update(read)
        checked += 1
    for job, (declared, read) in by_job.items():
        assert read == declared, job
    assert checked > 50
