"""The stand-ins of every repository that the paper's run downloads, on a hub of this machine."""

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rm_robustness.experiment.config import Settings
from rm_robustness.experiment.downloads import Repository as Wanted
from rm_robustness.experiment.downloads import repositories
from rm_robustness.files import write_text
from rm_robustness.provenance.licences import LICENCES

from . import data, models
from .hub import Hub, Repository, serving

TOKEN = "hf_ofTheRehearsal"
GIT = "THU-KEG/RM-Bench"
# What goes wrong once while the run downloads.
CUT = {"allenai/OLMo-2-1124-7B-Instruct/model-00002-of-00003.safetensors": 20_000}
GOES_DOWN = {"mistralai/Mistral-7B-Instruct-v0.2/model-00002-of-00003.safetensors": 3.0}


def build(folder: Path, config: Settings) -> bool:
    """Write the stand-ins into `folder`, unless they are there; says whether it wrote them."""
    digest = _fingerprint()
    stamp = folder / "fingerprint"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    for wanted in {each.page: each for each in repositories(config)}.values():
        place = folder / wanted.page
        if wanted.kind == "dataset":
            place.mkdir(parents=True)
            data.DATASETS[wanted.repo](place)
        else:
            models.build(wanted.repo, place)
    git = folder / "git" / f"{GIT}.git"
    git.mkdir(parents=True)
    write_text(data.rm_bench(git), folder / "rm_bench.commit")
    write_text(digest, stamp)
    return True


@contextmanager
def hub(folder: Path, config: Settings) -> Iterator[Hub]:
    """Serve the stand-ins in `folder` under the names and commits of a configuration."""
    known = {
        each.page: Repository(folder / each.page, commit(each)) for each in repositories(config)
    }
    with serving(Hub(known, TOKEN, folder / "git")) as server:
        server.gated = {name for name in known if LICENCES[name.removeprefix("datasets/")].gated}
        yield server


def commit(wanted: Wanted) -> str:
    """The commit of a repository: the one that the configuration names, if it does."""
    return wanted.revision or hashlib.sha1(wanted.repo.encode()).hexdigest()


def _fingerprint() -> str:
    """A hash of all that the stand-ins are made of."""
    digest = hashlib.sha256()
    for module in (data, models, models.vocabularies):
        digest.update(Path(module.__file__).read_bytes())
    for package in ("torch", "transformers", "tokenizers", "trl", "pyarrow"):
        digest.update(f"{package} {importlib.metadata.version(package)}".encode())
    return digest.hexdigest()
