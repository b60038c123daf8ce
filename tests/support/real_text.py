"""Checkouts in the layout of AlpacaEval and of RM-Bench, a few rows long, and a server of them."""

import json
import subprocess
from pathlib import Path
from typing import Any

from rm_robustness.data.alpaca_eval import ANNOTATIONS
from rm_robustness.experiment.scenarios import RM_BENCH_DOMAINS


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", *identity, "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_alpaca_eval(folder: Path, models: list[str], instructions: int = 40) -> Path:
    """Annotations of `models`; each prefers the later of two models a little more."""
    for place, model in enumerate(models):
        rows = [
            {
                "instruction": f"question {n}",
                "output_1": "baseline",
                "output_2": f"answer of {model} to {n}",
                "preference": 1 + ((place * 7 + n * 3) % 89) / 100,
            }
            for n in range(instructions)
        ]
        path = folder / "results" / model / ANNOTATIONS
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    return folder


def write_rm_bench(folder: Path, domains: tuple[str, ...] = RM_BENCH_DOMAINS) -> Path:
    """Two prompts a domain, in the sub-folder `data`."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for domain in domains:
        rows = [
            {
                "id": n,
                "prompt": f"{domain} question {n}",
                "chosen": [f"right {style} {n}" for style in "abc"],
                "rejected": [f"wrong {style} {n}" for style in "abc"],
            }
            for n in (1, 2)
        ]
        (folder / "data" / f"{domain}_filtered.json").write_text(json.dumps(rows))
    return folder


def serve(work: Path, bare: Path, files: list[str]) -> dict[str, Any]:
    """Commit a folder into a bare repository that serves any commit; the settings of its source."""
    git(work, "init", "--quiet")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", "first")
    git(work, "clone", "--quiet", "--bare", str(work), str(bare))
    git(bare, "config", "uploadpack.allowFilter", "true")
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit = git(work, "rev-parse", "HEAD")
    settings = {"kind": "local", "path": None, "repository": bare.as_uri()}
    return settings | {"commit": commit, "files": files}
