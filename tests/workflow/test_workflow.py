"""End to end through Snakemake itself, on a demo cut small."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.cut_demo import DEMO, clone, command, csvs, snakemake
from support.paths import ROOT
from support.small_models import training_settings

SCENARIOS = ("in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")


@pytest.mark.slow
def test_every_table_and_figure_is_there_and_full(finished):
    for name, rows in (("table1", 6), ("table2", 24), ("table3", 9), ("table5", 16)):
        table = pd.read_csv(finished / f"results/{name}.csv")
        assert (table["preset"] == "cut").all()
        assert table["paper"].isna().all()
        measured = table[(table["method"] != "length") & (table["metric"] != "average")]
        if name == "table1":
            measured = measured[measured["n"] == measured["n"].max()]
        measured = measured[~((measured["method"] == "sft") & measured["value"].isna())]
        assert len(measured) >= rows
        assert measured[["value", "ci_low", "ci_high"]].notna().all().all()
    settings = pd.read_csv(finished / "results/table4.csv")
    assert set(settings["run"]) >= {"standard", "large"}
    for n in range(1, 7):
        for suffix in ("png", "pdf", "csv"):
            assert (finished / f"results/figure{n}.{suffix}").stat().st_size > 100


@pytest.mark.slow
def test_every_claim_has_a_verdict_about_this_preset_alone(finished):
    claims = pd.read_csv(finished / "results/claims.csv")
    assert list(claims["claim"].unique()) == [f"C{n}" for n in range(1, 14)]
    whole = claims[claims["part"] == "all"].set_index("claim")["verdict"]
    # Two of the objectives are not trained here, and there is one size of model; at this size BT's
    # tau, of which C7 is a share, may be nothing.
    unmeasured = set(whole.index[whole == "not measured"])
    assert {"C5", "C6", "C13"} <= unmeasured <= {"C5", "C6", "C7", "C13"}
    assert (claims["preset"] == "cut").all()
    text = (finished / "results/claims.md").read_text(encoding="utf-8")
    assert "not about the paper" in text


@pytest.mark.slow
def test_a_number_of_the_table_is_that_of_its_scores(finished):
    """From the table back to the score files, by scipy and plain pandas."""
    from scipy.stats import kendalltau

    table = pd.read_csv(finished / "results/table5.csv")
    row = table[
        (table["backbone"] == "qwen2")
        & (table["method"] == "bt-bsr")
        & (table["metric"] == "mutual_disjoint_tau")
    ].iloc[0]
    taus = []
    for seed in (0, 1):
        name = f"runs/cut/scores/qwen2/bt-bsr/seed-{seed}/mutual_disjoint.parquet"
        groups = pd.read_parquet(finished / name).groupby("prompt_id")
        taus.append(groups.apply(lambda g: kendalltau(g["reward"], g["gold"]).statistic).mean())
    assert row["value"] == pytest.approx(sum(taus) / 2, abs=1e-9)


@pytest.mark.slow
def test_scores_have_a_row_a_response_and_the_contract_s_columns(finished):
    run = finished / "runs/cut"
    for scenario in SCENARIOS:
        split = pd.read_parquet(run / f"splits/{scenario}.parquet")
        scores = pd.read_parquet(run / f"scores/llama/bt/seed-0/{scenario}.parquet")
        assert list(scores["response_id"]) == list(split["response_id"])
        assert list(scores.columns) == [
            "prompt_id",
            "response_id",
            "response_model",
            "reward",
            "gold",
            "hidden_norm",
            "n_tokens",
        ]


@pytest.mark.slow
def test_nothing_is_left_to_do_and_what_is_left_of_work_takes_no_space(finished):
    answer = snakemake(finished, "-n", *DEMO, "--", "all")
    assert "Nothing to be done" in answer.stderr + answer.stdout
    files = [path for path in (finished / "runs/cut/work").rglob("*") if path.is_file()]
    assert {path.parent.name for path in files if path.name != "identity.json"} == {"final"}
    # Second names of the published files.
    assert all(path.stat().st_nlink == 2 for path in files if path.parent.name == "final")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "seen"),
    [
        (
            ["reward_models/qwen2", "scores/qwen2", "results"],
            "work/reward_models/qwen2/*/seed-1/checkpoint-*/complete",
        ),
        (
            ["policies/large-bt", "policy_gold/large-bt.parquet", "results"],
            "work/policies/*/seed-0/checkpoint-*/complete",
        ),
        (["alpaca_eval/annotations.parquet", "results"], "work/alpaca_eval/answers.jsonl"),
    ],
)
def test_a_killed_workflow_goes_on_to_the_same_bits(finished, tmp_path, lost, seen):
    """kill -9 of Snakemake and all its jobs in the middle of long work, then the same again.

    On one core, where the finished run had two.
    """
    folder = tmp_path / "killed"
    shutil.copytree(finished, folder, symlinks=True)
    shutil.rmtree(folder / "results")
    for path in [folder / "runs/cut" / name for name in (*lost, "work")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    arguments = ["--cores", "1", *DEMO]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        command(*arguments, "--", "all"),
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not list(folder.glob(f"runs/cut/{seen}")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)
    assert snakemake(folder, "--unlock", *arguments, "--", "all").returncode == 0
    answer = snakemake(folder, *arguments, "--", "all")
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert csvs(folder) == csvs(finished)


@pytest.mark.slow
def test_an_edit_plans_exactly_what_it_touches(finished):
    """A hinge margin touches no model of this grid, a BSR weight only those of bt-bsr."""

    def planned(changes, section="reward_models"):
        (finished / "edit.yaml").write_text(yaml.safe_dump({section: changes}))
        answer = snakemake(finished, "-n", *DEMO, "edit.yaml", "--", "all")
        assert answer.returncode == 0, answer.stderr
        lines = (answer.stdout + answer.stderr).splitlines()
        return {p[0]: int(p[1]) for p in map(str.split, lines) if len(p) == 2 and p[1].isdigit()}

    hinge = planned({"objectives": {"bt-hinge": {"margin": 2.0}}})
    assert not any(name.startswith("reward_models") for name in hinge)
    bsr = planned({"objectives": {"bt-bsr": {"weight": 0.01}}})
    assert bsr["reward_models_0"] == 2 and bsr["table5"] == 1 and "table4" not in bsr
    assert bsr["measure_scenarios_0_1"] == bsr["measure_scenarios_rm_bench_ranks_0_1"] == 1
    assert bsr["rloo_0"] == 2 and "measure_rm_bench_0_1" not in bsr
    assert "backbone" not in bsr and "splits" not in bsr
    # What is measured reads models again, and trains none.
    ranks = {"measure_scenarios_rm_bench_ranks_0_1": 2, "table1": 1, "claims": 1, "index": 1}
    found = planned({"rows": [16, 32]}, "ranks")
    assert {rule: found[rule] for rule in ranks} == ranks
    more = planned({"objectives": ["bt", "bt-bsr", "bt-bsr@1e-2", "bt-hinge"]}, "rm_bench")
    trained = planned({"batch_tokens": 4096}, "scoring")
    for edit in (found, trained):
        assert not {"reward_models_0", "rloo_0", "backbone"} & edit.keys()
    assert more["reward_models_0"] == 1  # of an objective that was not there
    assert planned({"epochs": 2})["reward_models_0"] == 5


@pytest.mark.slow
def test_another_preset_does_not_take_this_one_s_results_for_its_own(finished):
    (finished / "other.yaml").write_text(yaml.safe_dump({"preset": "other"}))
    answer = snakemake(finished, "-n", *DEMO, "other.yaml", "--", "results/table5.csv")
    assert "runs/other/results/table5.csv" in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("runs/demo/reward_models/lama/bt/seed-0/model.safetensors", ["'lama'", "'llama'?"]),
        (
            "runs/demo/reward_models/llama/bt-brs/seed-0/model.safetensors",
            ["'bt-brs'", "'bt-bsr'?"],
        ),
        ("runs/demo/reward_models/llama/bt@1/seed-0/model.safetensors", ["bt@1", "bt-bsr@"]),
        ("runs/demo/scores/lama/bt/seed-0/in_domain.parquet", ["'lama'", "'llama'?"]),
    ],
)
def test_a_target_that_does_not_exist_is_refused_in_one_line(tmp_path, target, words):
    folder = clone(tmp_path)
    answer = snakemake(folder, "--cores", "1", "--", target)
    assert answer.returncode == 2, answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if "error" in line]
    assert all(word in line for word in words), line
    assert not (folder / "runs").exists() and not (folder / "results").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{reward_models: {learning_rte: 1}}", ["learning_rte", "unknown key"]),
        ("{splits: {train_prompt: 5}}", ["train_prompt", "train_prompts"]),
        ("{reward_models: {epochs: -1}}", ["reward_models.epochs", "-1"]),
        ("{grid: {objectives: [bt, bt-hing]}}", ["bt-hing", "bt-hinge"]),
        (
            "{sources: {real: {kind: local, path: /no/such, repository: x, commit: "
            f"{'a' * 40}, files: [a]}}}}}}",
            ["sources.real.path", "/no/such", "exists"],
        ),
    ],
)
def test_a_bad_config_is_refused_in_one_line(tmp_path, text, words):
    folder = clone(tmp_path)
    (folder / "bad.yaml").write_text(text)
    answer = snakemake(folder, "--cores", "1", "--configfile", "bad.yaml", "--", "all")
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if "error" in line]
    assert len(lines) == 1 and all(word in lines[0] for word in words), lines
    assert not (folder / "runs").exists() and not (folder / "results").exists()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system on a folder, which root can fill, or not write if it is read-only."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_run_folder_is_refused_before_anything_runs(tmp_path):
    folder = clone(tmp_path)
    runs = folder / "runs"
    runs.mkdir()
    with mounted(runs, "ro"):
        answer = snakemake(folder, "--cores", "1", "--", "all")
    assert answer.returncode == 2
    assert "error: runs: found a folder that cannot be written" in answer.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "size=400k"):
        yield disk


def rm_robustness(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = "from rm_robustness.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def refused(answer: subprocess.CompletedProcess[str]) -> str:
    """The one line of an exit with status 2."""
    assert answer.returncode == 2, answer.stderr[-2000:]
    assert "Traceback" not in answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if "error:" in line]
    return line


def test_a_full_disk_leaves_nothing_half_written(small_disk):
    settings = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    source, drawn = settings["sources"]["world"], settings["responses"]
    drawn = {k: v for k, v in drawn.items() if k not in ("source", "generate")}
    text = json.dumps({**source, **drawn, "prompts": 6000})
    line = refused(
        rm_robustness("responses", "--settings", text, "--output", small_disk / "responses.parquet")
    )
    assert "No space left on device" in line
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("full", ["work", "output"])
def test_a_training_on_a_full_disk_publishes_nothing(full, small_disk, tmp_path, llama, splits):
    """The checkpoints do not fit, or the finished model does not."""
    folders = {"work": tmp_path / "work", "output": tmp_path / "models"}
    folders[full] = small_disk / full
    if full == "output":
        (small_disk / "ballast").write_bytes(os.urandom(380_000))
    line = refused(
        rm_robustness(
            "train",
            "--settings",
            json.dumps(training_settings()),
            "--backbone",
            llama,
            "--train",
            splits / "train.parquet",
            "--held-out",
            splits / "in_domain.parquet",
            "--seeds",
            0,
            "--work",
            folders["work"],
            "--output",
            folders["output"],
        )
    )
    assert "No space left" in line or "cannot write" in line
    assert not list(folders["output"].rglob("model.safetensors"))
