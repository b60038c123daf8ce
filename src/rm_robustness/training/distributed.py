"""Distributed processes of a training: world size, rank 0, broadcasts and barriers."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..cluster.launch import on_cpu
from ..errors import InputError

TIMEOUT = 4 * 3600  # seconds until a collective gives up: an evaluation or a large save is long
T = TypeVar("T")


def world_size() -> int:
    """Number of processes that train together; set by the launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_rank_0() -> bool:
    """Whether this process is the one that writes files; set by the launcher."""
    return int(os.environ.get("RANK", "0")) == 0


def on_main_process(make: Callable[[], T]) -> T:
    """Run `make` on rank 0 and broadcast its result or its InputError.

    The other ranks wait meanwhile, so none of them reads files that are still being written, and
    none is left waiting for a rank 0 that has failed.
    """
    if world_size() == 1:
        return make()
    result_and_error: list[Any] = [None, None]
    if join_processes().is_main_process:
        try:
            result_and_error[0] = make()
        except InputError as error:
            result_and_error[1] = error
    broadcast_object_list(result_and_error)
    if result_and_error[1]:
        raise result_and_error[1]
    return result_and_error[0]  # type: ignore[no-any-return]


def join_processes() -> PartialState:
    """Return accelerate's state; the first call sets up the process group."""
    return PartialState(cpu=on_cpu(), timeout=timedelta(seconds=TIMEOUT))


def wait_for_all() -> None:
    """Block until every process has called this."""
    if world_size() > 1:
        join_processes().wait_for_everyone()
