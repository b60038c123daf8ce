"""A small run folder in a git repository: real files and records, no training."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from support.paths import ROOT

from rm_robustness.experiment.settings import backbone as backbone_settings
from rm_robustness.experiment.settings import configured
from rm_robustness.experiment.settings import reward_model as reward_model_settings
from rm_robustness.files import sha256, write_json
from rm_robustness.provenance import git as revisions
from rm_robustness.provenance import record

SPLITS = ("train", "in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")
OBJECTIVES, SEEDS = ("bt", "bt-bsr"), (0, 1)
STAGES: dict[str, list[str]] = {
    "splits": ["raw", "splits"],
    "backbones": ["backbones"],
    "reward_models": ["reward_models"],
    "scores": ["scores"],
    "alpaca_eval": ["alpaca_eval"],
    "results": ["results"],
}
SOURCES = ["src/rm_robustness/models/scoring.py", "src/rm_robustness/data"]
UNRELEASED = "runs/demo/reward_models/llama/bt/seed-1/model.safetensors"
TABLE = """preset,backbone,method,metric,value,ci_low,ci_high,n_seeds,difference,difference_low,\
difference_high,p_holm,paper,paper_model
demo,llama,bt,in_domain_accuracy,0.61,0.5,0.7,2,,,,,0.71,Llama-3.2-1B
demo,llama,bt-bsr,in_domain_accuracy,0.68,0.5,0.8,2,0.07,0.01,0.1,0.03,,
demo,llama,bt,mutual_disjoint_tau,0.2,0.1,0.3,2,,,,,,
demo,llama,bt-bsr,mutual_disjoint_tau,0.3,0.2,0.4,2,0.1,0.05,0.2,0.02,,
demo,llama,bt,prompt_disjoint_tau,0.2,0.1,0.3,2,,,,,,
demo,llama,bt,response_disjoint_tau,0.2,0.1,0.3,2,,,,,,
demo,llama,bt-bsr,average,,,,2,0.08,0.04,0.1,0.02,,
demo,all,bt-bsr,average,,,,2,0.08,0.04,0.1,0.02,,
demo,-,length,in_domain_accuracy,0.5,0.4,0.6,,,,,,,
"""


def job(command: str, settings: Any, inputs: list[str], files: dict[str, str], **more: Any) -> None:
    """Write files, their record, and what Snakemake would have noted."""
    paths = [Path(name) for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    used = {name: {"path": name, "sha256": sha256(Path(name))} for name in inputs}
    verb, *rest = command.split()
    with patch.object(sys, "argv", ["rm-robustness", verb, "--settings", "{}", *rest]):
        made = record.record(settings, used, paths, more.get("seed"), time.time())
    stems = {path.stem for path in paths}
    name = f"{stems.pop()}.record.json" if len(stems) == 1 else "record.json"
    write_json(made, paths[0].with_name(name))
    for path in [*paths, paths[0].with_name(name)]:
        shown = made["command"].replace("SETTINGS", shlex.quote(json.dumps(settings)))
        noted = {"rule": f"rule_{verb}", "shellcmd": shown}
        note = Path(".snakemake/metadata") / urlsafe_b64encode(str(path).encode()).decode()
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(noted))


def make_run(root: Path) -> Path:
    """A repository with runs/demo of one backbone, two objectives, two seeds and table 5."""
    for name in ("src/rm_robustness", "config", "workflow/schemas"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=skipped, dirs_exist_ok=True)
    (root / "data").mkdir()
    (root / "data/published.csv").write_text("1\n")
    (root / ".gitignore").write_text("/runs\n/results\n.snakemake\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "start")
    with contextlib.chdir(root):
        revisions.revision.cache_clear()
        _make()
        revisions.revision.cache_clear()
    return root


def _make() -> None:
    run = "runs/demo"
    config = yaml.safe_load(Path("config/demo.yaml").read_text("utf-8"))

    def own(path: str) -> Any:
        return configured(config, f"{run}/{path}")

    raw = f"{run}/raw/responses.parquet"
    job(f"responses --output {raw}", own("raw/responses.record.json"), [], {raw: "responses"})
    splits = {f"{run}/splits/{name}.parquet": name for name in SPLITS}
    job(f"splits --output {run}/splits", own("splits/record.json"), [raw], splits)
    gold, chats = f"{run}/raw/gold.parquet", f"{run}/raw/chats/world.parquet"
    job(f"gold --output {gold}", config["gold"], [raw], {gold: "gold"})
    job(f"chats --output {chats}", config["sources"]["world"], [], {chats: "chats"})
    llama = f"{run}/backbones/llama"
    files = {f"{llama}/model.safetensors": "weights", f"{llama}/tokenizer.json": "{}"}
    job(f"backbone --output {llama}", backbone_settings(config, "llama"), [], files)
    for objective in OBJECTIVES:
        settings = reward_model_settings(config, "llama", objective)
        for seed in SEEDS:
            output = f"{run}/reward_models/llama/{objective}"
            files = {
                f"{output}/seed-{seed}/model.safetensors": f"{objective} {seed}",
                f"{output}/seed-{seed}/README.md": "card",
            }
            inputs = [f"{llama}/model.safetensors", f"{run}/splits/train.parquet"]
            command = f"train --seeds 0 1 --output {output}"
            job(command, settings, inputs, files, seed=seed)
            folder = f"{run}/scores/llama/{objective}/seed-{seed}"
            scores = {f"{folder}/{split}.parquet": f"{objective} {split}" for split in SPLITS[1:]}
            inputs = [f"{output}/seed-{seed}/model.safetensors", *[*splits][1:]]
            job(f"score --output {' '.join(scores)}", config["scoring"], inputs, scores)
    answers = f"{run}/alpaca_eval/outputs/sft/seed-0.parquet"
    generation, model = config["alpaca_eval"]["generation"], f"{llama}/model.safetensors"
    job(f"answers --output {answers}", generation, [model], {answers: "answers"})
    inputs = [
        f"{run}/scores/llama/{o}/seed-{s}/{p}.parquet"
        for o in OBJECTIVES
        for s in SEEDS
        for p in SPLITS[1:]
    ]
    inputs += ["data/published.csv", *[*splits][1:]]
    table = {f"{run}/results/table5{end}": TABLE for end in (".csv", ".md", ".html")}
    csv = f"{run}/results/table5.csv"
    job(f"table5 --output {csv}", own("results/table5.record.json"), inputs, table)
    Path("results").mkdir()
    for end in (".csv", ".md", ".record.json"):
        shutil.copy(f"{run}/results/table5{end}", "results")


def track(root: Path) -> Path:
    """Put a run into DVC, with a remote in the repository, and commit."""
    stages = {
        name: {
            "cmd": f"snakemake -- {name}",
            "deps": SOURCES,
            "params": [{"config/demo.yaml": None}],
            "outs": [{f"runs/demo/{out}": {"persist": True}} for out in outs],
        }
        for name, outs in STAGES.items()
    }
    stages["reward_models"]["deps"] = [*SOURCES, "runs/demo/backbones"]
    (root / ".gitignore").write_text(".snakemake\n__pycache__\n")
    (root / "src/rm_robustness/data/__pycache__").mkdir()
    (root / "src/rm_robustness/data/__pycache__/gold.pyc").write_text("compiled")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    dvc(root, "init", "-q")
    ignored = (UNRELEASED, "__pycache__", "/src/rm_robustness/data/__init__.py")
    (root / ".dvcignore").write_text("".join(f"{pattern}\n" for pattern in ignored))
    dvc(root, "config", "core.analytics", "false")
    dvc(root, "remote", "add", "-q", "-d", "released", "dvcstore")
    dvc(root, "remote", "modify", "released", "verify", "true")
    dvc(root, "commit", "-q", "-f")
    dvc(root, "push", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "tracked")
    return root


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def dvc(root: Path, *arguments: str) -> None:
    shell(root, "dvc " + " ".join(arguments))


def shell(root: Path, command: str) -> None:
    """Run a command as a person would, with this environment's programs."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=root,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == 0, done.stderr
