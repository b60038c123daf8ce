"""Snakemake's output in two lines a job: its start with its log, its end with the time left.

Snakemake finds it by its name, for `logger: steps` in profiles/default. All else, errors and the
logs of failed jobs among it, stays Snakemake's own text, as does its log under .snakemake/log.
"""

import re
import sys
import time
from collections import Counter, defaultdict
from logging import LogRecord
from statistics import fmean, median
from typing import Any

from snakemake import logging as snakemake  # type: ignore[import-untyped]
from snakemake_interface_logger_plugins.base import LogHandlerBase

from rm_robustness.progress import clock

Message = dict[str, Any]
ROUNDS = re.compile(r"Select jobs to execute\.\.\.|Execute \d+ jobs\.\.\.")


class Steps(snakemake.DefaultFormatter):  # type: ignore[misc]
    """Formats the jobs' starts and ends, and leaves the rest to Snakemake."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.jobs: Counter[str] = Counter()  # of each rule, to run
        self.running: dict[int, tuple[str, str, float]] = {}  # rule, name, start
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)  # of each rule's jobs
        self.began, self.ended = time.monotonic(), ""

    def format(self, record: LogRecord) -> str:
        """Nothing for the scheduler's rounds."""
        return "" if ROUNDS.fullmatch(str(record.msg)) else str(super().format(record))

    def format_run_info(self, msg: Message) -> str:
        """Snakemake's table of the jobs, remembered."""
        self.jobs = Counter({rule: n for rule, n in msg["stats"].items() if rule != "total"})
        return str(msg["msg"])

    def format_job_info(self, msg: Message) -> str:
        """A line with the job's log, which has its progress."""
        name = " ".join([msg["rule_name"], *map(str, msg["wildcards"].values())])
        self.running[msg["jobid"]] = msg["rule_name"], name, time.monotonic()
        return f"{name}: started, {' '.join(msg['log'])}" if msg["log"] else ""

    def format_job_error(self, msg: Message) -> str:
        """Snakemake's text, with the log; the job runs no longer."""
        self.running.pop(msg["jobid"], None)
        return str(super().format_job_error(msg))

    def format_job_finished(self, msg: Message) -> str:
        """Nothing yet: the event of progress follows at once."""
        if job := self.running.pop(msg["job_id"], None):  # none with `--quiet rules`
            rule, name, start = job
            self.seconds[rule].append(time.monotonic() - start)
            self.ended = f"{name}: done in {clock(self.seconds[rule][-1])}; "
        return ""

    def format_progress(self, msg: Message) -> str:
        """A line with the job that ended, the steps done, and the time left for all of them."""
        now, steps = time.monotonic(), f"{self.ended}{msg['done']} of {msg['total']} steps"
        if msg["done"] == msg["total"]:
            return f"{steps}, all in {clock(now - self.began)}"
        if not self.seconds or msg["done"] < msg["total"] / 10:  # the first few are no guide
            return f"{steps}, ? left"
        new = len(self.jobs.keys() - self.seconds.keys() - {"all"})
        guessed = f" ({new} rule{'s' * (new > 1)} yet to be timed)" if new else ""
        return f"{steps}, about {clock(self.left(now))} left{guessed}"

    def left(self, now: float) -> float:
        """Seconds left, if jobs take as long as those of their rule so far on average.

        Those of a rule without an ended job take the median of the others' averages.
        """
        known = {rule: fmean(jobs) for rule, jobs in self.seconds.items()}
        usual = {rule: known.get(rule, median(known.values())) for rule in self.jobs}
        ended = sum(map(sum, self.seconds.values()))
        going = [(usual[rule], now - start) for rule, _, start in self.running.values()]
        whole = sum(n * usual[rule] for rule, n in self.jobs.items())
        done = ended + sum(min(times) for times in going)
        spent = ended + sum(seconds for _, seconds in going)
        return (whole - done) * (now - self.began) / spent  # as many jobs at once as so far


class LogHandler(LogHandlerBase, snakemake.ColorizingTextHandler):  # type: ignore[misc]
    """Snakemake's handler for the terminal, with `Steps`; a dry run is shown in full."""

    writes_to_stream, writes_to_file, needs_rulegraph = True, False, False
    has_filter, has_formatter = False, True

    def __post_init__(self) -> None:
        told = self.common_settings
        self.brief = not told.dryrun
        formatter = (Steps if self.brief else snakemake.DefaultFormatter)(
            told.quiet, told.show_failed_logs
        )
        stream = sys.stdout if told.stdout else sys.stderr
        snakemake.ColorizingTextHandler.__init__(self, told.nocolor, stream, formatter)

    def emit(self, record: LogRecord) -> None:
        """Print a record, without the blank line that Snakemake puts before a job."""
        self.last_msg_was_job_info |= self.brief
        snakemake.ColorizingTextHandler.emit(self, record)
