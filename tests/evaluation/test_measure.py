"""One job measures all of a reward model: the same bytes as by parts, and whole or not at all."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

from rm_robustness.cli.main import main
from rm_robustness.data.rm_bench import responses
from rm_robustness.data.splits import COLUMNS
from rm_robustness.evaluation import measure as measuring
from rm_robustness.files import read_json, sha256
from rm_robustness.models import score_log, scoring
from rm_robustness.models.reward_model import initialise, save

SETTINGS = {"batch_tokens": 512, "dtype": "float32", "ranks": {"rows": [4, 8], "seed": 5}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "rm_bench.parquet"
    source = {"kind": "synthetic", "seed": 1, "subtle_prompts": 1}
    responses(source, path.parent).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def models(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reward models of seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("models") / "llama/bt"
    for seed in (0, 1):
        model = initialise(llama, seed)
        for layer in model.base_model.layers:  # other hidden states, not another head alone
            layer.mlp.down_proj.weight.data.mul_(1 + 3 * seed)
        save(model, AutoTokenizer.from_pretrained(llama), folder / f"seed-{seed}")
    return folder


@pytest.fixture
def job(models, splits, bench, tmp_path):
    """The command on both seeds: a scenario, RM-Bench, and the ranks."""

    def command(*data: Path, settings=SETTINGS) -> list[str]:
        data = data or (splits / "in_domain.parquet", bench)
        words = ["measure", "--settings", json.dumps(settings), "--models", models, "--seeds", 0, 1]
        words += ["--data", *data, "--ranks", splits / "train.parquet", bench]
        return [str(word) for word in [*words, "--output", tmp_path / "scores", tmp_path / "ranks"]]

    return command


def written(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in files)


def test_everything_of_a_model_is_measured_and_recorded(job, models, splits, bench, tmp_path):
    main(job())
    here = [f"seed-{seed}/{name}" for seed in (0, 1) for name in ("in_domain", "rm_bench")]
    assert written(tmp_path / "scores") == sorted(
        [*(f"{name}.parquet" for name in here), "seed-0/record.json", "seed-1/record.json"]
    )
    assert written(tmp_path / "ranks") == sorted(
        f"seed-{seed}{end}" for seed in (0, 1) for end in (".parquet", ".record.json")
    )
    for seed in (0, 1):
        weights = str(models / f"seed-{seed}/model.safetensors")
        scores, ranks = tmp_path / f"scores/seed-{seed}", tmp_path / f"ranks/seed-{seed}"
        recorded = read_json(scores / "record.json")
        scoring = {name: value for name, value in SETTINGS.items() if name != "ranks"}
        assert (recorded["seed"], recorded["settings"]) == (seed, scoring)
        read = {weights, str(bench), str(splits / "in_domain.parquet")}
        assert recorded["inputs"].keys() == read
        assert recorded["files"] == {
            f"{name}.parquet": sha256(scores / f"{name}.parquet")
            for name in ("in_domain", "rm_bench")
        }
        recorded = read_json(ranks.with_suffix(".record.json"))
        assert recorded["seed"] == seed
        assert recorded["inputs"].keys() == {weights, str(bench), str(splits / "train.parquet")}
        assert recorded["files"] == {f"seed-{seed}.parquet": sha256(ranks.with_suffix(".parquet"))}


def test_the_scores_are_those_of_the_command_score(job, models, splits, bench, tmp_path):
    main(job())
    output = tmp_path / "alone.parquet"
    words = ["score", "--model", models / "seed-1", "--batch-tokens", 512, "--data", bench]
    main([str(word) for word in [*words, "--output", output]])
    assert output.read_bytes() == (tmp_path / "scores/seed-1/rm_bench.parquet").read_bytes()
    first, second = (pd.read_parquet(tmp_path / f"ranks/seed-{seed}.parquet") for seed in (0, 1))
    assert not first.equals(second)


def test_preferences_of_one_s_own_are_scored_as_the_same_texts_in_a_split(models, tmp_path, capsys):
    """Conversations with a system turn; the score file keeps its columns."""
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "count"}]
    sides = {
        name: [*asked, {"role": "assistant", "content": text}]
        for name, text in (("chosen", "one two"), ("rejected", "two"))
    }
    own, split = tmp_path / "own.jsonl", tmp_path / "split.parquet"
    own.write_text(json.dumps({"id": "a"} | sides))
    cells = [["a", f"a-{name}", "count", sides[name][2]["content"], name] for name in sides]
    frame = pd.DataFrame(cells, columns=COLUMNS[:5]).assign(gold=[1.0, 0.0])
    frame.assign(earlier=[asked[:1]] * 2).to_parquet(split)
    outputs = [tmp_path / "scores/own.parquet", tmp_path / "scores/split.parquet"]
    words = ["score", "--model", models / "seed-1", "--data", own, split, "--output", *outputs]
    main([str(word) for word in words])
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert str(own) in read_json(tmp_path / "scores/record.json")["inputs"]
    for output in outputs:
        output.unlink()
    own.write_text(json.dumps({"id": "a"} | sides | {"rejected": None}))
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in words])
    assert "own.jsonl, line 1: found rejected None; expected a text" in capsys.readouterr().err
    assert not any(output.exists() for output in outputs)


def test_each_model_is_loaded_once_after_every_set_was_read(job, splits, tmp_path, monkeypatch):
    loaded, load = [], measuring.load
    monkeypatch.setattr(
        measuring, "load", lambda folder, dtype: loaded.append(folder.name) or load(folder, dtype)
    )
    broken = pd.read_parquet(splits / "mutual_disjoint.parquet")
    broken.loc[3, "response"] = " "
    broken.to_parquet(tmp_path / "mutual_disjoint.parquet")
    with pytest.raises(SystemExit, match="2"):
        main(job(splits / "in_domain.parquet", tmp_path / "mutual_disjoint.parquet"))
    assert loaded == [] and not (tmp_path / "ranks").exists()
    assert written(tmp_path / "scores") == []
    main(job())
    assert loaded == ["seed-0", "seed-1"]


def test_a_job_killed_at_its_second_model_scores_none_again(job, tmp_path, monkeypatch, capfd):
    """Snakemake has deleted what the killed job had written."""
    monkeypatch.setattr(score_log, "EVERY", 0)
    main(job())
    whole = {path: (tmp_path / path).read_bytes() for path in written(tmp_path)}
    ranks, score, pooled = measuring.rank_curve, measuring.score_plan, scoring._pooled
    curves, scored = [], []

    def killed(*arguments):
        curves.append(arguments)
        if len(curves) == 3:  # after two sets of the first model
            os.kill(os.getpid(), signal.SIGTERM)
        return ranks(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "rank_curve", killed)
        with pytest.raises(SystemExit, match="75"):
            main(job())
    for path in [path for path in whole if "record" not in path]:
        (tmp_path / path).unlink(missing_ok=True)

    def observed(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(scoring, "_pooled", lambda *of: scored.append(of) or pooled(*of))
            return score(*arguments)

    monkeypatch.setattr(measuring, "score_plan", observed)
    main(job())
    assert scored == []
    files = [path for path in whole if path.endswith(".parquet")]
    assert {path: (tmp_path / path).read_bytes() for path in files} == {
        path: whole[path] for path in files
    }
    assert written(tmp_path) == sorted(whole)


def test_a_folder_too_few_is_refused(job, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(job()[:-1])
    assert "--output: found 1 folders; expected one; two with --ranks" in capsys.readouterr().err
