"""Two presets released into one store: a clone has both, and neither leaves the other undone."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config
from support.cut_demo import CUT, clone
from support.paths import ROOT
from support.presets import preset
from support.released import Clone, key

from rm_robustness.errors import InputError
from rm_robustness.provenance.dvc_yaml import add_preset, stages_of
from rm_robustness.provenance.release import refuse_large

PRESETS = ("demo", "laptop")
# Each has nothing but the scenarios, of one backbone.
SMALL = {"grid": {"backbones": ["llama"]}} | dict.fromkeys(
    ("rm_bench", "ranks", "rloo", "alpaca_eval")
)
# Of the second a result on request too.
ON_REQUEST = {
    "sensitivity": {
        "backbone": "llama",
        "seeds": [0, 1],
        "variants": {"bt-bsr": {}, "bt-b4": {"objective": "bt", "micro_batch": 4}},
    }
}
NOTHING = "Nothing to be done"


def config(name: str) -> str:
    """A preset that is the demo cut small, under this name."""
    made = preset("demo")
    more = ON_REQUEST if name == "laptop" else {}
    for changes in (CUT, SMALL, more, {"preset": name}):
        update_config(made, changes)
    return str(yaml.safe_dump(made, sort_keys=False))


def run(where: Clone, *words: str) -> str:
    """What a program of this environment says in a clone; it must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        words,
        cwd=where.folder,
        env=where.environment | {"PATH": path, "PYTHONPATH": str(where.folder / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def snakemake(where: Clone, name: str, *words: str) -> str:
    return run(where, "snakemake", "--configfile", f"config/{name}.yaml", *words)


def stages(where: Clone) -> dict[str, object]:
    return dict(yaml.safe_load((where.folder / "dvc.lock").read_text())["stages"])


def published(where: Clone) -> set[str]:
    """The presets whose numbers results/ has."""
    tables = (where.folder / "results").glob("table*.csv")
    return {row["preset"] for table in tables for row in csv.DictReader(table.open())}


def release(where: Clone, name: str) -> None:
    run(where, "rm-robustness", "release", "--runs", f"runs/{name}")
    where.git("add", "--all")
    where.git("commit", "-qm", f"Release {name}")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A repository with two presets, of which one is released, and that release's stages."""
    made = Clone(tmp_path_factory.mktemp("two") / "source")
    made.folder.mkdir()
    clone(made.folder)
    (made.folder / "cut.yaml").unlink()
    for name in PRESETS:
        (made.folder / f"config/{name}.yaml").write_text(config(name))
    made.git("init", "-q")
    made.git("add", "--all")
    made.git("commit", "-qm", "Two presets")
    release(made, "demo")
    return made, stages(made)


@pytest.fixture(scope="module")
def source(first):
    """The same repository, with both released."""
    made = first[0].folder / "runs/laptop/results/sensitivity.csv"
    made.parent.mkdir(parents=True)
    made.touch()  # what was asked for is released, and not as it was before
    release(first[0], "laptop")
    return first[0]


@pytest.fixture(scope="module")
def pulled(source, tmp_path_factory):
    fresh = Clone(tmp_path_factory.mktemp("two") / "clone", source)
    fresh.dvc("pull")
    return fresh


@pytest.mark.slow
def test_a_release_records_the_stages_of_its_preset(first):
    assert {name.partition("@")[2] for name in first[1]} == {"demo"}
    assert NOTHING in snakemake(first[0], "demo", "-n", "--", "all")


@pytest.mark.slow
def test_the_release_of_one_leaves_what_the_other_has(first, source):
    before, both = first[1], stages(source)
    assert {name: both[name] for name in before} == before
    assert {name.partition("@")[2] for name in both} == {"demo", "laptop"}
    text = (ROOT / "dvc.yaml").read_text()
    assert set(text.splitlines()) <= set((source.folder / "dvc.yaml").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_after_a_pull_nothing_is_to_be_done_for_either(source, pulled, name):
    for where in (source, pulled):
        assert NOTHING in snakemake(where, name, "-n", "--", "all")


@pytest.mark.slow
def test_what_the_second_leaves_out_is_not_there_and_all_is_good(pulled):
    here = {str(path.relative_to(pulled.folder)) for path in pulled.folder.glob("runs/*/**/*")}
    assert "runs/demo/raw/gold.parquet" in here
    assert "runs/laptop/splits/train.parquet" in here
    assert "runs/laptop/reward_models/llama/bt/seed-0/record.json" in here
    gone = ("raw/gold.parquet", "raw/responses.parquet", "model.safetensors")
    assert not [path for path in here if path.startswith("runs/laptop") and path.endswith(gone)]
    verified = run(pulled, "rm-robustness", "verify")
    assert "all good" in verified and "lacks its settings" not in verified
    assert "up to date" in run(pulled, "dvc", "status")
    shown = run(pulled, "dvc", "metrics", "show")
    assert "runs/demo/results/metrics.json" in shown and "runs/laptop/results" in shown


@pytest.mark.slow
def test_a_result_on_request_is_released_with_what_it_rests_on(pulled):
    with (pulled.folder / "runs/laptop/results/sensitivity.csv").open() as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"bt", "bt-bsr", "bt-b4"}
    target = "runs/laptop/results/sensitivity.csv"
    assert NOTHING in snakemake(pulled, "laptop", "-n", "--", target)
    assert "bt-b4" in run(pulled, "rm-robustness", "trace", target)


@pytest.mark.slow
def test_results_are_those_of_the_preset_that_was_asked_for(source, pulled):
    """Whatever the folder had before: no copy is taken for another preset's."""
    assert published(source) == {"laptop"}
    assert not (pulled.folder / "results").exists()
    for name in ("demo", "laptop", "demo"):
        snakemake(pulled, name, "--", "publish")
        assert published(pulled) == {name}
        assert NOTHING in snakemake(pulled, name, "-n", "--", "results/table5.csv")
    snakemake(pulled, "laptop", "--", "results/table5.csv")
    assert published(pulled) == {"laptop"}
    assert {path.name.split(".")[0] for path in (pulled.folder / "results").iterdir()} == {"table5"}
    for name in PRESETS:
        assert NOTHING in snakemake(pulled, name, "-n", "--", "all")


def test_a_preset_is_added_in_place_and_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (ROOT / "dvc.yaml").read_text()
    Path("dvc.yaml").write_text(before)
    for figure in ("figure2.png", "figure1.png", "figure1.csv"):
        path = Path("runs/another/results") / figure
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    add_preset("another")
    after = Path("dvc.yaml").read_text()
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert added[0].endswith(", another]")
    files = ("metrics.json", "figure1.png", "figure2.png")
    assert added[1:] == [f"  - runs/another/results/{name}" for name in files]
    assert [line for line in before.splitlines() if line not in after.splitlines()] == [
        added[0].replace(", another]", "]")
    ]
    made = yaml.safe_load(after)
    assert made["vars"][0]["presets"][-1] == "another"
    assert made["metrics"][-1] == "runs/another/results/metrics.json"
    # DVC refuses a stage whose outs are not there.
    assert Path("runs/another/policies").is_dir() and Path("runs/another/ranks").is_dir()
    assert "policies@another" in stages_of("another")
    add_preset("another")
    assert Path("dvc.yaml").read_text() == after


def store(folder: Path, **megabytes: int) -> Path:
    """A store with one file of this size for each preset, and the dvc.lock that names it."""
    stages = {}
    for name, size in megabytes.items():
        md5 = hashlib.md5(name.encode()).hexdigest()
        path = folder / "dvcstore" / key(md5)
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(size * 10**6)
        stages[f"scores@{name}"] = {"outs": [{"path": f"runs/{name}/scores", "md5": md5}]}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    return folder / "dvcstore"


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"demo": 30, "laptop": 33}, "33.0 MB of laptop; expected 32 MB or less"),
        ({"demo": 30, "laptop": 25, "more": 10}, "65.0 MB of all released presets; expected 64 MB"),
    ],
)
def test_a_release_that_is_too_large_is_one_line(tmp_path, sizes, words):
    folder = store(tmp_path, **sizes)
    with pytest.raises(InputError, match=words):
        refuse_large(folder, tmp_path / "dvc.lock", "laptop")


def test_the_size_of_another_preset_is_not_this_one_s(tmp_path):
    folder = store(tmp_path, demo=30, laptop=32)
    assert refuse_large(folder, tmp_path / "dvc.lock", "laptop") == 62_000_000
