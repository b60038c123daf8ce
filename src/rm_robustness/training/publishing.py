"""Finished folders, put in place by rank 0 when a command's trainings are all done."""

import os
import shutil
from pathlib import Path

from .loop import publish, tidy


def publish_all(finals: dict[Path, Path]) -> None:
    """Put each finished folder's files into the folder beside it, then prune its work folder.

    All are published before any is pruned. Does nothing but on rank 0.
    """
    if int(os.environ.get("RANK", "0")) != 0:
        return
    linked = {final: publish(final, folder) for final, folder in finals.items()}
    for final in finals:
        if linked[final]:
            tidy(final.parent)
        else:  # a copy would take the space twice
            shutil.rmtree(final.parent, ignore_errors=True)
