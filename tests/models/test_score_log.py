"""Gold and scores go on after SIGTERM and kill -9, to the bytes of a run that was not stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from rm_robustness.cli.main import main
from rm_robustness.errors import InputError
from rm_robustness.files import read_json
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models import armorm, score_log
from rm_robustness.models.reward_model import initialise, save
from rm_robustness.models.score_log import ScoreLog

# A process that gets a signal, or kills itself, as its third batch is added to the log.
KILLED = """
import os, sys
from rm_robustness.models import score_log
score_log.EVERY, add, batches = 0, score_log.ScoreLog.add, []
def counted(log, rows, values):
    add(log, rows, values)
    batches.append(rows)
    if len(batches) == 3:
        os.kill(os.getpid(), 9)
score_log.ScoreLog.add = counted
from rm_robustness.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def gold_command(tmp_path_factory):
    """`gold` with a random ArmoRM on responses of 1 to 12 words, without its --output."""
    folder = tmp_path_factory.mktemp("gold")
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = armorm.ArmoRM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("model."):
                parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(folder / "model")
    special = ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "\n\n"]
    words = ["[UNK]", *special, "user", "assistant", "why", "a", "b"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed")])
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    tokenizer.chat_template = (
        "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    )
    tokenizer.save_pretrained(folder / "model")
    rows = [("why", " ".join("ab"[(n + i) % 2] for i in range(n % 12 + 1))) for n in range(60)]
    frame = pd.DataFrame(rows, columns=["prompt", "response"])
    frame = frame.assign(example_id=[str(n) for n in range(60)], response_model="m")
    write_frame(frame, folder / "responses.parquet")
    settings = {"kind": "model", "model": str(folder / "model"), "dtype": "float32"}
    settings |= {"batch_tokens": 64, "max_left_out": 0.05}
    command = ["gold", "--settings", json.dumps(settings)]
    return [*command, "--responses", str(folder / "responses.parquet"), "--output"]


@pytest.fixture(scope="module")
def score_command(llama, splits, tmp_path_factory):
    """`score` with a random head on two scenarios, without its --output."""
    folder = tmp_path_factory.mktemp("reward-model")
    save(initialise(llama, seed=1), AutoTokenizer.from_pretrained(llama), folder)
    data = [str(splits / f"{name}.parquet") for name in ("in_domain", "mutual_disjoint")]
    return ["score", "--model", str(folder), "--batch-tokens", "128", "--data", *data, "--output"]


@pytest.fixture(params=["gold", "score"])
def job(request, tmp_path):
    """A command with its outputs, and what they are when nothing stops it."""
    names = {"gold": ["gold.parquet"], "score": ["a.parquet", "b.parquet"]}[request.param]
    command = request.getfixturevalue(f"{request.param}_command")
    whole = [tmp_path / "whole" / name for name in names]
    main([*command, *map(str, whole)])
    outputs = [tmp_path / "job" / name for name in names]
    return [*command, *map(str, outputs)], outputs, [path.read_bytes() for path in whole]


def batches(monkeypatch, stop_at=0):
    """Count the batches that are scored; at one of them, send this process SIGTERM."""
    scored, add = [], ScoreLog.add

    def counted(log, rows, values):
        add(log, rows, values)
        scored.append(rows)
        if len(scored) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ScoreLog, "add", counted)
    return scored


def left_files(outputs):
    return sorted(path.name for path in outputs[0].parent.iterdir() if path not in outputs)


def test_a_job_that_is_not_stopped_leaves_no_log(job, monkeypatch):
    command, outputs, whole = job
    written = []
    monkeypatch.setattr(ScoreLog, "write", lambda log: written.append(log.path))
    main(command)
    assert [path.read_bytes() for path in outputs] == whole
    assert written == []
    assert len(left_files(outputs)) == 1  # the record


def test_after_sigterm_the_same_command_goes_on_to_the_same_bytes(job, monkeypatch, capsys):
    command, outputs, whole = job
    with monkeypatch.context() as patch:
        before = batches(patch, stop_at=3)
        with pytest.raises(SystemExit) as end:
            main(command)
    assert end.value.code == 75
    assert "the same command resumes it" in capsys.readouterr().err
    assert not outputs[0].exists()
    with monkeypatch.context() as patch:
        after = batches(patch)
        main(command)
    assert len(before) == 3
    # Rows of the second split may have the numbers of the first one's.
    assert not [rows for rows in before if rows in after[: len(after) // 2]]
    assert [path.read_bytes() for path in outputs] == whole
    assert len(left_files(outputs)) == 1


def test_after_kill_9_the_same_command_goes_on_to_the_same_bytes(job, monkeypatch):
    command, outputs, whole = job
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    log = outputs[0].with_suffix(".jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 3
    log.write_bytes(b"".join(lines)[:-7])  # as if killed while it wrote
    main(command)
    assert [path.read_bytes() for path in outputs] == whole
    assert len(left_files(outputs)) == 1


def test_scores_of_other_inputs_settings_or_weights_are_not_mixed_in(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(score_log, "EVERY", 0)
    (tmp_path / "data").write_text("a")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("a")

    def log(settings=None):
        model = tmp_path / "model"
        return ScoreLog(tmp_path / "out.parquet", settings or {}, [tmp_path / "data"], model)

    values = np.array([[1 / 3, -0.0], [np.nan, 1e-300]])
    for change in ("settings", "data", "model/weights", "code"):
        log().remove()
        log().add([4, 2], values)
        np.testing.assert_array_equal([log().done[4], log().done[2]], values)
        if change == "settings":
            other = log({"batch_tokens": 1})
        elif change == "code":
            monkeypatch.setattr(score_log, "code", lambda: "other")
            other = log()
        else:
            (tmp_path / change).write_text("other")
            other = log()
        assert other.done == {}
        assert "of other inputs, settings or code, removed" in capsys.readouterr().err


def test_a_write_that_was_interrupted_is_done_again(tmp_path, monkeypatch):
    log = ScoreLog(tmp_path / "out.parquet", {}, [], None)
    append, calls = score_log.append_entries, []

    def torn(path, entries):
        append(path, entries)
        calls.append(entries)
        if len(calls) == 3:  # header, first scores, and these
            os.truncate(path, path.stat().st_size - 5)
            raise KeyboardInterrupt

    monkeypatch.setattr(score_log, "append_entries", torn)
    monkeypatch.setattr(score_log, "EVERY", 0)
    with pytest.raises(KeyboardInterrupt), log:
        log.add([0], np.array([[1.0]]))
        log.add([1], np.array([[2.0]]))
    assert ScoreLog(tmp_path / "out.parquet", {}, [], None).done == {0: [1.0], 1: [2.0]}


def test_a_broken_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(score_log, "EVERY", 0)
    log = ScoreLog(tmp_path / "out.parquet", {}, [], None)
    log.add([0], np.array([[1.0]]))
    with log.path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match=r"out\.jsonl line 3: found .*; remove .*out\.jsonl"):
        ScoreLog(tmp_path / "out.parquet", {}, [], None)


def test_chats_too_long_for_the_gold_model_are_left_out_and_recorded(gold_command, tmp_path):
    responses, output = gold_command[-2], tmp_path / "gold.parquet"
    rows = read_frame(Path(responses))
    rows.loc[7, "response"] = "a " * 40
    write_frame(rows, tmp_path / "responses.parquet")
    command = [*gold_command[:-2], str(tmp_path / "responses.parquet"), "--output", str(output)]
    main(command)
    gold = read_frame(output)
    assert gold["example_id"].tolist() == [str(n) for n in range(60) if n != 7]
    (left_out,) = read_json(tmp_path / "gold.record.json")["left_out"]
    assert (left_out["example_id"], left_out["response_model"]) == ("7", "m")
    assert "found a chat of 5" in left_out["why"]
    main([*gold_command[:-2], responses, "--output", str(tmp_path / "all.parquet")])
    expected = read_frame(tmp_path / "all.parquet").drop(index=7)["gold"].to_numpy()
    np.testing.assert_allclose(gold["gold"], expected, rtol=1e-5)
    rows.loc[8:12, "response"] = "a " * 40
    write_frame(rows, tmp_path / "responses.parquet")
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2
