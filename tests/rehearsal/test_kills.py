"""kill -9 of a job with vLLM's real server, or of the server: a second run ends as one unkilled.

Prompts are answered one at a time, greedily and in float32, without vLLM's cache of prefixes: what
a server computes together moves the last bits of its logits. The uninterrupted generation is one by
transformers, whose tokens are then the same; the uninterrupted judgement has a server of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from support import vllm_cpu

from rehearsal import models
from rm_robustness.frames import read_frame, write_frame
from rm_robustness.models.generate import generate_to

pytestmark = [pytest.mark.slow, pytest.mark.rehearsal, vllm_cpu.needs_vllm]
RESPONDER = "HuggingFaceTB/SmolLM2-1.7B-Instruct"  # its pad is its end of text
JUDGE = "meta-llama/Meta-Llama-3-70B-Instruct"
N = 12
IDS = [f"e{n}" for n in range(N)]
PROMPTS = [f"Tell me {'more ' * (n % 3)}of number {n}?" for n in range(N)]
ARGUMENTS = ["--enforce-eager", "--no-enable-prefix-caching", "--max-model-len"]
ASKED = '/completions HTTP/1.1" 200'  # in the server's log, for each answer


class Job:
    """A command in a process of its own, with vLLM's server among its children."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        folder.mkdir(exist_ok=True)
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        self.process = psutil.Popen(
            [sys.executable, "-m", "rm_robustness", *map(str, arguments)],
            cwd=folder,
            env={**os.environ, **vllm_cpu.ENVIRONMENT},
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("w"),
        )
        self.children: list[psutil.Process] = []

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, answers: Callable[[], int], number: int) -> None:
        """Wait until so many answers are on the disk, and note the job's children."""
        deadline = time.monotonic() + 300
        while answers() < number:
            assert self.process.poll() is None, self.output[-3000:]
            assert time.monotonic() < deadline, self.output[-3000:]
            time.sleep(0.002)
        self.children = self.process.children(recursive=True)

    def end(self) -> int:
        """Wait for its end, and for that of its children; returns the exit status."""
        status = self.process.wait(timeout=300)
        deadline = time.monotonic() + 30
        while left := [child for child in self.children if is_alive(child)]:
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.05)
        return int(status)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start() -> Iterator[Callable[..., Job]]:
    """Starts jobs; those that a failed test leaves are killed."""
    jobs: list[Job] = []

    def start(folder: Path, *arguments: object) -> Job:
        jobs.append(Job(folder, *arguments))
        return jobs[-1]

    yield start
    for job in jobs:
        if is_alive(job.process):
            job.children += job.process.children(recursive=True)
        for process in (job.process, *job.children):
            if is_alive(process):
                process.kill()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def test_a_killed_generation_and_a_killed_judgement_go_on(tmp_path, start, monkeypatch):
    """Side by side, because a server's start keeps one core busy for a quarter of a minute."""
    # Without a likely end of text, so that every answer is cut at the same length.
    endless = models.MODELS[RESPONDER]._replace(likely=None)
    monkeypatch.setitem(models.MODELS, RESPONDER, endless)
    for name, repo in (("responder", RESPONDER), ("judge", JUDGE)):
        models.build(repo, tmp_path / name)
    with ThreadPoolExecutor(2) as pool:
        chains = [pool.submit(chain, tmp_path, start) for chain in (generation, judgement)]
    for chain in chains:
        chain.result()


def generation(folder: Path, start: Callable[..., Job]) -> None:
    """The job is killed, then the server of the next attempt; the third one finishes."""
    prompts = pd.DataFrame({"example_id": IDS, "prompt": PROMPTS})
    write_frame(prompts, folder / "prompts.parquet")
    settings = {"kind": "vllm", "serve": True, "model": str(folder / "responder"), "name": "m"}
    settings |= {"dtype": "float32", "temperature": 0, "max_new_tokens": 48}
    settings |= {"concurrency": 1, "retries": 1, "serve_arguments": [*ARGUMENTS, "512"]}
    command = ["generate", "--settings", json.dumps(settings)]
    command += ["--prompts", folder / "prompts.parquet", "--output", "out.parquet"]
    killed = folder / "generation"
    output = killed / "out.parquet"

    def answers() -> int:
        return lines(killed / "out.jsonl") - 1  # the first line is its header

    first = start(killed, *command)
    first.wait_for(answers, 3)
    first.process.kill()
    assert first.end() == -signal.SIGKILL
    kept = answers()
    assert 3 <= kept < N and not output.exists()

    second = start(killed, *command)
    second.wait_for(answers, kept + 3)
    (server,) = [child for child in second.children if child.ppid() == second.process.pid]
    server.kill()
    assert second.end() == 2
    assert "Traceback" not in second.output
    (line,) = [line for line in second.output.splitlines() if "rm-robustness: error: " in line]
    assert "vLLM's server: found exit status -9" in line and "the same command resumes" in line
    assert answers() < N and not output.exists()
    assert second.output.count(ASKED) <= answers() - kept + 1
    kept = answers()

    last = start(killed, *command)
    assert last.end() == 0, last.output[-3000:]
    assert last.output.count(ASKED) == N - kept
    whole = folder / "whole.parquet"
    generate_to(prompts, settings | {"kind": "transformers", "serve": False}, whole)
    frame, expected = read_frame(output), read_frame(whole)
    for each in (frame, expected):  # a last character cut in half, which vLLM keeps back
        each["response"] = each["response"].str.rstrip("\ufffd")
    pd.testing.assert_frame_equal(frame, expected)
    assert frame["response"].nunique() > 1 and not frame["finished"].any()
    left = {path.name for path in killed.iterdir() if path.suffix != ".log"}
    assert left == {"out.parquet", "out.record.json"}


def judgement(folder: Path, start: Callable[..., Job]) -> None:
    """The job is killed, the next attempt finishes, and one more has a folder of its own."""
    frame = pd.DataFrame({"example_id": IDS, "prompt": PROMPTS})
    baseline = frame.assign(reference=[f"The answer {n}." for n in range(N)], reference_model="b")
    write_frame(baseline, folder / "instructions.parquet")
    answered = frame.assign(response=[f"It is {n} {n}!" for n in range(N)], response_model="sft")
    write_frame(answered, folder / "sft/seed-0.parquet")
    settings: dict[str, Any] = {"kind": "vllm", "repo": JUDGE, "revision": "c" * 40}
    settings |= {"model": str(folder / "judge"), "dtype": "float32", "tensor_parallel_size": 1}
    settings |= {"serve_arguments": [*ARGUMENTS, "8192"], "serve_timeout": 600}
    command = ["judge", "--settings", json.dumps(settings | {"concurrency": 1, "retries": 1})]
    command += ["--instructions", folder / "instructions.parquet"]
    command += ["--answers", folder / "sft/seed-0.parquet"]
    command += ["--work", "work", "--output", "out.parquet"]
    killed = folder / "judgement"
    cache, output = killed / "work/answers.jsonl", killed / "out.parquet"

    first = start(killed, *command)
    first.wait_for(lambda: lines(cache), 3)
    first.process.kill()
    assert first.end() == -signal.SIGKILL
    kept = cache.read_bytes()
    assert 3 <= lines(cache) < N and not output.exists()

    last = start(killed, *command)
    assert last.end() == 0, last.output[-3000:]
    assert last.output.count(ASKED) == N - kept.count(b"\n")
    assert cache.read_bytes().startswith(kept) and lines(cache) == N
    uninterrupted = start(folder / "whole", *command)
    assert uninterrupted.end() == 0, uninterrupted.output[-3000:]
    assert output.read_bytes() == (folder / "whole/out.parquet").read_bytes()
    preferences = read_frame(output)["preference"]
    assert preferences.nunique() == N
