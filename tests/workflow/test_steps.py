"""What Snakemake prints while it runs: two lines a job, the time left, errors in full."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from snakemake_logger_plugin_steps import Steps

SNAKEFILE = """\
rule all:
    input: expand("{n}.txt", n=range(12))

rule one:
    output: "{n}.txt"
    log: "logs/{n}.log"
    shell: "(echo progress; FAILS) > {log} 2>&1 && touch {output}"
"""


@pytest.fixture
def ran(tmp_path):
    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("FAILS", command))
        words = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "steps"]
        return subprocess.run(
            [*words, "--show-failed-logs", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def test_a_job_has_two_lines_and_the_whole_a_time_left(ran):
    answer = ran("true")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stderr.splitlines()
    jobs = [line for line in lines if re.match(r"one \d+:", line)]
    assert len(jobs) == 24 and "progress" not in answer.stderr
    starts = [line for line in jobs if re.fullmatch(r"one (\d+): started, logs/\1\.log", line)]
    ends = [line for line in jobs if re.match(r"one \d+: done in 0:\d\d; \d+ of 13 steps, ", line)]
    assert len(starts) == len(ends) == 12
    assert ends[0].endswith("1 of 13 steps, ? left")  # too soon to say
    assert all(re.search(r", about 0:\d\d left$", line) for line in ends[1:])
    assert re.search(r"^all: done in .*; 13 of 13 steps, all in 0:\d\d$", answer.stderr, re.M)
    assert "Select jobs" not in answer.stderr and "left\n\n" not in answer.stderr


def test_a_failure_and_its_log_are_shown_in_full(ran):
    answer = ran("echo the cause; false")
    assert answer.returncode == 1
    assert "Error in rule one:" in answer.stderr and "the cause" in answer.stderr
    assert "Logging error" not in answer.stderr


def test_a_dry_run_is_snakemakes_own(ran):
    answer = ran("true", "--dry-run")
    assert "rule one:" in answer.stdout and "reason: Missing output files" in answer.stdout


def test_quiet_leaves_nothing_behind(ran):
    answer = ran("true", "--quiet", "rules")
    assert answer.returncode == 0 and "Logging error" not in answer.stderr
    assert "13 of 13 steps" in answer.stderr and ": started" not in answer.stderr


def test_the_time_left_is_each_rules_own():
    steps = Steps()
    steps.began = 0.0
    steps.jobs = Counter(long=4, short=10, new=1)
    steps.seconds.update(long=[100.0, 100.0], short=[10.0])
    # Two long ones, nine short ones, and a new one of their median, one at a time.
    assert steps.left(210.0) == pytest.approx(2 * 100 + 9 * 10 + 55)
    assert steps.left(105.0) == pytest.approx((2 * 100 + 9 * 10 + 55) / 2)  # two at a time
    steps.running[7] = ("long", "long 7", 180.0)
    assert steps.left(240.0) == pytest.approx((2 * 100 - 60 + 9 * 10 + 55) * 240 / 270)
    steps.running[7] = ("long", "long 7", 30.0)  # longer than is usual: nothing of it is left
    assert steps.left(240.0) == pytest.approx((1 * 100 + 9 * 10 + 55) * 240 / 420)
