"""kill -9 of a job with vLLM's real server, or of the server: a second run ends as one unkilled.

Prompts are answered one at a time, greedily and in float32, without vLLM's cache of prefixes: what
a server computes together moves the last bits of its logits.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from support import vllm_cpu

from rehearsal import models
from rm_robustness.frames import read_frame, write_frame

pytestmark = [pytest.mark.slow, vllm_cpu.needs_vllm]
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


def test_a_generation_goes_on_after_a_kill_of_the_job_and_one_of_its_server(
    tmp_path, start, monkeypatch
):
    # Without a likely end of text, so that every answer is cut at the same length.
    endless = models.MODELS[RESPONDER]._replace(likely=None)
    monkeypatch.setitem(models.MODELS, RESPONDER, endless)
    models.build(RESPONDER, tmp_path / "model")
    prompts = tmp_path / "prompts.parquet"
    write_frame(pd.DataFrame({"example_id": IDS, "prompt": PROMPTS}), prompts)
    settings = {"kind": "vllm", "serve": True, "model": str(tmp_path / "model"), "name": "m"}
    settings |= {"dtype": "float32", "temperature": 0, "max_new_tokens": 64}
    settings |= {"concurrency": 1, "retries": 1, "serve_arguments": [*ARGUMENTS, "512"]}
    command = ["generate", "--settings", json.dumps(settings), "--prompts", prompts]
    command += ["--output", "out.parquet"]
    uninterrupted = start(tmp_path / "whole", *command)
    folder = tmp_path / "killed"

    def answers() -> int:
        return lines(folder / "out.jsonl") - 1  # the first line is its header

    first = start(folder, *command)
    first.wait_for(answers, 3)
    first.process.kill()
    assert first.end() == -signal.SIGKILL
    kept = answers()
    assert 3 <= kept < N and not (folder / "out.parquet").exists()

    second = start(folder, *command)
    second.wait_for(answers, kept + 3)
    (server,) = [child for child in second.children if child.ppid() == second.process.pid]
    server.kill()
    assert second.end() == 2
    assert "Traceback" not in second.output
    (line,) = [line for line in second.output.splitlines() if "rm-robustness: error: " in line]
    assert "found no connection" in line and "run the same command again" in line
    assert answers() < N and not (folder / "out.parquet").exists()
    assert second.output.count(ASKED) <= answers() - kept + 1
    kept = answers()

    last = start(folder, *command)
    assert last.end() == 0, last.output[-3000:]
    assert last.output.count(ASKED) == N - kept
    assert uninterrupted.end() == 0, uninterrupted.output[-3000:]
    assert (folder / "out.parquet").read_bytes() == (tmp_path / "whole/out.parquet").read_bytes()
    frame = read_frame(folder / "out.parquet")
    assert frame["response"].nunique() > 1 and not frame["finished"].any()
    left = {path.name for path in folder.iterdir() if path.suffix != ".log"}
    assert left == {"out.parquet", "out.record.json"}


def test_a_judgement_goes_on_after_a_kill(tmp_path, start):
    models.build(JUDGE, tmp_path / "model")
    frame = pd.DataFrame({"example_id": IDS, "prompt": PROMPTS})
    baseline = frame.assign(reference=[f"The answer {n}." for n in range(N)], reference_model="b")
    write_frame(baseline, tmp_path / "instructions.parquet")
    answered = frame.assign(response=[f"It is {n} {n}!" for n in range(N)], response_model="sft")
    write_frame(answered, tmp_path / "sft/seed-0.parquet")
    settings: dict[str, Any] = {"kind": "vllm", "repo": JUDGE, "revision": "c" * 40}
    settings |= {"model": str(tmp_path / "model"), "dtype": "float32", "tensor_parallel_size": 1}
    settings |= {"serve_arguments": [*ARGUMENTS, "8192"], "serve_timeout": 600}
    command = ["judge", "--settings", json.dumps(settings | {"concurrency": 1, "retries": 1})]
    command += ["--instructions", tmp_path / "instructions.parquet"]
    command += ["--answers", tmp_path / "sft/seed-0.parquet"]
    command += ["--work", "work", "--output", "out.parquet"]
    uninterrupted = start(tmp_path / "whole", *command)
    folder = tmp_path / "killed"
    cache = folder / "work/answers.jsonl"

    first = start(folder, *command)
    first.wait_for(lambda: lines(cache), 3)
    first.process.kill()
    assert first.end() == -signal.SIGKILL
    kept = cache.read_bytes()
    assert 3 <= lines(cache) < N and not (folder / "out.parquet").exists()

    last = start(folder, *command)
    assert last.end() == 0, last.output[-3000:]
    assert last.output.count(ASKED) == N - kept.count(b"\n")
    assert cache.read_bytes().startswith(kept) and lines(cache) == N
    assert uninterrupted.end() == 0, uninterrupted.output[-3000:]
    assert (folder / "out.parquet").read_bytes() == (tmp_path / "whole/out.parquet").read_bytes()
    preferences = read_frame(folder / "out.parquet")["preference"]
    assert preferences.nunique() == N
