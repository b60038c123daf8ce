"""AlpacaEval 2.0: the `alpaca_eval` package's annotator, asked through a client that keeps answers.

The package owns the configuration (weighted_alpaca_eval_gpt4_turbo), the prompt, the order of the
two outputs and the reading of log-probabilities. Its own client is replaced: that one keeps answers
only after every 128 pairs, gives none at all after a rate limit, and what it cannot read is left
out. Here an answer is on the disk when the next is asked for, and what is no answer is an error.
"""

import hashlib
import importlib
import importlib.util
import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd

from . import judge
from .config import Settings
from .errors import InputError
from .files import read_frame, write_frame
from .progress import Progress

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
OPENAI = "https://api.openai.com/v1"
TIMEOUT = 120.0  # seconds for one answer, which is one token long
# Texts that would cut the package's prompt short, or take an output's place in it.
MARKS = re.compile(r"<\|im_start\|>|<\|im_end\|>|\{output_[12]\}")
CONTINUE = "what was answered is kept: run the same command again"
COLUMNS = [
    *("policy", "seed", "row", "example_id", "output_1", "output_2", "preference", "annotator")
]


def annotate(
    instructions: Path, outputs: list[Path], settings: Settings, work: Path, output: Path
) -> None:
    """Let the judge compare every policy's answers with the baseline's; write `output`.

    `instructions` is made by `sources.instructions`, `outputs` are .../{policy}/seed-{seed}.parquet
    with example_id, prompt and response. `settings` has serve, model, base_url_env, api_key_env,
    concurrency, retries, price_per_1000_input_tokens, price_per_1000_output_tokens and gold.
    `output` gets `COLUMNS`, a row per policy, seed and instruction: output_1 is the baseline's,
    preference in [1, 2] is 1 + P(output_2 is better), and 1.5, without a question, for two equal
    texts. An empty answer is judged as it is. Answers are kept in `work` as they come, so that a
    job that was stopped asks again for at most `concurrency` of them; those of a judge elsewhere
    stay there for good. Raises `InputError` for answers that are not one per instruction, a judge
    that is not there or keeps failing, and answers without usable log-probabilities.
    """
    asked = read_frame(instructions, ["example_id", "prompt", "reference"])
    pairs = pd.concat([read_answers(asked, path) for path in outputs], ignore_index=True)
    kept = Kept(work / "answers.jsonl")
    with endpoint(settings) as (client, judged_by):
        annotated = run_package(pairs, settings["model"], Asker(client, judged_by, settings, kept))
    write_frame(annotated[COLUMNS], output)
    if settings["serve"]:
        kept.path.unlink(missing_ok=True)


def read_answers(asked: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Read one policy's answers as pairs with the baseline's, in the order of the instructions.

    Gives policy and seed (from the path), row (of the instruction), example_id, instruction,
    output_1 (the baseline's) and output_2. Raises `InputError` with file and row unless every
    instruction is answered exactly once, and for a text that the package's prompt cannot hold.
    """
    fix = "let the policy answer again"
    seed = re.fullmatch(r"seed-(\d+)", path.stem)
    if seed is None:
        raise InputError(path, f"the name {path.name}", "POLICY/seed-N.parquet")
    frame = read_frame(path, ["example_id", "prompt", "response"])
    rows = pd.Series(range(len(asked)), index=asked["example_id"]).reindex(frame["example_id"])
    first: dict[int, int] = {}
    for number, row in enumerate(rows):
        where, prompt = f"{path}, row {number}", frame["prompt"].iloc[number]
        if pd.isna(row) or prompt != asked["prompt"].iloc[int(row)]:
            found = (
                f"example_id {frame['example_id'].iloc[number]} with prompt {str(prompt)[:40]!r}"
            )
            raise InputError(where, found, "one of the instructions", fix)
        if int(row) in first:
            again = f"example_id {frame['example_id'].iloc[number]} again, as in row {first[row]}"
            raise InputError(where, again, "one answer to each instruction", fix)
        first[int(row)] = number
    for row, name in enumerate(asked["example_id"]):
        if row not in first:
            raise InputError(path, f"no answer to instruction {row} ({name})", "one to each", fix)
    order = [first[row] for row in range(len(asked))]
    pairs = pd.DataFrame(
        {
            "policy": path.parent.name,
            "seed": int(seed[1]),
            "row": range(len(asked)),
            "example_id": asked["example_id"],
            "instruction": asked["prompt"],
            "output_1": asked["reference"],
            "output_2": frame["response"].iloc[order].to_numpy(),
        }
    )
    for column in ("instruction", "output_1", "output_2"):
        for row, text in enumerate(pairs[column]):
            mark = MARKS.search(text) if isinstance(text, str) else None
            if mark or not isinstance(text, str):
                found = f"{mark[0]!r} in the {column}" if mark else f"the {column} {text!r}"
                expected = f"a text without the marks of the prompt ({MARKS.pattern})"
                raise InputError(f"{path}, instruction {row}", found, expected)
    return pairs


def run_package(pairs: pd.DataFrame, model: str, ask: "Asker") -> pd.DataFrame:
    """Run the package's annotator on `pairs`, with `ask` in place of its own client.

    Returns `pairs` with preference and annotator, in the same order. `annotator` is the name of the
    package's configuration, with the model's where that is another than the configuration's.
    """
    annotators = package().annotators
    with quiet():
        annotator = annotators.PairwiseAnnotator(annotators_config=ANNOTATOR, caching_path=None)
        single = annotator.annotators[ANNOTATOR]
        own_model = single.completions_kwargs["model_name"]
        single.completions_kwargs["model_name"] = model
        single.fn_completions = ask
        annotated = pd.DataFrame(annotator.annotate_pairs(pairs, chunksize=None))
    valid = annotated["preference"].astype(float).between(1, 2)
    if len(annotated) != len(pairs) or not valid.all():
        found = f"{int(valid.sum())} preferences for {len(pairs)} pairs"
        raise InputError(f"alpaca_eval {metadata.version('alpaca_eval')}", found, "one for each")
    annotated["preference"] = annotated["preference"].astype(float)
    annotated["annotator"] = ANNOTATOR if model == own_model else f"{ANNOTATOR} with {model}"
    return annotated


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

        from .served import _as_input_error

        try:
            reply = self.client.chat.completions.with_raw_response.create(**body)
        except openai.APIError as error:
            said = _as_input_error(number, error, self.url, self.settings["api_key_env"])
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
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.lock = path, threading.Lock()
        whole = path.read_bytes() if path.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1]
        if path.exists():
            os.truncate(path, len(whole))
        self.found: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(whole.splitlines(), start=1):
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
        line = json.dumps({"key": key, "choice": choice}) + "\n"
        with self.lock, self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
            self.found[key] = choice


@contextmanager
def endpoint(settings: Settings) -> Iterator[tuple[Any, str]]:
    """Yield an openai client of the judge, and who the judge is: answers of another are not mixed.

    The key stays in this process. The client tries again after 429, 5xx and lost connections,
    `retries` times with growing pauses. Raises `InputError` for OpenAI's own address without a key.
    """
    import openai

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
                    "alpaca_eval.judge", found, f"the key of {OPENAI}",
                    "or name the address of another server in the variable of base_url_env",
                )  # fmt: skip
        client = openai.OpenAI(
            base_url=url,
            api_key=key or "EMPTY",
            max_retries=settings["retries"],
            timeout=TIMEOUT,
            # A cluster's proxy does not know a server on this machine.
            http_client=openai.DefaultHttpxClient(trust_env=not settings["serve"]),
        )
        yield stack.enter_context(client), judged_by


def package() -> ModuleType:
    """Import the package, which takes seconds, logs at INFO from then on, and draws bars.

    It asks `pkg_resources`, which setuptools 82 dropped, for its own version: a stand-in has that.
    """
    if "alpaca_eval" not in sys.modules:
        level, missing = logging.root.level, importlib.util.find_spec("pkg_resources") is None
        if missing:
            stand_in = ModuleType("pkg_resources")
            stand_in.get_distribution = metadata.distribution  # type: ignore[attr-defined]
            sys.modules["pkg_resources"] = stand_in
        found = importlib.import_module("alpaca_eval")
        logging.root.setLevel(level)
        if missing:
            del sys.modules["pkg_resources"]
        found.utils.tqdm = SimpleNamespace(tqdm=lambda rows, **_: rows)
    return sys.modules["alpaca_eval"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the package's log, which has a line per step, for the block."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
