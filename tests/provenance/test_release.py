"""The release of this very commit: what `git clone` and `dvc pull` give, without a network."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.cut_demo import clone, snakemake
from support.paths import ROOT
from support.released import Clone

from rm_robustness.provenance.record import records
from rm_robustness.provenance.release import named, refuse_large

MODEL = "runs/demo/reward_models/llama/bt/seed-0"
TABLE = "runs/demo/results/table2.csv"
MEASURE = "measure_scenarios"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "dvc.lock").is_file(), reason="nothing is released"),
]
# The only way out of this machine is through a port that nobody listens on.
NOWHERE = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}


def repository(folder: Path) -> Clone:
    """A clone of this repository as it stands, committed or not."""
    made = Clone(folder)
    folder.mkdir()
    clone(folder, released=True)
    (folder / "cut.yaml").unlink()
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        made.git(*words)
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return repository(tmp_path_factory.mktemp("release") / "source")


@pytest.fixture(scope="module")
def pulled(source, tmp_path_factory):
    """A fresh clone after `dvc pull`, with no network."""
    fresh = Clone(tmp_path_factory.mktemp("release") / "clone", source)
    fresh.dvc("pull", **NOWHERE)
    return fresh.folder


@pytest.fixture
def copy(pulled, tmp_path):
    """A copy of it to disturb."""
    left = shutil.ignore_patterns("cache", "dvcstore")
    return Path(shutil.copytree(pulled, tmp_path / "copy", symlinks=True, ignore=left))


def planned(folder: Path, *targets: str) -> dict[str, int]:
    """How many jobs of each rule Snakemake plans."""
    answer = snakemake(folder, "-n", "--", *(targets or ("all",)))
    assert answer.returncode == 0, answer.stderr[-2000:]
    plan = answer.stdout + answer.stderr
    if "Nothing to be done" in plan:
        return {}
    found = dict(re.findall(r"^(\w+) +(\d+)$", plan, flags=re.MULTILINE))
    return {rule: int(n) for rule, n in found.items() if rule not in ("all", "total")}


def rm_robustness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rm_robustness", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | NOWHERE,
    )


def test_the_release_is_small_and_has_nothing_but_what_is_named():
    files = {path for path in (ROOT / "dvcstore").rglob("*") if path.is_file()}
    assert files == named(ROOT / "dvcstore", ROOT / "dvc.lock")
    for name in yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["vars"][0]["presets"]:
        assert refuse_large(ROOT / "dvcstore", ROOT / "dvc.lock", name) <= 64_000_000


def test_after_a_pull_nothing_is_to_be_done(pulled):
    """Where this fails the release is older than the workflow: `make release`."""
    assert planned(pulled) == {}


def test_every_reward_model_policy_and_backbone_is_there_with_one_seed_at_least(pulled):
    run = pulled / "runs/demo"
    weights = {path.parent for path in run.rglob("model.safetensors")}
    known = {
        path.parent
        for path in records(run)
        if path.name == "record.json"
        and path.relative_to(run).parts[0] in ("reward_models", "policies", "backbones")
    }
    assert len(known) == 48 + 12 + 2
    groups = {re.sub(r"/seed-\d+$", "", str(folder)) for folder in known}
    assert groups == {re.sub(r"/seed-\d+$", "", str(folder)) for folder in weights}


def test_a_table_whose_scores_are_lost_is_made_again_and_comes_out_the_same(copy):
    """The job measures all seeds of the model, of which a release has the weights of one."""
    table = copy / TABLE
    kept = table.read_bytes()
    (copy / "runs/demo/scores/llama/bt/seed-0/rm_bench.parquet").unlink()
    table.unlink()
    wanted = {"reward_models_0": 1, f"{MEASURE}_rm_bench_ranks_0_1_2_3": 1}
    wanted |= {"table2": 1, "publish_table": 1}
    assert planned(copy, "results/table2.csv") == wanted
    answer = snakemake(copy, "--cores", "1", "--", "results/table2.csv")
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert table.read_bytes() == (copy / "results/table2.csv").read_bytes() == kept


@pytest.mark.parametrize(
    ("before", "after", "touched"),
    [
        (
            "reward_models: {learning_rate: 1.0e-3",
            "reward_models: {learning_rate: 2.0e-3",
            {
                "reward_models_0": 12,
                f"{MEASURE}_0_1_2_3": 8,
                f"{MEASURE}_rm_bench_ranks_0_1_2_3": 2,
                "measure_rm_bench_0_1_2_3": 2,
                "rloo_0": 4,
                "policy_gold": 4,
                "answers": 6,
                "judge": 1,
                "table1": 1,
                "table2": 1,
                "table3": 1,
                "table5": 1,
                "figure1": 1,
                "figure2": 1,
                "figure3": 1,
                "figure4": 1,
                "figure5": 1,
                "figure6": 1,
                "claims": 1,
                "metrics": 1,
                "index": 1,
            },
        ),
        (
            "bt-hinge: {margin: 1.0}",
            "bt-hinge: {margin: 2.0}",
            {
                "reward_models_0": 2,
                f"{MEASURE}_0_1_2_3": 2,
                "table5": 1,
                "figure4": 1,
                "claims": 1,
                "metrics": 1,
                "index": 1,
            },
        ),
        ("preset: demo\n", "preset: demo  # a comment\n", {}),
    ],
)
def test_an_edit_plans_exactly_what_it_touches(copy, before, after, touched):
    config = copy / "config/demo.yaml"
    assert config.read_text().count(before) == 1
    config.write_text(config.read_text().replace(before, after))
    assert planned(copy) == touched


def test_a_checkpoint_with_one_byte_more_plans_what_rests_on_it_and_is_named(copy):
    with (copy / MODEL / "model.safetensors").open("ab") as file:
        file.write(b"\n")
    assert planned(copy) == {
        "reward_models_0": 1,  # the weights of its other seeds are not here
        f"{MEASURE}_rm_bench_ranks_0_1_2_3": 1,
        "rloo_0": 1,
        "policy_gold": 1,
        "answers": 3,  # of the policies that are trained in one job
        "judge": 1,
        "table1": 1,
        "table2": 1,
        "table3": 1,
        "table5": 1,
        "figure1": 1,
        "figure2": 1,
        "figure3": 1,
        "figure4": 1,
        "figure6": 1,
        "claims": 1,
        "metrics": 1,
        "index": 1,
    }
    verified = rm_robustness(copy, "verify")
    assert verified.returncode == 1
    assert f"{MODEL}/model.safetensors" in verified.stdout
    traced = rm_robustness(copy, "trace", TABLE)
    assert f"{MODEL}/model.safetensors" in traced.stdout.split("MISMATCH:", 1)[1]


def test_what_was_pulled_is_verified_and_traced(pulled):
    verified = rm_robustness(pulled, "verify")
    assert verified.returncode == 0, verified.stdout[-2000:]
    assert "all good" in verified.stdout
    traced = rm_robustness(pulled, "trace", TABLE)
    assert traced.returncode == 0
    assert "learning_rate 0.001" in traced.stdout and "Nothing is wrong" in traced.stdout


def test_linked_files_are_up_to_date_too(source, tmp_path):
    linked = Clone(tmp_path / "clone", source)
    linked.dvc("config", "--local", "cache.type", "symlink")
    linked.dvc("pull", **NOWHERE)
    assert (linked.folder / MODEL / "model.safetensors").is_symlink()
    assert planned(linked.folder) == {}
    # What Snakemake makes anew replaces the link and leaves the cache's file alone.
    target = (linked.folder / TABLE).resolve()
    (linked.folder / TABLE).unlink()
    assert snakemake(linked.folder, "--cores", "1", "--", TABLE).returncode == 0
    assert not (linked.folder / TABLE).is_symlink()
    assert not target.stat().st_mode & stat.S_IWUSR


def test_one_model_comes_by_its_path(source, tmp_path):
    from rm_robustness.models.reward_model import load

    alone = Clone(tmp_path / "clone", source)
    alone.dvc("pull", MODEL, **NOWHERE)
    load(alone.folder / MODEL)
    assert [path.parent for path in alone.folder.rglob("model.safetensors")] == [
        alone.folder / MODEL
    ]


def test_dvc_has_nothing_to_do_either(pulled):
    for word in ("status", "repro"):
        answer = subprocess.run(
            [sys.executable, "-m", "dvc", word], cwd=pulled, capture_output=True, text=True
        )
        assert "Data and pipelines are up to date." in answer.stdout, answer.stdout + answer.stderr


def test_a_dirty_tree_is_not_released(source, tmp_path):
    edited = Clone(tmp_path / "clone", source)
    with (edited.folder / "config/demo.yaml").open("a") as file:
        file.write("# another\n")
    answer = rm_robustness(edited.folder, "release", "--runs", "runs/demo")
    assert answer.returncode == 2
    assert "git status: found a dirty tree" in answer.stderr


def test_a_lock_that_was_recorded_without_a_run_is_not_released(source, tmp_path):
    edited = Clone(tmp_path / "clone", source)
    edited.dvc("pull")
    config = edited.folder / "config/demo.yaml"
    config.write_text(
        config.read_text().replace("bt-hinge: {margin: 1.0}", "bt-hinge: {margin: 2.0}")
    )
    edited.dvc("commit", "--force")
    edited.git("commit", "-qam", "two")
    before = (edited.folder / "dvc.lock").read_bytes()
    answer = rm_robustness(edited.folder, "release", "--runs", "runs/demo")
    assert answer.returncode == 2
    assert "dvc.lock, stage reward_models@demo: found settings without a run" in answer.stderr
    assert "margin" in answer.stderr
    assert (edited.folder / "dvc.lock").read_bytes() == before
