"""Questions to AlpacaEval's judge over HTTP, whose answers are kept on the disk as they come.

A question whose answer is kept is not asked again; what is no answer is one `InputError`.
"""

import hashlib
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...experiment.config import Settings
from ...models.answer_log import append_lines, whole_lines
from ...progress import Progress
from . import judge_server as judge
from .package import package

OPENAI = "https://api.openai.com/v1"
TIMEOUT = 120.0  # seconds for one answer, which is one token long
CONTINUE = "what was answered is kept: run the same command again"


class Asker:
    """The client that stands in for the package's: asks for what is not kept, keeps what comes."""

    def __init__(self, client: Any, judged_by: str, settings: Settings, kept: "Kept") -> None:
        self.client, self.judged_by, self.settings, self.kept = client, judged_by, settings, kept
        self.url = str(client.base_url).rstrip("/")

    def __call__(
        self, prompts: list[str], model_name: str, **sampling: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the package's `completions_all`: the choice of a chat completion per prompt."""
        bodies = [request(prompt, model_name, sampling) for prompt in prompts]
        keys = [_hash([self.judged_by, body]) for body in bodies]
        missing = {key: number for number, key in enumerate(keys) if key not in self.kept.found}
        print(self.estimate(prompts, list(missing.values())), file=sys.stderr, flush=True)
        progress = Progress("judge", len(missing), "pairs")
        with ThreadPoolExecutor(self.settings["concurrency"]) as pool:
            futures = [pool.submit(self.ask, key, n, bodies[n]) for key, n in missing.items()]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    progress.update(done)
            finally:
                # After a failure no new pair is asked; answers under way are awaited and kept.
                for future in futures:
                    future.cancel()
        return {"completions_all": [self.kept.found[key] for key in keys]}

    def estimate(self, prompts: list[str], missing: list[int]) -> str:
        """Say before the first question how much is asked and what it will cost."""
        tokens = sum(len(prompts[number]) for number in missing) // 4
        line = f"judge: {len(missing):,} pairs to ask, {len(prompts) - len(missing):,} kept before"
        line += f"; about {tokens:,} prompt tokens (characters / 4)"
        prices = [self.settings[f"price_per_1000_{way}_tokens"] for way in ("input", "output")]
        if None in prices:
            return line
        return f"{line}, price about {(tokens * prices[0] + len(missing) * prices[1]) / 1000:.2f}"

    def ask(self, key: str, number: int, body: dict[str, Any]) -> None:
        """Ask for one pair and keep the answer; what is no answer becomes one `InputError`."""
        import openai

        from ...models.openai_server import as_input_error

        try:
            reply = self.client.chat.completions.with_raw_response.create(**body)
        except openai.APIError as error:
            said = as_input_error(number, error, self.url, self.settings["api_key_env"])
            found = said.found if isinstance(said, InputError) else repr(error)
            raise InputError(f"{self.url}, pair {number}", found, "an answer", CONTINUE) from error
        self.kept.add(key, usable(reply.http_response.text, f"{self.url}, pair {number}"))


def request(prompt: str, model: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """Write the request that the package's own client sends for one of its prompts."""
    messages = package().utils.prompt_to_chatml(prompt.strip())
    return {"model": model, "messages": messages, "top_p": 1.0, **sampling}


def usable(text: str, where: str) -> dict[str, Any]:
    """Read the choice out of a chat completion whose log-probabilities the package can read.

    It must be one token with a finite log-probability of "m" or "M" among its `top_logprobs`: of
    anything else the package would make a missing preference, without a word. Raises `InputError`.
    """
    try:
        choice = json.loads(text)["choices"][0]
        logs = choice.get("logprobs")
    except (ValueError, LookupError, TypeError, AttributeError):
        found, fix = f"no chat completion ({' '.join(text.split())[:80]!r})", "base_url ends in /v1"
        raise InputError(where, found, "an OpenAI-compatible server", fix) from None
    try:
        (token,) = logs["content"]
        top = {each["token"]: float(each["logprob"]) for each in token["top_logprobs"]}
        found = f"the tokens {list(top)}"
        if any(math.isfinite(top.get(name, math.nan)) for name in ("m", "M")):
            return dict(choice)
    except (ValueError, LookupError, TypeError):
        found = "an answer without log-probabilities of one token"
    raise InputError(where, found, "log-probabilities of m and M", "use a model that gives them")


class Kept:
    """Answers on disk: a JSON line each, with a hash of who was asked what."""

    def __init__(self, path: Path) -> None:
        """Read what is there, after dropping a last line that was cut in half."""
        self.path, self.lock = path, threading.Lock()
        self.found: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                entry = json.loads(line)
                self.found[entry["key"]] = entry["choice"]
            except (ValueError, LookupError, TypeError) as error:
                fix = "remove the line: its pair is asked again"
                raise InputError(
                    f"{path} line {number}", f"{line[:40]!r}", "an answer", fix
                ) from error

    def add(self, key: str, choice: dict[str, Any]) -> None:
        """Keep an answer; it is on the disk when this returns."""
        with self.lock:
            append_lines(self.path, [{"key": key, "choice": choice}])
            self.found[key] = choice


@contextmanager
def endpoint(settings: Settings) -> Iterator[tuple[Any, str]]:
    """Yield an openai client of the judge, and who the judge is: answers of another are not mixed.

    The key stays in this process. The client tries again after 429, 5xx and lost connections,
    `retries` times with growing pauses. Raises `InputError` for OpenAI's own address without a key.
    """
    from ...models.openai_server import client

    with ExitStack() as stack:
        key = os.environ.get(settings["api_key_env"] or "", "")
        if settings["serve"]:
            url, key = stack.enter_context(judge.running(settings["gold"])).url, ""
            judged_by = json.dumps([judge.SCALE, settings["gold"]], sort_keys=True)
        else:
            url = judged_by = os.environ.get(settings["base_url_env"] or "") or OPENAI
            if not key and url == OPENAI:
                name = settings["api_key_env"]
                found = f"environment variable {name} unset" if name else "api_key_env null"
                raise InputError(
                    "alpaca_eval.judge",
                    found,
                    f"the key of {OPENAI}",
                    "or name the address of another server in the variable of base_url_env",
                )
        here = client(url, key, settings["retries"], TIMEOUT, local=settings["serve"])
        yield stack.enter_context(here), judged_by


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
