"""A program of a test under two hash seeds: what depends on the order of a set prints two texts."""

import os
import subprocess
import sys


def printed(program: str) -> set[str]:
    """What a program prints, under each hash seed."""
    return {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
