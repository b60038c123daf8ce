"""Two jobs must never write one folder, whatever died before."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rm_robustness.cluster import lease

HOLD = """
import sys, time
from pathlib import Path
from rm_robustness.cluster import lease
with lease.hold_lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(work: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(work), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_waits_for_the_first_and_says_for_whom(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = hold(tmp_path / "seed-0", 1.0)
    with lease.hold_lease(tmp_path / "seed-0"):
        assert first.poll() is not None or first.wait(2) == 0
    assert f"process {first.pid} on {os.uname().nodename}" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())  # no lease is left


def test_a_holder_that_was_killed_is_followed_at_once(tmp_path: Path) -> None:
    first = hold(tmp_path / "seed-0", 60)
    first.send_signal(signal.SIGKILL)
    first.wait()
    began = time.monotonic()
    with lease.hold_lease(tmp_path / "seed-0"):
        assert time.monotonic() - began < 2


def test_a_number_that_another_process_has_by_now_is_no_holder(tmp_path: Path) -> None:
    dead = {"machine": lease.machine(), "pid": os.getpid(), "started": "1", "token": "x"}
    (tmp_path / "seed-0.lease").write_text(json.dumps(dead))
    with lease.hold_lease(tmp_path / "seed-0"):
        pass


def test_a_holder_on_another_machine_is_dead_after_a_long_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    path = tmp_path / "seed-0.lease"
    path.write_text(json.dumps({"machine": "another", "host": "n7", "pid": 1, "token": "x"}))
    began = time.monotonic()
    with lease.hold_lease(tmp_path / "seed-0"):
        assert time.monotonic() - began >= 1.0


def test_a_holder_on_another_machine_with_a_heartbeat_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    path = tmp_path / "seed-0.lease"
    path.write_text(json.dumps({"machine": "another", "host": "n7", "pid": 1, "token": "x"}))
    context = multiprocessing.get_context("fork")
    other = context.Process(target=touch, args=(path, 2.5))
    other.start()
    began = time.monotonic()
    with lease.hold_lease(tmp_path / "seed-0"):
        assert time.monotonic() - began >= 2.0
    other.join()


def touch(path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.utime(path)
        time.sleep(0.2)


def test_a_holder_whose_lease_was_taken_over_ends(tmp_path: Path) -> None:
    code = f"from rm_robustness.cluster import lease; lease.BEAT = 0.2\n{HOLD}"
    command = [sys.executable, "-c", code, str(tmp_path / "seed-0"), "60"]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stderr is not None
    holder.stdout.readline()
    (tmp_path / "seed-0.lease").write_text(json.dumps({"machine": "another", "token": "new"}))
    assert holder.wait(5) == lease.LOST
    assert "another job has taken the lease over" in holder.stderr.read()
    assert (tmp_path / "seed-0.lease").exists()  # the new holder's


def test_many_that_begin_together_write_one_after_another(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    dead = {"machine": lease.machine(), "pid": 1, "started": "never", "token": "x"}
    (tmp_path / "seed-0.lease").write_text(json.dumps(dead))
    processes = [context.Process(target=write, args=(tmp_path, n)) for n in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = (tmp_path / "log").read_text().split()
    assert len(lines) == 12
    assert lines[::2] == lines[1::2]  # begin and end of one writer stand together


def write(folder: Path, number: int) -> None:
    with lease.hold_lease(folder / "seed-0"):
        for _ in range(2):
            with (folder / "log").open("a") as file:
                file.write(f"{number}\n")
            time.sleep(0.02)
