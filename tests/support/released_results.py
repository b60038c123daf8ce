"""The released results of a preset, from the repository's own store."""

import json
from pathlib import Path
from shutil import copy2

import yaml
from support.paths import ROOT
from support.released import key


def released_results(folder: Path, preset: str) -> Path:
    """Put the files of runs/PRESET/results into a folder, as `dvc pull` and a copy would."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    outs = stages[f"results@{preset}"]["outs"]
    (listing,) = [out["md5"] for out in outs if out["path"] == f"runs/{preset}/results"]
    for entry in json.loads((ROOT / "dvcstore" / key(listing)).read_text()):
        copy2(ROOT / "dvcstore" / key(entry["md5"]), folder / entry["relpath"])
    return folder
