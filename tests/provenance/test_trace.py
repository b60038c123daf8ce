"""Trace: the lineage of a number, complete and brief, with every disagreement."""

import json
import shlex
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from support.damage import RECORD, SPLIT, TABLE, WEIGHTS, edit, edit_with_its_record, flip
from support.recorded_run import make_run

from rm_robustness.cli import main as cli
from rm_robustness.provenance.snakemake_metadata import METADATA, Metadata
from rm_robustness.provenance.trace_text import braces


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("traced") / "run")


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "run", symlinks=True))


def trace(capsys, *arguments: str) -> str:
    cli.main(["trace", *arguments])
    return str(capsys.readouterr().out)


ROW = ("--row", "backbone=llama", "method=bt-bsr", "metric=mutual_disjoint_tau")


def test_a_row_begins_with_its_numbers_and_ends_at_the_raw_data(run, capsys):
    text = trace(capsys, TABLE, *ROW)
    lines = text.splitlines()
    assert "0.3 [0.2, 0.4]" in lines[2]
    assert "from the reference 0.1 [0.05, 0.2]" in lines[2]
    assert "the paper: no such number" in lines[2]
    assert lines[3] == "seeds 0, 1"
    for part in (
        "seed-{0,1}/mutual_disjoint.parquet",
        "by rule_train",
        "by rule_responses",
        "objective bt-bsr, ",
        "weight 0.001",
        "rate 0.001",
        "torch 2",
    ):
        assert part in text, text
    # Each subtree is printed once; the reference is an input of a difference.
    assert text.count("by rule_splits") == text.count("by rule_backbone") == 1
    assert "reward_models/llama/bt/seed-{0,1}/model.safetensors" in text
    assert "Nothing is wrong" in text
    assert len(lines) < 60


def test_a_row_is_narrowed_to_its_split_and_method(run, capsys):
    found = json.loads(trace(capsys, TABLE, *ROW, "--json"))
    inputs = found["records"]["runs/demo/results/table5.record.json"]["inputs"]
    assert {Path(path).stem for path in inputs} == {"published", "mutual_disjoint"}
    alone = ("--row", "backbone=llama", "method=bt", "metric=in_domain_accuracy")
    found = json.loads(trace(capsys, TABLE, *alone, "--json"))
    assert not [path for path in found["records"] if "bt-bsr" in path]
    length = json.loads(trace(capsys, TABLE, "--row", "method=length", "--json"))
    assert not [path for path in length["records"] if "reward_models" in path]


@pytest.mark.parametrize("backbone", ["llama", "all"])
def test_an_average_rests_on_what_it_averages_over(run, capsys, backbone):
    row = ("--row", f"backbone={backbone}", "method=bt-bsr", "metric=average")
    found = json.loads(trace(capsys, TABLE, *row, "--json"))
    inputs = found["records"]["runs/demo/results/table5.record.json"]["inputs"]
    averaged = {"in_domain", "mutual_disjoint"}  # the scenarios that bt-bsr has in this table
    assert {Path(path).stem for path in inputs} == {"published", *averaged}
    assert {Path(path).parts[4] for path in inputs if "/scores/" in path} == {"bt", "bt-bsr"}


def test_json_has_every_record_hash_and_setting(run, capsys):
    found = json.loads(trace(capsys, TABLE, "--json"))
    own = found["records"][RECORD]
    assert own["settings"]["micro_batch"] == 16
    assert own["rule"] == "rule_train"
    assert {"command", "packages", "hardware", "git", "started", "seed"} <= own.keys()
    assert found["files"][WEIGHTS]["sha256"] == found["files"][WEIGHTS]["recorded"]
    assert found["copy_of"] == f"runs/demo/{TABLE}"


def test_commands_can_be_pasted(run, capsys):
    text = trace(capsys, WEIGHTS, "--commands")
    lines = text.partition("from the raw data on:\n")[2].splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["responses", "splits", "backbone", "train"]
    verb, _, settings = shlex.split(lines[3])[1:4]
    assert (verb, json.loads(settings)["learning_rate"]) == ("train", 1e-3)


@pytest.mark.parametrize("path", [WEIGHTS, SPLIT, str(Path(WEIGHTS).parent), RECORD])
def test_any_file_or_folder_can_be_traced(run, capsys, path):
    assert "by rule_responses" in trace(capsys, path)


def test_what_disagrees_is_said(run, capsys):
    flip(WEIGHTS)
    edit_with_its_record(SPLIT)
    edit(f"{Path(SPLIT).parent}/record.json", "git", "commit", value="0" * 40)
    edit(RECORD, "packages", "torch", value="1.0")
    edit(RECORD, "settings", "learning_rate", value=0.5)
    edit("results/table5.record.json", "seed", value=9)
    Path("runs/demo/raw/responses.record.json").unlink()
    text = trace(capsys, TABLE)
    for part in (
        "runs/demo/raw/responses.record.json: deleted: ",
        f"  {WEIGHTS}: not the bytes in {RECORD}",
        f"made from another version of {SPLIT}",
        "results/table5.record.json: not the bytes of runs/demo/results/table5.record.json, which",
        f"  {RECORD}: torch 1.0 then, ",
        "its settings differ from the config now: learning_rate 0.5 recorded, 0.001 there",
        "its commit 000000000000 is unknown to this clone",
        "no dvc.lock: only records identify the files",
    ):
        assert part in text, text
    assert "model.safetensors  " in text
    assert "(!)" in text
    assert "learning_rate 0.5" in text.split("MISMATCH")[0]  # seeds that differ are separate


def test_absent_weights_do_not_break_the_chain(run, capsys):
    Path(WEIGHTS).unlink()
    text = trace(capsys, WEIGHTS)
    assert f"{WEIGHTS}: absent" in text
    assert "by rule_responses" in text


def test_large_files_are_left_to_verify(run, capsys, monkeypatch):
    monkeypatch.setattr("rm_robustness.provenance.trace.BUDGET", 100)
    assert "large and not hashed here; `rm-robustness verify` does" in trace(capsys, TABLE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["results/table6.csv"], "table6.csv: found no such file"),
        ([TABLE, "--row", "model=llama"], "found 'model'; expected a column of"),
        ([TABLE, "--row", "method=bt-bar"], "did you mean 'bt-bsr'"),
        ([WEIGHTS, "--row", "method=bt"], "found no csv beside it"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["trace", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_no_heavy_library_is_needed(run):
    code = (
        "import sys; from rm_robustness.cli.main import main\n"
        "main(['trace', 'results/table5.csv'])\n"
        "print(*sys.modules.keys() & {'torch', 'transformers', 'pandas', 'numpy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_paths_that_differ_in_parts_are_written_as_one():
    assert braces(["a/seed-0/x.p", "a/seed-0/y.p", "a/seed-1/x.p", "a/seed-1/y.p"]) == (
        "a/seed-{0,1}/{x,y}.p"
    )
    assert braces([f"a/seed-{n}/x" for n in (2, 0, 1)]) == "a/seed-{0..2}/x"
    assert braces(["a/seed-0.record.json", "a/seed-1.record.json"]) == "a/seed-{0,1}.record.json"
    assert braces(["a/x", "b/y"]) == "a/x, b/y"


def test_notes_on_long_paths_are_found_where_snakemake_puts_them(run):
    path = f"runs/demo/{'x' * 150}/{'y' * 150}.parquet"
    coded = urlsafe_b64encode(path.encode()).decode()
    note = METADATA / f"@{coded[:254]}" / coded[254:]
    note.parent.mkdir()
    note.write_text('{"rule": "far", "shellcmd": null}')
    known = Metadata()
    assert known.of(path)["rule"] == "far"
    assert path in known.outputs()
