"""Faults of the hub, of repositories and of models: one line and nothing written, then the rest.

The product's own commands on stand-ins of the paper's models and data. What tests/data has of a
download on the same path is not here: a model's commit, its sums, a shard cut short, a kill.
"""

import json
import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from support.hub import COMMIT, run, serve
from transformers import AutoTokenizer

from rehearsal import data, models
from rehearsal.hub import Hub, Repository
from rm_robustness.data.alpaca_eval import read_baseline
from rm_robustness.data.sources import read_chats
from rm_robustness.files import hashes, read_json
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models import chat
from rm_robustness.models.generate import generate
from rm_robustness.models.reward_model import initialise, save

pytestmark = pytest.mark.slow
ULTRAFEEDBACK, ULTRACHAT = "openbmb/UltraFeedback", "HuggingFaceH4/ultrachat_200k"
SKYWORK = "Skywork/Skywork-Reward-Preference-80K-v0.2"
ALPACA_EVAL = "tatsu-lab/alpaca_eval"
MISTRAL, OLMO = "mistralai/Mistral-7B-Instruct-v0.2", "allenai/OLMo-2-1124-7B-Instruct"
SMOLLM, LLAMA = "HuggingFaceTB/SmolLM2-1.7B-Instruct", "meta-llama/Llama-3.2-1B"
ARMORM = "RLHFlow/ArmoRM-Llama3-8B-v0.1"
READERS = {ULTRAFEEDBACK: "responses", ULTRACHAT: "chats", SKYWORK: "preferences"}
SPLITS = {ULTRACHAT: "train_sft", ALPACA_EVAL: None}
SHARD = "train_sft-00001-of-00002.parquet"
DOWN = 3600.0  # seconds, until a test ends it


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The stand-ins that these tests need, by repository."""
    root = tmp_path_factory.mktemp("stand-ins")
    found = {}
    for repo in (*READERS, ALPACA_EVAL):
        found[repo] = root / "datasets" / repo
        found[repo].mkdir(parents=True)
        data.DATASETS[repo](found[repo])
    for repo in (MISTRAL, OLMO, SMOLLM, LLAMA, ARMORM):
        found[repo] = root / repo
        models.build(repo, found[repo])
    return found


@pytest.fixture
def hub(folders):
    pages = {f"datasets/{repo}": folders[repo] for repo in (*READERS, ALPACA_EVAL)}
    with serve({**pages, MISTRAL: folders[MISTRAL], SMOLLM: folders[SMOLLM]}) as server:
        yield server


def section(repo: str, **more: Any) -> str:
    """The settings of a repository."""
    return json.dumps({"kind": "hub", "repo": repo, "revision": COMMIT, **more})


def read(hub: Hub, folder: Path, repo: str, **more: Any) -> CompletedProcess[str]:
    """Read a data set into `folder`/out."""
    settings = section(repo, **{"split": SPLITS.get(repo, "train"), **more})
    if repo == ALPACA_EVAL:
        command = ["instructions", "--settings", settings, "--output", "out"]
    else:
        name = READERS[repo]
        command = [name, "--settings", settings, "--output", f"out/{name}.parquet"]
    return run(hub, folder, *command, "--patience", "0")


def refused(done: CompletedProcess[str], folder: Path) -> str:
    """The one line of a command that was refused and wrote nothing into `folder`/out."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert not list((folder / "out").glob("*"))
    (line,) = [line for line in done.stderr.splitlines() if "rm-robustness: error: " in line]
    return line


# --- repositories ---


@pytest.mark.parametrize("repo", [ULTRACHAT, ALPACA_EVAL])
def test_another_commit_is_named_with_its_repository(hub, tmp_path, repo):
    line = refused(read(hub, tmp_path, repo, revision="d" * 40), tmp_path)
    assert repo in line and "d" * 40 in line


def test_a_repository_with_pickles_alone_is_refused(hub, folders, tmp_path):
    pickles = tmp_path / "repository"
    shutil.copytree(folders[MISTRAL], pickles, ignore=shutil.ignore_patterns("*.safetensors"))
    assert list(pickles.glob("*.bin"))
    hub.repositories[MISTRAL] = Repository(pickles, COMMIT)
    done = run(hub, tmp_path, "pretrained", "--settings", section(MISTRAL), "--output", "out")
    assert f"{MISTRAL} at {COMMIT}: found no safetensors" in refused(done, tmp_path)
    assert hub.fetched() == []


@pytest.mark.parametrize(
    ("repo", "column"),
    [(ULTRAFEEDBACK, "instruction"), (ULTRACHAT, "messages"), (SKYWORK, "chosen")],
)
def test_a_column_with_another_name_is_named(hub, folders, tmp_path, repo, column):
    changed = tmp_path / "repository"
    shutil.copytree(folders[repo], changed)
    for path in changed.rglob("*.jsonl"):
        path.write_text(path.read_text().replace(f'"{column}":', '"renamed":'))
    for path in changed.rglob("*.parquet"):
        table = pq.read_table(path)
        names = ["renamed" if name == column else name for name in table.column_names]
        pq.write_table(table.rename_columns(names), path)
    hub.repositories[f"datasets/{repo}"] = Repository(changed, COMMIT)
    line = refused(read(hub, tmp_path, repo), tmp_path)
    assert repo in line and "'renamed'" in line and f"also the columns ['{column}']" in line


# --- the way from the hub ---


def test_a_damaged_shard_is_refused_and_one_cut_short_is_taken_up(
    hub, folders, tmp_path, monkeypatch
):
    hub.damaged.add(SHARD)
    line = refused(read(hub, tmp_path, ULTRACHAT), tmp_path)
    assert f"{ULTRACHAT} at {COMMIT}: data/{SHARD}: found sum " in line
    hub.damaged.clear()
    hub.cut[SHARD] = 2000
    done = read(hub, tmp_path, ULTRACHAT)
    assert done.returncode == 0, done.stderr
    assert f"{SHARD} ended after 2000 of " in hub.faults[-1]
    assert "train_sft-00000-of-00002.parquet" not in hub.fetched()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    local = {"kind": "hub", "repo": str(folders[ULTRACHAT]), "revision": COMMIT}
    expected = read_chats({**local, "split": "train_sft"})
    pd.testing.assert_frame_equal(
        pd.DataFrame(expected["messages"].tolist()),
        pd.DataFrame(read_frame(tmp_path / "out/chats.parquet")["messages"].tolist()),
    )


def test_a_damaged_file_is_refused_and_fetched_again(hub, folders, tmp_path):
    name = "alpaca_eval_gpt4_baseline.json"
    hub.damaged.add(name)
    line = refused(read(hub, tmp_path, ALPACA_EVAL), tmp_path)
    assert f"{ALPACA_EVAL} at {COMMIT}: {name}: found sum " in line
    hub.damaged.clear()
    done = read(hub, tmp_path, ALPACA_EVAL)
    assert done.returncode == 0, done.stderr
    frame = read_frame(tmp_path / "out/instructions.parquet")
    pd.testing.assert_frame_equal(frame, read_baseline(folders[ALPACA_EVAL] / name))


def test_a_model_is_fetched_to_its_end_after_the_hub_was_down(hub, folders, tmp_path):
    shard = "model-00002-of-00003.safetensors"
    hub.goes_down[shard] = DOWN
    command = ["pretrained", "--settings", section(MISTRAL), "--output", "out"]
    done = run(hub, tmp_path, *command, "--patience", "0")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "rm-robustness: error: " in line]
    assert f"{MISTRAL} at {COMMIT}" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f".{COMMIT}.part"]
    whole = {path.name for path in (tmp_path / f"out/.{COMMIT}.part").iterdir()}
    assert "model-00001-of-00003.safetensors" in whole and shard not in whole
    hub.down_until = 0.0
    done = run(hub, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert shard in hub.fetched() and not whole & set(hub.fetched())
    assert hashes(tmp_path / "out/model").items() < hashes(folders[MISTRAL]).items()


def test_a_command_waits_for_a_hub_that_is_down(hub, tmp_path):
    hub.goes_down["model-00001-of-00003.safetensors"] = 8.0
    done = run(hub, tmp_path, "pretrained", "--settings", section(MISTRAL), "--output", "out")
    assert done.returncode == 0, done.stderr
    assert re.search(
        rf"^{MISTRAL} at {COMMIT}: nothing to fetch .*; again in 1 s$", done.stderr, re.MULTILINE
    )


def test_a_data_set_is_read_to_its_end_after_the_hub_was_down(hub, tmp_path):
    hub.goes_down[SHARD] = DOWN
    line = refused(read(hub, tmp_path, ULTRACHAT), tmp_path)
    assert f"{ULTRACHAT} at {COMMIT}" in line
    hub.down_until = 0.0
    done = read(hub, tmp_path, ULTRACHAT)
    assert done.returncode == 0, done.stderr
    assert SHARD in hub.fetched() and "train_sft-00000-of-00002.parquet" not in hub.fetched()
    assert len(read_frame(tmp_path / "out/chats.parquet")) == data.CHATS


# --- models ---


def options(model: Path, kind: str = "transformers", **more: Any) -> dict[str, Any]:
    """Settings of a generation."""
    served = {"serve": True, "serve_arguments": ["--enforce-eager"]} if kind == "vllm" else {}
    greedy = {"dtype": "float32", "temperature": 0, "max_new_tokens": 8}
    return {"kind": kind, "name": "tiny", "model": str(model), **greedy, **served, **more}


def respond(
    hub: Hub, folder: Path, prompts: list[str], settings: dict[str, Any]
) -> CompletedProcess[str]:
    """Generate responses to prompts into `folder`/out/tiny.parquet."""
    ids = [f"e{number}" for number in range(len(prompts))]
    write_frame(pd.DataFrame({"example_id": ids, "prompt": prompts}), folder / "prompts.parquet")
    words = ["generate", "--settings", json.dumps(settings), "--prompts", "prompts.parquet"]
    return run(hub, folder, *words, "--output", "out/tiny.parquet")


def test_a_pad_that_is_the_eos_is_refused_for_a_backbone(hub, tmp_path):
    """For generation such a tokenizer is fine: test_kills.py has one."""
    words = ["pretrained", "--settings", section(SMOLLM), "--output", "got"]
    assert run(hub, tmp_path, *words).returncode == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "got/model")
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    own = {"template": None, "eos": tokenizer.eos_token, "pad": tokenizer.pad_token}
    settings = {"init": json.loads(section(SMOLLM)), "chat": own, "keep_layers": None, "sft": None}
    words = ["backbone", "--settings", json.dumps(settings), "--work", "work", "--output", "out"]
    line = refused(run(hub, tmp_path, *words, "--pretrained", "got/manifest.json"), tmp_path)
    assert "chat.pad: found '<|im_end|>', the EOS; expected another token" in line


def test_a_model_without_a_chat_template_is_refused_before_a_server_starts(hub, folders, tmp_path):
    done = respond(hub, tmp_path, ["Why?"], options(folders[LLAMA], "vllm"))
    assert f"{folders[LLAMA]}: found no chat template" in refused(done, tmp_path)
    assert "APIServer" not in done.stderr


def test_a_prompt_beyond_the_context_is_refused_or_left_out(hub, folders, tmp_path):
    long = next(row for row in ultrafeedback(folders) if len(row.split()) == data.TOO_LONG)
    prompts = ["Why?", "How?", long, "Which one?"]
    done = respond(hub, tmp_path, prompts, options(folders[OLMO], "vllm"))
    line = refused(done, tmp_path)
    assert "prompt 2: found " in line and "expected at most 4088 (the context of " in line
    assert "responses.generate.max_left_out" in line and "APIServer" not in done.stderr
    done = respond(hub, tmp_path, prompts, options(folders[OLMO], max_left_out=0.25))
    assert done.returncode == 0, done.stderr
    frame = read_frame(tmp_path / "out/tiny.parquet")
    assert frame["example_id"].tolist() == ["e0", "e1", "e3"]
    ((row, why),) = read_json(tmp_path / "out/tiny.record.json")["left_out"].items()
    assert row == "e2" and "expected at most 4088" in why


def ultrafeedback(folders: dict[str, Path]) -> list[str]:
    """The prompts of UltraFeedback's stand-in."""
    files = folders[ULTRAFEEDBACK].glob("*.jsonl")
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return [row["instruction"] for row in rows]


def test_an_answer_that_never_ends_is_cut_and_gold_and_scores_take_it(
    hub, folders, tmp_path, monkeypatch
):
    endless = models.MODELS[SMOLLM]._replace(likely=None)
    monkeypatch.setitem(models.MODELS, SMOLLM, endless)
    models.build(SMOLLM, tmp_path / "endless")
    prompts = ["Why?", "Which one is better?", "Name a tree."]
    settings = options(tmp_path / "endless")
    done = respond(hub, tmp_path, prompts, settings)
    assert done.returncode == 0, done.stderr
    frame = read_frame(tmp_path / "out/tiny.parquet")
    assert not frame["finished"].any()
    longer = generate(prompts, settings | {"max_new_tokens": 12})
    for cut, text in zip(frame["response"], longer, strict=True):
        cut = cut.rstrip("\ufffd")  # half of a character
        assert cut and text.startswith(cut) and len(text) > len(cut)

    gold = {"kind": "model", "model": str(folders[ARMORM]), "dtype": "float32"}
    words = ["gold", "--settings", json.dumps({**gold, "batch_tokens": 0})]
    words += ["--responses", "out/tiny.parquet", "--output", "gold.parquet"]
    done = run(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    labelled = read_frame(tmp_path / "gold.parquet")
    assert np.isfinite(labelled["gold"]).all() and len(labelled) == len(prompts)

    split = labelled.rename(columns={"example_id": "prompt_id"})
    write_frame(split.assign(response_id=split["prompt_id"]), tmp_path / "split.parquet")
    paper = yaml.safe_load(Path("config/paper.yaml").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folders[LLAMA])
    chat.prepare(tokenizer, paper["backbones"]["Llama-3.2-1B"]["chat"], LLAMA)
    model = initialise(folders[LLAMA], seed=0)
    save(model, tokenizer, tmp_path / "reward-model")
    words = ["score", "--model", "reward-model", "--data", "split.parquet"]
    done = run(hub, tmp_path, *words, "--output", "scores.parquet")
    assert done.returncode == 0, done.stderr
    assert np.isfinite(read_frame(tmp_path / "scores.parquet")["reward"]).all()
