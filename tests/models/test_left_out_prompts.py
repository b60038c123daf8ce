"""Prompts without a response: too long for a model, or refused by a server; and odd answers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from support.json_server import JsonHandler
from support.ten_words import frame_of, make_ten_words

from rehearsal import hub
from rm_robustness.cli.main import main
from rm_robustness.errors import InputError
from rm_robustness.files import read_json
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models.generate import complete, generate, generate_to, rendered, too_long

PROMPTS = [" ".join("abcdefgh"[: n % 8 + 1]) for n in range(40)]
LONG = "a " * 18  # fits 24 tokens, but leaves no room for 12 more


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_ten_words(tmp_path_factory.mktemp("model"))


def here(folder, **change):
    return {"kind": "transformers", "model": str(folder), "max_new_tokens": 12, **change}


# --- the model's own tokenizer and context ---


def test_a_prompt_that_does_not_fit_is_left_out_and_the_record_says_why(folder, tmp_path):
    prompts = frame_of([*PROMPTS, LONG])
    write_frame(prompts, tmp_path / "prompts.parquet")
    settings = here(folder, name="tiny", max_left_out=0.05)
    command = ["generate", "--settings", json.dumps(settings)]
    command += ["--prompts", str(tmp_path / "prompts.parquet"), "--output"]
    main([*command, str(tmp_path / "tiny.parquet")])
    frame = read_frame(tmp_path / "tiny.parquet")
    assert frame["example_id"].tolist() == [f"e{n}" for n in range(40)]
    assert frame["response"].tolist() == generate(PROMPTS, here(folder))
    record = read_json(tmp_path / "tiny.record.json")
    found = f"found 19 tokens; expected at most 12 (the context of {folder} less max_new_tokens)"
    assert record["left_out"] == {"e40": found}
    assert record["replaced_characters"] == 0


def test_more_than_the_share_is_an_error_before_anything_is_generated(folder, tmp_path):
    output = tmp_path / "out.parquet"
    for share, more in ((0.0, ", and 2 more of 43"), (0.05, ", and 2 more of 43")):
        settings = here(folder, max_left_out=share)
        with pytest.raises(InputError, match=rf"prompt 40: found 19 tokens{more}; .*{share:g}$"):
            generate_to(frame_of([*PROMPTS, LONG, LONG, LONG]), settings, output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "context"),
    [
        ([], 24),
        (["--max-model-len", "32"], 32),
        (["--max_model_len=16"], 16),
        (["--max-model-len", "16", "--max-model-len=32"], 32),
        (["--max-model-len", "auto"], 24),
    ],
)
def test_the_context_of_a_served_model_is_its_own_or_the_argument_s(folder, arguments, context):
    settings = here(folder, kind="vllm", serve=True, serve_arguments=arguments)
    prompts = [*PROMPTS, LONG]
    tokens = [len(prompt.split()) + 1 for prompt in prompts]
    expected = {row for row, number in enumerate(tokens) if number + 12 > context}
    assert set(too_long(rendered(prompts, complete(settings)), complete(settings))) == expected


def test_an_external_server_s_model_is_not_looked_for():
    settings = complete({"kind": "vllm", "model": "some/model", "base_url": "http://127.0.0.1:9"})
    assert too_long(rendered([LONG], settings), settings) == {}


# --- what a server refuses or sends ---


class Handler(JsonHandler, BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.body()
        prompt = body["messages"][0]["content"]
        self.server.asked.append(prompt)
        status = 200
        choice = {"index": 0, "finish_reason": "stop"}
        choice["message"] = {"role": "assistant", "content": prompt + "!"}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        reply["choices"] = [choice]
        if "too long" in prompt:
            status, reply = 400, {"error": {"message": "maximum context length is 16 tokens"}}
        if "emoji" in prompt:  # cut within a character; a whole one is a pair
            choice["message"]["content"] = "low \ude00, high \ud83d, whole \U0001f600 \ud83d"
        self.reply(status, reply)


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    with hub.serving(server):
        yield server


def served(port, **change):
    base_url = f"http://127.0.0.1:{port}/v1"
    return {"kind": "vllm", "model": "m", "base_url": base_url, "concurrency": 2, **change}


def test_a_refused_prompt_is_left_out_with_the_server_s_message(server, tmp_path):
    prompts = frame_of([*PROMPTS[:20], "too long", *PROMPTS[20:]])
    settings = served(server.server_port, max_left_out=0.05)
    facts = generate_to(prompts, settings, tmp_path / "out.parquet")
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["example_id"].tolist() == [f"e{n}" for n in range(41) if n != 20]
    assert frame["response"].tolist() == [prompt + "!" for prompt in PROMPTS]
    (reason,) = facts["left_out"].values()
    assert list(facts["left_out"]) == ["e20"]
    assert "HTTP 400 (" in reason
    assert "maximum context length is 16 tokens" in reason


def test_a_refused_prompt_is_not_asked_again_when_the_job_is_resumed(server, tmp_path, monkeypatch):
    settings = served(server.server_port, max_left_out=0.05, concurrency=1)
    output = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("rm_robustness.models.generate.write_frame", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate_to(frame_of(["too long", *PROMPTS]), settings, output)
    facts = generate_to(frame_of(["too long", *PROMPTS]), settings, output)
    assert list(facts["left_out"]) == ["e0"]
    assert len(server.asked) == 41


def test_a_server_that_refuses_more_than_the_share_is_soon_asked_no_more(server, tmp_path):
    prompts = frame_of([f"too long {n}" for n in range(400)])
    settings = served(server.server_port, max_left_out=0.01)
    with pytest.raises(InputError, match=r"HTTP 400 .*maximum context.* more of 400;.* 0\.01$"):
        generate_to(prompts, settings, tmp_path / "out.parquet")
    assert len(server.asked) < 20


def test_without_a_share_a_refused_prompt_is_an_error_that_says_what_to_do(server, tmp_path):
    settings = served(server.server_port)
    with pytest.raises(InputError, match=r"prompt 0: found HTTP 400 .*max_left_out") as caught:
        generate_to(frame_of(["too long"]), settings, tmp_path / "out.parquet")
    assert "same command" not in str(caught.value)


def test_half_characters_of_a_server_are_replaced_and_counted(server, tmp_path):
    prompts = frame_of(["emoji", "a"])
    facts = generate_to(prompts, served(server.server_port), tmp_path / "out.parquet")
    assert facts == {"left_out": {}, "replaced_characters": 3}
    responses = pd.read_parquet(tmp_path / "out.parquet")["response"].tolist()
    assert responses == ["low \ufffd, high \ufffd, whole \U0001f600 \ufffd", "a!"]


DYING = """
    import json, os, sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    asked = []
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            asked.append(prompt)
            if len(asked) > int(sys.argv[1]):
                os.kill(os.getpid(), 9)
            message = {"role": "assistant", "content": prompt + "!"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            data = json.dumps({"id": "1", "object": "chat.completion", "created": 0,
                               "model": "m", "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        def log_message(self, *_):
            pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def test_a_server_that_dies_midway_is_one_line_and_nothing_is_asked_twice(
    tmp_path, server, monkeypatch
):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    command = [sys.executable, "-c", textwrap.dedent(DYING), "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dying:
        port = int(dying.stdout.readline())
        settings = served(port, concurrency=1, retries=1)
        output, prompts = tmp_path / "out.parquet", frame_of(PROMPTS)
        with pytest.raises(
            InputError, match=r"prompt 7: found no connection .*same command"
        ) as end:
            generate_to(prompts, settings, output)
    assert dying.returncode == -signal.SIGKILL
    assert "\n" not in str(end.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    generate_to(prompts, {**settings, "base_url": served(server.server_port)["base_url"]}, output)
    assert server.asked == PROMPTS[7:]
    assert pd.read_parquet(output)["response"].tolist() == [prompt + "!" for prompt in PROMPTS]


def test_after_sigterm_in_the_middle_generation_goes_on_to_the_same_bytes(
    folder, tmp_path, monkeypatch, capsys
):
    from rm_robustness.models.answer_log import AnswerLog

    write_frame(frame_of(PROMPTS), tmp_path / "prompts.parquet")
    command = ["generate", "--settings", json.dumps(here(folder, name="t", batch_size=4))]
    command += ["--prompts", str(tmp_path / "prompts.parquet"), "--output"]
    main([*command, str(tmp_path / "whole.parquet")])
    append, batches = AnswerLog.append, []

    def stopped(log, batch):
        append(log, batch)
        batches.append(batch)
        if len(batches) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(AnswerLog, "append", stopped)
    with pytest.raises(SystemExit) as end:
        main([*command, str(tmp_path / "t.parquet")])
    assert end.value.code == 75
    assert "the same command resumes it" in capsys.readouterr().err
    main([*command, str(tmp_path / "t.parquet")])
    assert sorted(answer.row for batch in batches for answer in batch) == list(range(40))
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
