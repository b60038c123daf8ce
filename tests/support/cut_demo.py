"""The demo cut small, in a clone of its own, through Snakemake itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from support.paths import ROOT

DEMO = ("--configfile", "config/demo.yaml", "cut.yaml")
CUT = {
    "preset": "cut",
    "grid": {"objectives": ["bt", "bt-bsr"], "seeds": [0, 1]},
    "sources": {"world": {"prompts": 260, "chats": 300, "instructions": 12, "subtle_prompts": 4}},
    "splits": {"train_prompts": 200, "evaluation_prompts": 30},
    "reward_models": {"epochs": 1, "probe_pairs": 16, "probe_evals": 3, "save_steps": 5},
    "rm_bench": {"objectives": ["bt", "bt-bsr", "bt-bsr@1e-2"], "seeds": [0, 1]},
    "ranks": {"rows": [16, 64]},
    "rloo": {
        "runs": {
            name: {
                "reward_models": {"bt": "llama/bt", "bt-bsr": "llama/bt-bsr"},
                "reward_model_seeds": [0, 1],
            }
            for name in ("standard", "large")
        },
        "seeds": [0, 1],
        "epochs": 2,
        "prompts_per_update": 10,
        "micro_batch": 5,
        "response_length": 16,
        "eval_every": 2,
        "eval_prompts": 8,
        "save_updates": 1,
    },
    "alpaca_eval": {"seeds": [0, 1], "generation": {"max_new_tokens": 16}},
}


def clone(folder: Path, released: bool = False) -> Path:
    """The files that git tracks or would track, as a fresh clone has them; `released` ones too."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if name.startswith(("dvcstore/", "dvc.lock")) and not released:
            continue
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / "cut.yaml").write_text(yaml.safe_dump(CUT))
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PATH": path},
    )


def csvs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "results").glob("*.csv"))}
