"""The `alpaca_eval` package: imported when it is needed, and kept quiet."""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType, SimpleNamespace


def package() -> ModuleType:
    """Import the package, which takes seconds, logs at INFO from then on, and draws bars.

    It asks `pkg_resources`, which setuptools 82 dropped, for its own version: a stand-in has that.
    """
    if "alpaca_eval" not in sys.modules:
        level, missing = logging.root.level, importlib.util.find_spec("pkg_resources") is None
        if missing:
            stand_in = ModuleType("pkg_resources")
            stand_in.get_distribution = metadata.distribution  # type: ignore[attr-defined]
            sys.modules["pkg_resources"] = stand_in
        found = importlib.import_module("alpaca_eval")
        logging.root.setLevel(level)
        if missing:
            del sys.modules["pkg_resources"]
        found.utils.tqdm = SimpleNamespace(tqdm=lambda rows, **_: rows)
    return sys.modules["alpaca_eval"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the package's log, which has a line per step, for the block."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
