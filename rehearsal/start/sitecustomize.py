"""What every Python process of a rehearsal does first: the offline guard, and a switch of vLLM's.

The guard ends any connection that a command opens to another machine or to the hub, unless it is
one that downloads, and notes it in a file. A CPU has no other use of vLLM's switch: its linear
layers drop a weight once it is packed for oneDNN, so that RLOO could not load new ones.
"""

import importlib.abc
import importlib.util
import os
import sys
import urllib.parse
from pathlib import Path

VLLM_OPERATIONS = "vllm._custom_ops"


def is_online() -> bool:
    """Whether this is a command that downloads; its name follows that of the program."""
    words = [Path(word).name.replace("-", "_") for word in sys.orig_argv]
    command = words[words.index("rm_robustness") + 1 :][:1] if "rm_robustness" in words else []
    return bool({*command} & {*os.environ["REHEARSAL_ONLINE"].split(",")})


def guard(event: str, arguments: tuple) -> None:
    """Refuse a connection that leaves this machine, or goes to the hub."""
    if event != "socket.connect" or not isinstance(arguments[1], tuple):
        return
    host, port = arguments[1][:2]
    if host in ("127.0.0.1", "::1", "localhost") and port != HUB:
        return
    with open(os.environ["REHEARSAL_CONNECTIONS"], "a") as file:  # noqa: PTH123 - before imports
        file.write(f"{host}:{port} by {' '.join(sys.orig_argv)[:300]}\n")
    raise PermissionError(f"a connection to {host}:{port} by a command that must be offline")


class KeepWeights(importlib.abc.MetaPathFinder):
    """Sets the switch when vLLM's operations are imported."""

    def find_spec(self, name, path, target=None):
        """The spec that the other finders know, with an addition to its loading."""
        if name != VLLM_OPERATIONS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module._supports_onednn = False

        spec.loader.exec_module = exec_module
        return spec


if "REHEARSAL_ONLINE" in os.environ:
    HUB = urllib.parse.urlparse(os.environ["HF_ENDPOINT"]).port
    if not is_online():
        sys.addaudithook(guard)
    if os.environ.get("ACCELERATE_USE_CPU"):
        sys.meta_path.insert(0, KeepWeights())
