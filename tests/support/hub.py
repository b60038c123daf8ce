"""A local hub (rehearsal/hub.py) whose repositories are folders at one commit, and its user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehearsal.hub import Hub, Repository, serving

COMMIT = "c" * 40
TOKEN = "hf_madeUpForTheTests"


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[Hub]:
    """Run a hub with these repositories."""
    known = {name: Repository(folder, COMMIT) for name, folder in repositories.items()}
    with serving(Hub(known, TOKEN)) as hub:
        yield hub


MAIN = "from rm_robustness.cli.main import main; main()"


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """That of a machine that knows this hub and no other."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
    kept = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and "proxy" not in k.lower()}
    return kept | own


def run(
    hub: Hub, folder: Path, *arguments: object, program: str = MAIN, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` with `more` in its environment."""
    hub.requests.clear()
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env=environment(hub, folder) | more,
        capture_output=True,
        text=True,
        check=False,
    )
