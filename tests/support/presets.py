"""Presets as they are, and a dry run of the workflow in a folder of its own."""

import copy
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from support.paths import ROOT

PINNED = ROOT / "tests/support/pinned.yaml"  # on top of `paper`, whose dry run it makes possible


@functools.cache
def parsed(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")))


def preset(name: str) -> dict[str, Any]:
    return copy.deepcopy(parsed(name))


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Plan, without running, in a folder that has the workflow and nothing made by it."""
    for name in ("config", "workflow", "data", "profiles", "src"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    shutil.copy(ROOT / "Snakefile", folder)
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
    )
