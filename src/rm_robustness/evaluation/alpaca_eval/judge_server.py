"""Local judge for AlpacaEval: an OpenAI-compatible server whose preferences follow the gold reward.

It replaces GPT-4 for synthetic data, so that the complete client side, including the package's
prompt, is exercised as with a paid judge. It answers only AlpacaEval's prompt, with one token.
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

# The package's prompt `alpaca_eval_clf.txt`. The texts may contain quotes and newlines.
PROMPT = re.compile(
    r'"instruction": """(?P<instruction>.*?)""",\n\}\n\n## Model Outputs\n'
    r'.*?"model_identifier": "m",\s+"output": """(?P<m>.*?)"""\s+\},'
    r'\s+\{\s+"model_identifier": "M",\s+"output": """(?P<M>.*)"""\s+\}\n\}\n\n## Task\n',
    re.DOTALL,
)


def read_prompt(text: str) -> tuple[str, str, str]:
    """Parse the instruction and the outputs "m" and "M" from the annotator's prompt.

    Raises `InputError` for any other text.
    """
    match = PROMPT.search(text)
    if match is None:
        raise InputError("prompt", repr(text[:60]), "the prompt of weighted_alpaca_eval_gpt4_turbo")
    return match["instruction"], match["m"], match["M"]


def log_probabilities(text: str, gold: Settings) -> dict[str, float]:
    """Judge one prompt: log P of the answers "m" and "M".

    P(m) = sigmoid(SCALE (r*_m - r*_M)), with r* of `gold.add_gold` under the settings `gold`. Meant
    for gold of kind `programmatic`: kind `model` would load the model again for every pair.
    """
    instruction, m, other = read_prompt(text)
    pair = pd.DataFrame({"prompt": instruction, "response": [m, other]})
    first, second = add_gold(pair, gold)["gold"]
    return {"m": log_sigmoid(first - second), "M": log_sigmoid(second - first)}


def log_sigmoid(difference: float) -> float:
    """log sigmoid(SCALE x `difference`), a difference of gold rewards; does not overflow."""
    x = SCALE * difference
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def completion(model: str, logs: dict[str, float]) -> dict[str, Any]:
    """Chat completion of one token, the most likely one, with all log-probabilities."""
    ranked = sorted(logs.items(), key=lambda item: -item[1])
    top = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in ranked]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ranked[0][0]},
        "finish_reason": "length",
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    usage = {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}
    envelope = {"id": "gold", "object": "chat.completion", "created": 0, "model": model}
    return {**envelope, "choices": [choice], "usage": usage}


class Judge(ThreadingHTTPServer):
    """HTTP server: POST /v1/chat/completions judges a pair, GET /requests counts requests."""

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
    """Handler of one keep-alive connection."""

    server: Judge
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the client's delayed ack would cost 40 ms

    def do_GET(self) -> None:
        """Return the numbers of requests and of answers."""
        if self.path != "/requests":
            self.reply(404, {"error": {"message": f"no {self.path}"}})
            return
        self.reply(200, {"requests": self.server.requests, "answered": self.server.answered})

    def do_POST(self) -> None:
        """Judge one pair; any other prompt than AlpacaEval's gets status 400."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.requests += 1
        try:
            request = json.loads(body)
            logs = log_probabilities(request["messages"][-1]["content"], self.server.gold)
        except (InputError, ValueError, LookupError, TypeError) as error:
            self.reply(400, {"error": {"message": str(error)}})
            return
        self.reply(200, completion(str(request.get("model")), logs))
        with self.server.lock:
            self.server.answered += 1

    def reply(self, status: int, value: dict[str, Any]) -> None:
        """Send a JSON response."""
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: the client shows progress."""


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
