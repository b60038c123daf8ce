"""A judge for AlpacaEval on this machine: a server of OpenAI's protocol that judges by the gold.

It stands in for GPT-4 where the world has a gold of its own: the whole client side, the package's
prompt included, is then the one that a paid judge would see. It answers nothing but AlpacaEval's
prompt, one token long.
"""

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd

from ...data.gold import add_gold
from ...data.synthetic.alpaca_eval import SCALE
from ...errors import InputError
from ...experiment.config import Settings

# Of the package's prompt `alpaca_eval_clf.txt`. The texts may hold quotes and newlines themselves.
PROMPT = re.compile(
    r'"instruction": """(?P<instruction>.*?)""",\n\}\n\n## Model Outputs\n'
    r'.*?"model_identifier": "m",\s+"output": """(?P<m>.*?)"""\s+\},'
    r'\s+\{\s+"model_identifier": "M",\s+"output": """(?P<M>.*)"""\s+\}\n\}\n\n## Task\n',
    re.DOTALL,
)


def read_prompt(text: str) -> tuple[str, str, str]:
    """Read the instruction and the outputs "m" and "M" out of the annotator's prompt.

    Raises `InputError` for any other text.
    """
    found = PROMPT.search(text)
    if found is None:
        raise InputError("prompt", repr(text[:60]), "the prompt of weighted_alpaca_eval_gpt4_turbo")
    return found["instruction"], found["m"], found["M"]


def log_probabilities(text: str, gold: Settings) -> dict[str, float]:
    """Judge one prompt: log P of the answers "m" and "M".

    P(m) = sigmoid(SCALE (r*_m - r*_M)), with r* of `gold.add_gold` under the settings `gold`. Of
    the kinds of gold `programmatic` is meant; `model` would load its model for every pair.
    """
    instruction, m, other = read_prompt(text)
    pair = pd.DataFrame({"prompt": instruction, "response": [m, other]})
    first, second = add_gold(pair, gold)["gold"]
    return {"m": log_sigmoid(first - second), "M": log_sigmoid(second - first)}


def log_sigmoid(difference: float) -> float:
    """Log probability that the judge prefers a response with so much more gold than the other."""
    x = SCALE * difference
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def completion(model: str, logs: dict[str, float]) -> dict[str, Any]:
    """Write a chat completion of one token, the likelier one, with the log-probabilities of all."""
    ranked = sorted(logs.items(), key=lambda item: -item[1])
    top = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in ranked]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ranked[0][0]},
        "finish_reason": "length",
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    usage = {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}
    about = {"id": "gold", "object": "chat.completion", "created": 0, "model": model}
    return {**about, "choices": [choice], "usage": usage}


class Judge(ThreadingHTTPServer):
    """The server: POST /v1/chat/completions judges, GET /requests says how many asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, gold: Settings, handler: type["Handler"]) -> None:
        """Listen on any free port of 127.0.0.1."""
        super().__init__(("127.0.0.1", 0), handler)
        self.gold = gold
        self.requests = self.answered = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """The base url that a client needs."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """One connection, kept open for many requests."""

    server: Judge
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the other end's delayed ack costs 40 ms

    def do_GET(self) -> None:
        """Count."""
        if self.path != "/requests":
            self.reply(404, {"error": {"message": f"no {self.path}"}})
            return
        self.reply(200, {"requests": self.server.requests, "answered": self.server.answered})

    def do_POST(self) -> None:
        """Judge one pair; what is no prompt of AlpacaEval is refused with status 400."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.requests += 1
        try:
            asked = json.loads(body)
            logs = log_probabilities(asked["messages"][-1]["content"], self.server.gold)
        except (InputError, ValueError, LookupError, TypeError) as error:
            self.reply(400, {"error": {"message": str(error)}})
            return
        self.reply(200, completion(str(asked.get("model")), logs))
        with self.server.lock:
            self.server.answered += 1

    def reply(self, status: int, value: dict[str, Any]) -> None:
        """Send JSON."""
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: there is a line of progress already."""


@contextmanager
def running(gold: Settings, handler: type[Handler] = Handler) -> Iterator[Judge]:
    """Run the judge in a thread of this process, so that it ends with the block or the process.

    Yields the server, whose `url` is the base url. `handler` answers its connections.
    """
    with Judge(gold, handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
