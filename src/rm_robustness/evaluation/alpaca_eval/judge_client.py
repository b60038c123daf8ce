"""Requests to AlpacaEval's judge over HTTP, with its answers cached on disk as they arrive.

A request whose answer is cached is not sent again; an unusable answer is an `InputError`.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from typing import Any

from ...data.synthetic.alpaca_eval import SCALE
from ...errors import InputError
from ...experiment.config import Settings
from ...experiment.hosted_judge import OPENAI, address, check_judge
from ...files import model_folder
from ...models.answer_log import AnswerCache
from ...progress import Progress
from . import judge_server as judge
from .package import package

TIMEOUT = 120.0  # seconds for one answer, which is one token long
CONTINUE = "answers so far are cached: run the same command again"


class CachedClient:
    """Replaces the package's own client: sends what is not cached, and caches the answers."""

    def __init__(self, client: Any, judge_id: str, settings: Settings, cache: AnswerCache) -> None:
        self.client, self.judge_id, self.settings, self.cache = client, judge_id, settings, cache
        self.url = str(client.base_url).rstrip("/")

    def __call__(
        self, prompts: list[str], model_name: str, **sampling: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the package's `completions_all`: the choice of a chat completion per prompt."""
        bodies = [request_body(prompt, model_name, sampling) for prompt in prompts]
        keys = [_hash([self.judge_id, body]) for body in bodies]
        missing = {key: number for number, key in enumerate(keys) if key not in self.cache.choices}
        print(self.estimate(prompts, list(missing.values())), file=sys.stderr, flush=True)
        progress = Progress("judge", len(missing), "pairs")
        with ThreadPoolExecutor(self.settings["concurrency"]) as pool:
            futures = [pool.submit(self.request, key, n, bodies[n]) for key, n in missing.items()]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    progress.update(done)
            finally:
                # After a failure no new request is sent; those in flight are awaited and cached.
                for future in futures:
                    future.cancel()
        return {"completions_all": [self.cache.choices[key] for key in keys]}

    def estimate(self, prompts: list[str], missing: list[int]) -> str:
        """Describe, before the first request, how many are sent and what they will cost."""
        tokens = sum(len(prompts[number]) for number in missing) // 4
        line = f"judge: {len(missing):,} requests, {len(prompts) - len(missing):,} cached"
        line += f"; about {tokens:,} prompt tokens (characters / 4)"
        asked = self.settings.get("price_per_1000_input_tokens")
        answered = self.settings.get("price_per_1000_output_tokens")
        if asked is None or answered is None:
            return line
        return f"{line}, price about {(tokens * asked + len(missing) * answered) / 1000:.2f}"

    def request(self, key: str, number: int, body: dict[str, Any]) -> None:
        """Send one request and cache the answer; an unusable answer is an `InputError`."""
        import openai

        from ...models.openai_server import as_input_error

        try:
            reply = self.client.chat.completions.with_raw_response.create(**body)
        except openai.APIError as error:
            explained = as_input_error(number, error, self.url, self.settings.get("api_key_env"))
            found = explained.found if isinstance(explained, InputError) else repr(error)
            raise InputError(f"{self.url}, pair {number}", found, "an answer", CONTINUE) from error
        self.cache.add(key, usable_choice(reply.http_response.text, f"{self.url}, pair {number}"))


def request_body(prompt: str, model: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """The body of the request that the package's own client sends for one of its prompts."""
    messages = package().utils.prompt_to_chatml(prompt.strip())
    return {"model": model, "messages": messages, "top_p": 1.0, **sampling}


def usable_choice(text: str, where: str) -> dict[str, Any]:
    """Read the choice out of a chat completion whose log-probabilities the package can read.

    It must be one token with a finite log-probability of "m" or "M" among its `top_logprobs`:
    anything else the package would silently turn into a missing preference. Raises `InputError`.
    """
    try:
        choice = json.loads(text)["choices"][0]
        logs = choice.get("logprobs")
    except (ValueError, LookupError, TypeError, AttributeError):
        found, fix = f"no chat completion ({' '.join(text.split())[:80]!r})", "base_url ends in /v1"
        raise InputError(where, found, "an OpenAI-compatible server", fix) from None
    try:
        (token,) = logs["content"]
        top = {entry["token"]: float(entry["logprob"]) for entry in token["top_logprobs"]}
        found = f"the tokens {list(top)}"
        if any(math.isfinite(top.get(name, math.nan)) for name in ("m", "M")):
            return dict(choice)
    except (ValueError, LookupError, TypeError):
        found = "an answer without log-probabilities of one token"
    raise InputError(where, found, "log-probabilities of m and M", "use a model that gives them")


@contextmanager
def endpoint(settings: Settings) -> Iterator[tuple[Any, str]]:
    """Yield an openai client of the judge, and its identity, so that judges' answers are not mixed.

    A judge of kind `gold` or `vllm` is started on this machine and ends with the block. The key of
    a hosted one stays in this process. The client tries again after 429, 5xx and lost connections,
    `retries` times with growing pauses. Raises `InputError` for OpenAI's own address without a key.
    """
    from ...models.openai_server import client, serve

    with ExitStack() as stack:
        key = ""
        match settings["kind"]:
            case "gold":
                url = stack.enter_context(judge.running(settings["gold"])).url
                judge_id = json.dumps([SCALE, settings["gold"]], sort_keys=True)
            case "vllm":
                model_folder(settings["model"])
                url = stack.enter_context(serve(serving(settings)))
                identity = {name: settings[name] for name in ("repo", "revision", "dtype")}
                judge_id = json.dumps(identity, sort_keys=True)
            case _:
                check_judge(settings, "alpaca_eval.judge")
                url = judge_id = address(settings)
                key = _key(settings)
        local = settings["kind"] != "hosted"
        judge_client = client(url, key, settings["retries"], TIMEOUT, local=local)
        yield stack.enter_context(judge_client), judge_id


def serving(settings: Settings) -> Settings:
    """Settings of vLLM's server for a judge, which answers to the model's name on the hub."""
    split = str(settings["tensor_parallel_size"])
    arguments = ["--served-model-name", settings["repo"], "--tensor-parallel-size", split]
    shared = {name: settings[name] for name in ("model", "dtype", "serve_timeout")}
    return {**shared, "port": 0, "serve_arguments": [*arguments, *settings["serve_arguments"]]}


def _key(settings: Settings) -> str:
    """The key of a hosted judge; only another server than OpenAI's may need none."""
    name = settings["api_key_env"]
    key = os.environ.get(name or "", "")
    if not key and address(settings) == OPENAI:
        raise InputError(
            "alpaca_eval.judge",
            f"environment variable {name} unset" if name else "api_key_env null",
            f"the key of {OPENAI}",
            "or name the address of another server in the variable of base_url_env",
        )
    return key


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
