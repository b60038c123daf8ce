"""Jobs of one machine that take GPUs: each its own, for as long as it lives."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.paths import ROOT

from rm_robustness.cluster import gpus
from rm_robustness.errors import InputError

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a command in the shell of a job on a machine with four GPUs; all end with the test."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    # The lock files of this test alone.
    program = (
        "from pathlib import Path; from rm_robustness.cluster import gpus; "
        f"gpus.LOCKS = Path({str(tmp_path / 'locks')!r}); gpus.main()"
    )
    started = []

    def run(count: int, command: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-c", program, str(count), "-c", command]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.communicate()


SHOW = "echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER; "


def ids(process: "subprocess.Popen[str]") -> set[str]:
    """The GPUs of a job that runs."""
    assert process.stdout is not None
    visible, order = process.stdout.readline().split()
    assert order == "PCI_BUS_ID"
    return set(visible.split(","))


def waits(process: "subprocess.Popen[str]") -> bool:
    """Whether a job says that it waits, and has not begun."""
    assert process.stderr is not None
    return process.stderr.readline().startswith("GPUs: waiting for") and process.poll() is None


def test_jobs_at_the_same_time_have_gpus_of_their_own(start):
    one, two, three = (start(count, SHOW + "sleep 60") for count in (1, 2, 1))
    taken = [ids(job) for job in (one, two, three)]
    assert sorted(map(len, taken)) == [1, 1, 2]
    assert set.union(*taken) == {"0", "1", "2", "3"}


def test_a_job_that_wants_all_waits_until_the_last_has_ended(start):
    small = [start(2, "sleep 61 & " + SHOW + "sleep 60") for _ in range(2)]
    assert len(set.union(*map(ids, small))) == 4
    large = start(4, SHOW)
    assert waits(large)
    small[0].kill()
    time.sleep(1)
    assert large.poll() is None
    os.killpg(small[0].pid, 9)
    os.killpg(small[1].pid, 9)
    assert len(ids(large)) == 4


def test_a_killed_job_frees_its_gpus_once_its_last_process_is_gone(start):
    """As a trainer that outlives its launcher still computes on them."""
    job = start(4, "sleep 61 & " + SHOW + "sleep 60")
    assert len(ids(job)) == 4
    job.kill()
    job.wait()
    after = start(1, SHOW)
    assert waits(after)
    os.killpg(job.pid, 9)
    assert len(ids(after)) == 1


def test_a_job_without_gpus_sees_none_and_too_many_are_refused(start):
    job = start(0, "echo [$CUDA_VISIBLE_DEVICES]")
    assert job.communicate()[0] == "[]\n"
    job = start(5, "echo begun")
    out, err = job.communicate()
    assert (job.returncode, out) == (2, "")
    assert "error: GPUs: found 4 (0, 1, 2, 3); expected 5; correct the keys" in err
    assert err.count("\n") == 1


def test_a_command_that_fails_or_is_told_its_arguments_is_as_in_bash(start):
    job = start(1, "false | cat; exit 7")
    job.communicate()
    assert job.returncode == 7


def test_what_nvidia_smi_lists_is_what_there_is(monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/sh\ncase $1 in *index) printf '0\\n1\\n';; *) printf '81559\\n81559\\n';; esac\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.listed() == ["0", "1"]
    assert gpus.memory() == pytest.approx([85.5, 85.5], abs=0.1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpus.listed() == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.listed() == []
    smi.unlink()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.listed() == [] == gpus.memory()


def test_more_than_there_are_is_refused_before_anything_is_locked(monkeypatch, tmp_path):
    monkeypatch.setattr(gpus, "LOCKS", tmp_path / "locks")
    with pytest.raises(InputError, match=r"found 0 \(none\); expected 1"):
        gpus.take(1, [])
    assert not (tmp_path / "locks").exists()


SNAKEFILE = """
from pathlib import Path
from rm_robustness.cluster import gpus

shell.prefix("set -euo pipefail; trap '' TERM; ")

rule all:
    input: expand("{n}.txt", n=range(6))

rule one:
    output: "{n}.txt"
    resources: gpu=1, shell_exec=lambda wildcards: gpus.shell_of(1, Path("shells"))
    shell: "(echo $CUDA_VISIBLE_DEVICES; date +%s%N; sleep 0.5; date +%s%N) | tee {output}"
"""


@pytest.mark.slow
def test_snakemake_runs_as_many_at_once_as_there_are_gpus(tmp_path, monkeypatch):
    """In the shell that it takes from a resource, whose prefix stays the rules' own."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "8,9", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "6", "--resources", "gpu=2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spans: dict[str, list[tuple[int, int]]] = {}
    for path in tmp_path.glob("*.txt"):
        name, begun, ended = path.read_text().split()
        spans.setdefault(name, []).append((int(begun), int(ended)))
    assert spans.keys() == {"8", "9"}
    for times in spans.values():
        ordered = sorted(times)
        assert all(one[1] <= two[0] for one, two in pairwise(ordered))
