"""Answers of an OpenAI-compatible server: one that is there, and one that is started."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import psutil
import pytest
from support.json_server import JsonHandler
from support.ten_words import frame_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rehearsal import hub
from rm_robustness.cluster import vllm
from rm_robustness.errors import InputError
from rm_robustness.models.generate import generate, generate_to, prompt_seed

PROMPTS = ["a b", "c d e f", "g", "h a c", "b b b b b", "f g h"]


# --- a server with the chat completions protocol ---


class Server(ThreadingHTTPServer):
    """Answers `PROMPT!`; `troubles` holds the status codes to give first, per prompt."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.troubles: dict[str, list[int]] = {}
        self.bodies: list[dict[str, object]] = []
        self.answered: Counter[str] = Counter()
        self.keys: set[str | None] = set()
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(JsonHandler, BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = self.body()
        prompt = body["messages"][0]["content"]
        with server.lock:
            server.bodies.append(body)
            server.keys.add(self.headers["Authorization"])
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
            waiting = server.troubles.get(prompt, [])
            status = waiting.pop(0) if waiting else 200
        time.sleep(0.01)
        if status == 200:
            message = {"role": "assistant", "content": prompt + "!"}
            reason = "length" if prompt == "g" else "stop"
            choice = {"index": 0, "message": message, "finish_reason": reason}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            reply["choices"] = [choice]
        else:
            reply = {"error": {"message": f"trouble {status}"}}
        with server.lock:
            server.answered[prompt] += status == 200
            server.busy -= 1
        self.reply(status if self.path == "/v1/chat/completions" else 404, reply)


@pytest.fixture
def server(monkeypatch):
    # The client's pauses between tries, half a second and more, shortened for the tests.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.01)
    server = Server()
    with hub.serving(server):
        yield server


def served(server, **change):
    return {"kind": "vllm", "model": "m", "base_url": server.url, "concurrency": 2, **change}


def test_a_request_has_the_prompt_its_seed_and_the_sampling(server):
    settings = served(server, temperature=0.7, top_p=0.9, max_new_tokens=7, seed=4)
    assert generate(PROMPTS, settings) == [prompt + "!" for prompt in PROMPTS]
    assert len(server.bodies) == len(PROMPTS)
    for body in server.bodies:
        prompt = body["messages"][0]["content"]
        assert body["seed"] == prompt_seed(4, prompt)
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 7)
        assert body["model"] == "m"
    assert server.keys == {"Bearer EMPTY"}
    assert server.most_busy == 2


def test_too_many_requests_are_tried_again(server):
    server.troubles = {"g": [429, 503]}
    assert generate(PROMPTS, served(server, retries=2)) == [prompt + "!" for prompt in PROMPTS]
    assert len(server.bodies) == len(PROMPTS) + 2


def test_a_failing_server_stops_the_job_cleanly_and_no_answer_is_requested_twice(server, tmp_path):
    output = tmp_path / "out.parquet"
    server.troubles = {"h a c": [500] * 2}
    settings = served(server, retries=1, concurrency=1)
    with pytest.raises(InputError, match=r"prompt 3: found HTTP 500 \(.*trouble 500.*same command"):
        generate_to(frame_of(PROMPTS), settings, output)
    assert server.answered == Counter(PROMPTS[:3])
    assert not output.exists()
    generate_to(frame_of(PROMPTS), settings, output)
    assert server.answered == Counter(PROMPTS)
    frame = pd.read_parquet(output)
    assert frame["response"].tolist() == [prompt + "!" for prompt in PROMPTS]
    assert frame["finished"].tolist() == [prompt != "g" for prompt in PROMPTS]
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_answers_under_way_when_another_fails_are_kept(server, tmp_path):
    output = tmp_path / "out.parquet"
    server.troubles = {"a b": [400]}
    with pytest.raises(InputError, match="prompt 0: found HTTP 400"):
        generate_to(frame_of(PROMPTS), served(server, concurrency=3), output)
    generate_to(frame_of(PROMPTS), served(server), output)
    assert server.answered == Counter(PROMPTS)


def test_a_partial_answer_is_dropped_and_requested_again(server, tmp_path):
    output, frame = tmp_path / "out.parquet", frame_of(PROMPTS)
    server.troubles = {"h a c": [500]}
    with pytest.raises(InputError):
        generate_to(frame, served(server, retries=0, concurrency=1), output)
    journal = output.with_suffix(".jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    generate_to(frame, served(server), output)
    assert server.answered == Counter(PROMPTS) + Counter(["g"])
    assert pd.read_parquet(output)["response"].tolist() == [p + "!" for p in PROMPTS]


def test_a_journal_of_other_settings_is_not_mixed_in(server, tmp_path):
    output, frame = tmp_path / "out.parquet", frame_of(PROMPTS)
    server.troubles = {"h a c": [500]}
    with pytest.raises(InputError):
        generate_to(frame, served(server, retries=0), output)
    before = output.with_suffix(".jsonl").read_bytes()
    with pytest.raises(InputError, match=r"out\.jsonl: found a run of other prompts or settings"):
        generate_to(frame, served(server, temperature=0.1), output)
    assert output.with_suffix(".jsonl").read_bytes() == before
    generate_to(frame, served(server, concurrency=5), output)


def test_the_key_comes_from_the_environment_and_is_never_shown(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret")
    server.troubles = {"g": [401] * 9}
    with pytest.raises(InputError, match=r"HTTP 401 \(key from MY_KEY\)") as caught:
        generate(["g"], served(server, api_key_env="MY_KEY"))
    assert server.keys == {"Bearer s3cret"}
    assert "s3cret" not in str(caught.value)


def test_the_address_may_come_from_the_environment(server, monkeypatch):
    settings = served(server, base_url=None, base_url_env="MY_SERVER")
    with pytest.raises(InputError, match="environment variable MY_SERVER unset"):
        generate(["a"], settings)
    monkeypatch.setenv("MY_SERVER", server.url)
    assert generate(["a"], settings) == ["a!"]


def test_a_server_that_is_not_there_or_speaks_something_else_is_named(server):
    with pytest.raises(InputError, match="prompt 0: found no connection"):
        generate(["a"], served(server, base_url="http://127.0.0.1:9/v1", retries=0))
    with pytest.raises(InputError, match="prompt 0: found HTTP 404"):
        generate(["a"], served(server, base_url=server.url.removesuffix("/v1")))


# --- a server started here ---

STAND_IN = """\
    import json, os, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    with open(os.environ["STAND_IN_LOG"], "w") as file:
        json.dump([os.getpid(), *sys.argv[1:]], file)
    if "--fail" in sys.argv:
        sys.exit(3)
    ready = time.time() + 0.5

    class Handler(BaseHTTPRequestHandler):
        def reply(self, status, value):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        def do_GET(self):
            healthy = self.path == "/health" and time.time() > ready
            self.reply(200 if healthy else 503, {})
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if time.time() < ready or self.path != "/v1/completions":
                return self.reply(404, {})
            if "--slow" in sys.argv:
                time.sleep(60)
            if "--die" in sys.argv:
                os.kill(os.getpid(), 9)
            text = " ".join(map(str, body["prompt"])) + "?"
            choice = {"index": 0, "text": text, "finish_reason": "stop"}
            self.reply(200, {"id": "1", "object": "text_completion", "created": 0,
                              "model": body["model"], "choices": [choice]})
        def log_message(self, *_):
            pass

    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package `vllm` whose server has vLLM's command line and protocol; gives where it logs."""
    module = tmp_path / "packages" / "vllm" / "entrypoints" / "openai" / "api_server.py"
    module.parent.mkdir(parents=True)
    for folder in list(module.parents)[:3]:
        (folder / "__init__.py").touch()
    module.write_text(textwrap.dedent(STAND_IN))
    path = f"{tmp_path / 'packages'}:{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(vllm, "installed", lambda: ("vllm", "0.31.0"))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log.json"))
    # A cluster's proxy must not stand between this process and its own server.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    return tmp_path / "log.json"


@pytest.fixture
def serving(tmp_path):
    """The settings of a server of a model in a folder, of which the stand-in opens nothing."""
    model = str(tmp_path / "model")
    vocabulary = {word: n for n, word in enumerate(["?", "26", "Jul", "user:", *"abcdefgh"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b') }} {% for m in messages %}user: {{ m['content'] }} {% endfor %}"
    )
    tokenizer.save_pretrained(model)
    return {"kind": "vllm", "model": model, "serve": True, "dtype": "bfloat16"}


def test_a_name_of_the_hub_is_not_served(stand_in, serving):
    with pytest.raises(InputError, match="some/model: found no such folder"):
        generate(["a"], {**serving, "model": "some/model"})
    assert not stand_in.exists()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_server_is_started_used_when_healthy_and_stopped(stand_in, serving):
    before = signal.getsignal(signal.SIGTERM)
    arguments = {"serve_arguments": ["--max-model-len", 4096]}
    answers = generate(PROMPTS, {**serving, **arguments})
    # Rendered here, at the clock of every rendering: "26 Jul user: a b".
    assert answers[0] == "1 2 3 4 5?" and answers[2] == "1 2 3 10?"
    pid, *command = json.loads(stand_in.read_text())
    pairs = set(zip(command[::2], command[1::2], strict=True))
    assert {("--model", serving["model"]), ("--dtype", "bfloat16")} <= pairs
    assert ("--max-model-len", "4096") in pairs
    assert ("--generation-config", "vllm") in pairs
    assert not alive(pid)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_server_that_ends_early_or_is_never_healthy_is_an_error(stand_in, serving):
    with pytest.raises(InputError, match="vLLM's server: found exit status 3"):
        generate(["a"], {**serving, "serve_arguments": ["--fail"]})
    with pytest.raises(InputError, match=r"no health after 0\.1 s"):
        generate(["a"], {**serving, "serve_timeout": 0.1})
    assert not alive(json.loads(stand_in.read_text())[0])


def test_a_server_that_is_killed_while_it_answers_is_named(stand_in, serving):
    """Not the lost connection, which only follows from it."""
    with pytest.raises(InputError, match=r"server: found exit status -9.*resumes"):
        generate(["a"], {**serving, "serve_arguments": ["--die"], "retries": 0})


def test_a_missing_package_and_a_taken_port_are_errors(stand_in, serving, server, monkeypatch):
    with pytest.raises(InputError, match="in use; expected a free port"):
        generate(["a"], {**serving, "port": server.server_port})
    monkeypatch.setattr(vllm, "installed", lambda: None)
    with pytest.raises(InputError, match=r"generator\.serve: found no vLLM.*make env VLLM=1"):
        generate(["a"], serving)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_the_server_ends_with_this_process(stand_in, serving, number, status):
    settings = {**serving, "serve_arguments": ["--slow"]}
    code = f"from rm_robustness.models.generate import generate; generate(['a'], {settings!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (stand_in.exists() and stand_in.read_text().endswith("]")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid, *command = json.loads(stand_in.read_text())
    health = f"http://127.0.0.1:{command[command.index('--port') + 1]}/health"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        try:
            direct.open(health, timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=20) == status
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
