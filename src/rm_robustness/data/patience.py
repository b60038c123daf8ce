"""Patience with a server of downloads that does not answer for a while."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import InputError

T = TypeVar("T")
LONGEST = 60.0  # seconds between two attempts


class UnavailableError(InputError):
    """A server gave no answer, or said that it cannot give one now."""


def patiently(read: Callable[[], T], seconds: float) -> T:
    """Call `read`; after an UnavailableError again, with growing pauses of `seconds` in all.

    The last UnavailableError is raised. A retry of the whole job by Snakemake follows at once, so
    that all of them would fall into the same minute.
    """
    pause, left = 1.0, seconds
    while True:
        try:
            return read()
        except UnavailableError as error:
            if left <= 0:
                raise
            wait = min(pause, left)
            print(f"{error.where}: {error.found}; again in {wait:g} s", file=sys.stderr, flush=True)
        time.sleep(wait)
        pause, left = min(2 * pause, LONGEST), left - wait
