"""Responses from an OpenAI-compatible server: an external one, or vLLM's, started here."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from types import FrameType
from typing import Any

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from ..cluster.vllm import require_vllm
from ..errors import InputError
from .answer_log import Answer

VLLM_SERVER = "vllm.entrypoints.openai.api_server"
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def server_answers(
    prompts: list[str] | list[list[int]],
    seeds: list[int],
    rows: list[int],
    settings: dict[str, Any],
) -> Iterator[list[Answer]]:
    """Request answers to the prompts of `rows`, `concurrency` at a time; yield them as they arrive.

    A prompt is a text, which the server renders as one user turn, or the token ids of a rendering.

    The client retries after 429, 5xx and lost connections, `retries` times with growing pauses.
    When a request fails for good, no new one is sent, the answers in flight are still yielded, and
    then `InputError` has the server's message. Where prompts may be left out (`max_left_out`), HTTP
    400 is an answer too, `refused`. Settings as in `generate.DEFAULTS`.
    """
    with ExitStack() as stack:
        if settings["serve"]:
            base_url = stack.enter_context(serve(settings))
        else:
            base_url = _base_url(settings)
        key = os.environ.get(settings["api_key_env"] or "", "")
        server = stack.enter_context(
            client(base_url, key, settings["retries"], settings["timeout"], local=settings["serve"])
        )

        def request(row: int) -> Answer:
            return _request(server, settings, row, prompts[row], seeds[row])

        pool = stack.enter_context(ThreadPoolExecutor(settings["concurrency"]))
        queue = iter(rows)
        pending = {pool.submit(request, row): row for row in islice(queue, settings["concurrency"])}
        failure: tuple[int, BaseException] | None = None
        while pending:
            done = wait(pending, return_when=FIRST_COMPLETED).done
            ended: list[tuple[int, Future[Answer]]] = [(pending.pop(one), one) for one in done]
            for row, future in ended:
                error = future.exception()
                failure = failure or ((row, error) if error else None)
            if failure is None:
                pending |= {pool.submit(request, row): row for row in islice(queue, len(ended))}
            batch = [future.result() for _, future in ended if future.exception() is None]
            if batch:
                yield batch
        if failure:
            raise as_input_error(*failure, base_url, settings["api_key_env"])


def _request(
    server: openai.OpenAI, settings: dict[str, Any], row: int, prompt: str | list[int], seed: int
) -> Answer:
    """Request the answer to one prompt; InputError when the address is no such server."""
    sampling = {
        "model": settings["model"],
        "temperature": settings["temperature"],
        "top_p": settings["top_p"],
        "max_tokens": settings["max_new_tokens"],
        "seed": seed,
    }
    reply: Any
    try:
        if isinstance(prompt, str):
            turns: list[Any] = [{"role": "user", "content": prompt}]
            reply = server.chat.completions.create(messages=turns, **sampling)
        else:
            reply = server.completions.create(prompt=prompt, **sampling)
    except openai.BadRequestError as error:
        if not settings["max_left_out"]:
            raise
        return Answer(row, "", False, refused=_message(error))
    if not isinstance(reply, ChatCompletion | Completion) or not reply.choices:
        fix = "base_url usually ends in /v1"
        where = str(server.base_url).rstrip("/")
        raise InputError(where, "no chat completion", "an OpenAI-compatible server", fix)
    choice: Any = reply.choices[0]
    content = choice.message.content if isinstance(prompt, str) else choice.text
    # A text that the server cut within a character has half of it, which UTF-8 cannot encode.
    text, replaced = re.subn("[\ud800-\udfff]", "\ufffd", content or "")
    return Answer(row, text, choice.finish_reason == "stop", replaced)


def client(base_url: str, key: str, retries: int, timeout: float, *, local: bool) -> openai.OpenAI:
    """Create a client that retries `retries` times; `local` for a server on this machine."""
    return openai.OpenAI(
        base_url=base_url,
        api_key=key or "EMPTY",
        max_retries=retries,
        timeout=timeout,
        # A cluster's proxy does not know a server on this machine.
        http_client=openai.DefaultHttpxClient(trust_env=not local),
    )


def _base_url(settings: dict[str, Any]) -> str:
    """Return an external server's address, from the settings or their environment variable."""
    url = settings["base_url"] or os.environ.get(settings["base_url_env"] or "")
    if not url:
        name = settings["base_url_env"]
        found = f"environment variable {name} unset" if name else "neither of them"
        raise InputError("generator", found, "base_url, base_url_env or serve: true")
    return str(url)


def as_input_error(row: int, error: BaseException, base_url: str, key: str | None) -> BaseException:
    """Turn the client's error into one line; any other error is returned as it is."""
    where = f"{base_url}, prompt {row}"
    fix = "run the same command again: it resumes from the answers so far"
    if isinstance(error, openai.BadRequestError):
        found = _message(error)
        fix = "correct the settings or leave the prompt out (max_left_out): the server would refuse"
        fix += " the same request again; the answers so far are kept"
    elif isinstance(error, openai.APIStatusError):
        if error.status_code in (401, 403):
            # The server's own message may repeat the key.
            found = (
                f"HTTP {error.status_code} (key from {key or 'nowhere: api_key_env is not set'})"
            )
        else:
            found = _message(error)
        if error.status_code < 500 and error.status_code not in (408, 409, 429):
            fix = "correct the key, the address or the model's name; the answers so far are kept"
    elif isinstance(error, openai.APITimeoutError):
        found = "no answer in time"
    elif isinstance(error, openai.APIError):
        found = f"no connection ({' '.join(str(error).split())[:200]})"
    else:
        return error
    return InputError(where, found, "an answer", fix)


def _message(error: openai.APIStatusError) -> str:
    """The status and the server's message, in one line."""
    return f"HTTP {error.status_code} ({' '.join(error.message.split())[:200]})"


@contextmanager
def serve(settings: dict[str, Any]) -> Iterator[str]:
    """Run vLLM's server as a child process and yield its base url once it is healthy.

    The server's output goes to this process's stderr. It and its children are terminated with the
    block, also when this process gets SIGTERM or is killed. Raises `InputError` when vLLM is
    missing, the port is taken, the server exits early or is not healthy after `serve_timeout` s.
    """
    port = _free_port(settings["port"])
    # The module, because the program `vllm` fails in the CPU build, whose distribution has another
    # name; and vLLM is then of this environment, as records say.
    command = [sys.executable, "-m", VLLM_SERVER, "--model", settings["model"]]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # Otherwise vLLM takes a top-k or a penalty from the model's files instead of its defaults.
    command += ["--generation-config", "vllm", "--dtype", settings["dtype"]]
    command += [str(argument) for argument in settings["serve_arguments"]]
    require_vllm("generator.serve")

    def exit_on_signal(number: int, frame: FrameType | None) -> None:
        if callable(previous):  # the command line's own: exit status 75
            previous(number, frame)
        sys.exit(128 + number)

    # Without a handler, SIGTERM would end this process and leave the server.
    previous = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, exit_on_signal)
    # A session of its own, so that vLLM's own children can be terminated with it.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
        # Only a call of C, so safe beside threads.
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    try:
        _wait_until_healthy(child, port, settings["serve_timeout"])
        yield f"http://127.0.0.1:{port}/v1"
    except InputError as error:
        with suppress(subprocess.TimeoutExpired):  # its connections close a moment before it ends
            child.wait(timeout=1)
            raise _ended(child) from error
        raise
    finally:
        _terminate(child)
        signal.signal(signal.SIGTERM, previous)


def _end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends, by kill -9 too.

    A server that stayed would keep its GPU memory from the same command's next attempt.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _free_port(port: int) -> int:
    """Return `port` if nothing listens there, or any free port for 0."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            fix = "use port: 0 for any free one"
            raise InputError("generator.port", f"{port} in use", "a free port", fix) from error
        return int(probe.getsockname()[1])


def _wait_until_healthy(child: subprocess.Popen[bytes], port: int, limit: float) -> None:
    """Return when /health answers; large models take many minutes to load."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + limit
    while child.poll() is None:
        try:
            with direct.open(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        if time.monotonic() > deadline:
            fix = "see its output above, or raise serve_timeout"
            raise InputError("vLLM's server", f"no health after {limit:g} s", "a ready server", fix)
    raise _ended(child)


def _ended(child: subprocess.Popen[bytes]) -> InputError:
    """The error of a server that has ended; a negative status is the signal that ended it."""
    found = f"exit status {child.returncode}"
    fix = "see its output above; the same command resumes from the answers so far"
    return InputError("vLLM's server", found, "a server that stays up", fix)


def _terminate(child: subprocess.Popen[bytes]) -> None:
    """Terminate the server and its children, by SIGKILL if it takes longer than 30 s."""
    for number, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(child.pid, number)
            child.wait(timeout=patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
