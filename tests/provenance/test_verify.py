"""Verify: what was damaged is named, with a command that repairs it; nothing else is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cut_demo import DEMO
from support.damage import MODELS, RECORD, SPLIT, TABLE, WEIGHTS, edit, edit_with_its_record, flip
from support.recorded_run import UNRELEASED, make_run, shell, track

from rm_robustness.cli import main as cli
from rm_robustness.provenance import dvc_lock
from rm_robustness.provenance.snakemake_metadata import pack

SCORES = "runs/demo/scores/llama/bt/seed-0/in_domain.parquet"


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def tracked_run(plain_run, tmp_path_factory):
    """The same run in DVC."""
    folder = tmp_path_factory.mktemp("tracked")
    os.environ["DVC_SITE_CACHE_DIR"] = str(folder / "site")
    yield track(shutil.copytree(plain_run, folder / "run", symlinks=True))
    del os.environ["DVC_SITE_CACHE_DIR"]


@pytest.fixture
def plain(plain_run, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(plain_run, tmp_path / "run", symlinks=True))


@pytest.fixture
def tracked(tracked_run, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(tracked_run, tmp_path / "run", symlinks=True))


def verify(capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and what was printed."""
    status = 0
    try:
        cli.main(["verify", *arguments])
    except SystemExit as stop:
        status = int(str(stop.code))
    return status, capsys.readouterr().out


def repairs(text: str) -> list[str]:
    return re.findall(r"^  repair   (.*)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", ["plain", "tracked"])
def test_an_untouched_run_is_all_good(kind, request, capsys):
    request.getfixturevalue(kind)
    status, text = verify(capsys)
    assert status == 0, text
    assert re.search(r"^\d+ files, 0\.\d MB: all good$", text, flags=re.MULTILINE)
    assert ("only records identify the files" in text) == (kind == "plain")


def relearn(path: str) -> None:
    edit(path, "settings", "learning_rate", value=9)


def replace_by_another(path: str) -> None:
    Path(path).unlink()
    shutil.copy(path.replace("/bt/", "/bt-bsr/"), path)


def test_each_damage_is_named_and_the_printed_commands_repair_it_all(tracked, capsys):
    other = WEIGHTS.replace("/bt/", "/bt-bsr/")
    damages = [
        (flip, SCORES, "not the bytes in .*/seed-0/record.json\n  expected"),
        (os.remove, SPLIT, "absent"),
        (replace_by_another, WEIGHTS, f"not the bytes in .*/record.json, but those of {other}"),
        (
            edit_with_its_record,
            f"{MODELS}/bt-bsr/seed-1/model.safetensors",
            "not the bytes in dvc.lock, though those in its record",
        ),
        (os.remove, "runs/demo/raw/responses.record.json", "deleted: .* has no record"),
        (flip, "runs/demo/backbones/llama/record.json", "unreadable: broken JSON"),
        (relearn, RECORD, "not the bytes in dvc.lock\n  expected md5"),
        (flip, TABLE, "not the bytes of runs/demo/results/table5.csv"),
        (flip, "runs/demo/results/table5.md", "not the bytes in .*/table5.record.json"),
    ]
    for damage, path, _ in damages:
        damage(path)
    status, text = verify(capsys)
    assert status == 1
    for _, path, words in damages:
        assert re.search(f"^{path}\n  {words}", text, flags=re.MULTILINE), (path, text)
    for command in repairs(text):
        shell(Path.cwd(), command)
    status, text = verify(capsys)
    assert status == 0, text


def test_bad_bytes_in_the_cache_too_are_fetched_again(tracked, capsys):
    flip(WEIGHTS)
    flip(str(dvc_lock.read_lock().object(dvc_lock.read_lock().files[WEIGHTS])))
    (command,) = repairs(verify(capsys)[1])
    assert "dvc pull" in command
    shell(Path.cwd(), command)
    assert verify(capsys)[0] == 0


@pytest.mark.parametrize(
    ("damage", "path", "words"),
    [
        (flip, WEIGHTS, f"{WEIGHTS}\n  not the bytes in "),
        (os.remove, RECORD, f"{RECORD}\n  deleted: .* has no record"),
        (flip, TABLE, f"{TABLE}\n  not the bytes of runs/demo/results/table5.csv"),
        (
            relearn,
            RECORD,
            f"{RECORD}\n  not the settings that Snakemake ran it with: learning_rate 9",
        ),
        (
            edit_with_its_record,
            SPLIT,
            r"/record.json\n  made from another version of .*/train.parq",
        ),
    ],
)
def test_without_dvc_damage_is_named_and_made_again(plain, capsys, damage, path, words):
    damage(path)
    status, text = verify(capsys)
    assert status == 1
    assert re.search(words, text), text
    assert all(
        re.match(r"snakemake --force --configfile config/demo.yaml -- runs/|cp ", command)
        for command in repairs(text)
    )


def test_a_copy_whose_run_is_not_here_is_not_called_misplaced(plain, capsys):
    shutil.rmtree("runs/demo")
    status, text = verify(capsys, "results")
    assert status == 0, text
    assert "a copy from a run that is not here: runs/demo/results/table5.csv" in text
    Path("results/table5.record.json").rename("results/table6.record.json")
    status, text = verify(capsys, "results")
    assert status == 1 and "results/table6.record.json\n  the record of runs/demo" in text


def test_a_folder_that_is_another_seeds_is_named(plain, capsys):
    folder = Path(WEIGHTS).parent
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("seed-1"), folder)
    status, text = verify(capsys)
    assert status == 1
    assert re.search(f"^{RECORD}\n  the record of .*/bt, seed 1, not of .*/seed-0/", text, re.M)
    assert "another version" not in text  # that follows from it


def test_a_config_edit_recorded_without_a_run_is_named(tracked, capsys):
    config = Path("config/demo.yaml")
    config.write_text(config.read_text().replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3"))
    assert verify(capsys)[0] == 0  # an edit alone is no damage
    shell(Path.cwd(), "dvc commit -q -f")
    status, text = verify(capsys)
    assert status == 1
    assert "in stage reward_models of dvc.lock: learning_rate 0.001 recorded, 0.002 there" in text
    again = "dvc repro --force --single-item reward_models && dvc repro --downstream reward_models"
    assert again in repairs(text)
    assert "dvc.lock: not the one that is committed" in text


def test_a_source_edit_recorded_without_a_run_is_named(tracked, capsys):
    with Path("src/rm_robustness/models/scoring.py").open("a") as file:
        file.write("# edited\n")
    shell(Path.cwd(), "dvc commit -q -f scores")
    status, text = verify(capsys)
    assert status == 1
    assert "scoring.py\n  in stage scores of dvc.lock, but in no commit of its records" in text


def test_an_edit_in_a_source_folder_recorded_without_a_run_is_named(tracked, capsys):
    with Path("src/rm_robustness/data/gold.py").open("a") as file:
        file.write("# edited\n")
    assert verify(capsys)[0] == 0
    shell(Path.cwd(), "dvc commit -q -f splits")
    status, text = verify(capsys)
    assert status == 1
    assert "src/rm_robustness/data\n  in stage splits of dvc.lock, but in no commit of" in text
    assert "backbones\n" not in text  # a folder that a stage made is no source


def test_a_source_that_no_recorded_commit_has_is_unverified(tracked, capsys):
    shutil.copytree("src/rm_robustness/data", "src/rm_robustness/sources")
    pipeline = Path("dvc.yaml").read_text().replace("rm_robustness/data", "rm_robustness/sources")
    Path("dvc.yaml").write_text(pipeline)
    shell(Path.cwd(), "dvc commit -q -f && git add -A && git commit -qm moved")
    status, text = verify(capsys)
    assert status == 0
    unverified = text.split("Unverified:")[1]
    words = "src/rm_robustness/sources: in stage scores of dvc.lock; no known commit of its records"
    assert words in unverified


def test_edited_settings_of_every_kind_recorded_without_a_run_are_named(tracked, capsys):
    edits = {
        "gold: {kind: programmatic}": "gold: {kind: column}",
        "chats: 30000": "chats: 29999",
        "max_new_tokens: 40": "max_new_tokens: 39",
        "splits:\n  seed: 11": "splits:\n  seed: 12",
    }
    config = Path("config/demo.yaml").read_text()
    for before, after in edits.items():
        assert config.count(before) == 1, before
        config = config.replace(before, after)
    Path("config/demo.yaml").write_text(config)
    shell(Path.cwd(), "dvc commit -q -f")
    status, text = verify(capsys)
    assert status == 1
    for record, setting in {
        "raw/gold": "kind programmatic recorded, column",
        "raw/chats/world": "chats 30000 recorded, 29999",
        "alpaca_eval/outputs/sft/seed-0": "max_new_tokens 40 recorded, 39",
        "splits/": "seed 11 recorded, 12",
    }.items():
        name = f"runs/demo/{record}.record.json".replace("/.record", "/record")
        words = rf"^{name}\n(runs/.*\n)*  other settings in stage \w+ of dvc.lock: .*{setting}"
        assert re.search(words, text, flags=re.MULTILINE), (record, text)


def test_what_is_not_released_is_no_damage_after_a_pull(tracked, tmp_path, monkeypatch, capsys):
    shell(tmp_path, f"git clone -q {Path.cwd()} fresh")
    monkeypatch.chdir(tmp_path / "fresh")
    shell(Path.cwd(), "dvc pull -q")
    status, text = verify(capsys)
    assert status == 0, text
    assert f"{UNRELEASED}: not here, and DVC keeps none" in text


def test_damage_to_results_whose_run_is_not_here_is_named(tracked, capsys):
    shutil.rmtree("runs")
    flip(TABLE)
    status, text = verify(capsys, "results")
    assert status == 1 and f"{TABLE}\n  not the bytes in results/table5.record.json" in text


def test_paths_narrow_what_is_judged(plain, capsys):
    flip(WEIGHTS)
    assert verify(capsys, "runs/demo/splits", "results")[0] == 0
    assert verify(capsys, "runs/demo/reward_models")[0] == 1
    assert verify(capsys, "runs/dem")[0] == 2


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    command = [sys.executable, "-m", "rm_robustness", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environment
    )


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, "git config --global --add safe.directory"),
        ({"PATH": "/nonexistent"}, "the program git cannot be run"),
    ],
)
def test_git_that_refuses_or_is_absent_is_unverified_and_said_once(tracked, environment, reason):
    for words in (["verify"], ["trace", TABLE]):
        done = program(*words, **environment)
        assert done.returncode == 0, done.stderr
        assert "  git: commits and sources are not checked: " in done.stdout
        assert (done.stdout + done.stderr).count(reason) == 1
        assert "unknown to this clone" not in done.stdout
        assert "not the one that is committed" not in done.stdout


def test_a_dirty_tree_is_said_where_git_refuses_too(plain, capsys, monkeypatch):
    edit(RECORD, "git", "dirty", value=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    status, text = verify(capsys)
    assert status == 0
    assert f"{RECORD}: made in a dirty tree of " in text


def test_an_archive_without_git_is_verified_as_far_as_it_can_be(tracked, tmp_path, monkeypatch):
    here, archive = Path.cwd(), tmp_path / "archive"
    archive.mkdir()
    shell(here, f"git archive HEAD | tar x -C {archive}")
    shell(archive, "dvc config --local core.no_scm true && dvc pull -q")
    monkeypatch.chdir(archive)
    done = program("verify")
    assert done.returncode == 0 and "all good" in done.stdout, done.stderr
    assert "git: commits and sources are not checked: not a git repository" in done.stdout
    assert "not the one that is committed" not in done.stdout


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time."""
    paths = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in paths.items()}


def test_trace_and_verify_write_nothing(tracked, tmp_path, monkeypatch, capsys):
    pack(Path("runs/demo"))
    shell(Path.cwd(), "dvc commit -q -f && dvc push -q && git add -A && git commit -qm packed")
    here = Path.cwd()
    shell(tmp_path, f"git clone -q {here} fresh && cd fresh && dvc pull -q && rm -rf .dvc/tmp")
    for folder in (here, tmp_path / "fresh"):
        monkeypatch.chdir(folder)
        before = listing(folder)
        assert verify(capsys)[0] == 0
        cli.main(["trace", TABLE])
        assert "by rule_train" in capsys.readouterr().out  # so Snakemake's metadata are read
        assert listing(folder) == before


@pytest.mark.slow
def test_a_finished_run_is_traced_and_repaired_through_snakemake(finished, tmp_path, monkeypatch):
    """Real records and real jobs: what each printed command makes is what was there."""
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    program = [sys.executable, "-m", "rm_robustness"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [*program, *arguments, *DEMO]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    good = run("verify")
    assert good.returncode == 0, good.stdout
    for table in ("claims", "table3"):
        found = run("trace", f"results/{table}.csv")
        assert found.returncode == 0, found.stderr
        assert "Nothing is wrong" in found.stdout
        assert "by responses" in found.stdout
        assert len(found.stdout.splitlines()) < 250
    flip("runs/cut/reward_models/llama/bt/seed-1/tokenizer.json")
    flip("results/table2.csv")
    bad = run("verify")
    assert bad.returncode == 1
    for command in repairs(bad.stdout):
        shell(Path.cwd(), command)
    good = run("verify")
    assert good.returncode == 0, good.stdout
