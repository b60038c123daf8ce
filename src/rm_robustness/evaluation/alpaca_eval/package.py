"""Lazy and silent import of the `alpaca_eval` package."""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType, SimpleNamespace


def package() -> ModuleType:
    """Import the package, without its INFO logging and progress bars; the import takes seconds.

    It reads its version from `pkg_resources`, which setuptools 82 removed: a stub provides it.
    """
    if "alpaca_eval" not in sys.modules:
        level, missing = logging.root.level, importlib.util.find_spec("pkg_resources") is None
        if missing:
            stand_in = ModuleType("pkg_resources")
            stand_in.get_distribution = metadata.distribution  # type: ignore[attr-defined]
            sys.modules["pkg_resources"] = stand_in
        imported = importlib.import_module("alpaca_eval")
        logging.root.setLevel(level)
        if missing:
            del sys.modules["pkg_resources"]
        imported.utils.tqdm = SimpleNamespace(tqdm=lambda rows, **_: rows)
    return sys.modules["alpaca_eval"]


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager that disables logging: the package logs a line a step."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
