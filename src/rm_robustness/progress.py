"""Text for a terminal and a log file alike: a line of progress, and aligned columns."""

import sys
import time


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Print `label: done/total unit, rate, time left` to stderr at most every few seconds.

    `done` may start above zero when work is resumed: the rate counts this process's work only.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0, every: float = 5.0):
        self.label, self.total, self.unit, self.every = label, total, unit, every
        self.done = self.first = done
        self.started = self.printed = time.monotonic()
        self.cpu = time.process_time()

    def skip(self, count: int) -> None:
        """Count what an earlier process has done."""
        self.done += count
        self.first += count

    def update(self, done: int, note: str = "") -> None:
        """Set how much is done; print when it is time, and always at the end."""
        self.done = done
        now = time.monotonic()
        if now - self.printed < self.every and done < self.total:
            return
        self.printed = now
        rate = (done - self.first) / max(now - self.started, 1e-9)
        left = f"{clock((self.total - done) / rate)} left" if rate else "? left"
        if done >= self.total:
            cpu = time.process_time() - self.cpu
            left = f"done in {clock(now - self.started)} ({cpu:.1f} s of CPU)"
        print(
            f"{self.label}: {done}/{self.total} {self.unit}, {rate:.1f}/s, {left}{note}",
            file=sys.stderr,
            flush=True,
        )


def aligned(cells: list[list[str]], left: int) -> list[str]:
    """Align rows of strings in columns, the first `left` of them left-aligned; returns lines."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
