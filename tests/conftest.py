import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Snakemake's plugin asks Slurm as it is imported: one that is installed and not running takes nine
# seconds to say so. Tests of Slurm name their own.
os.environ.setdefault("SLURM_CONF", "/dev/null")

# A shared machine stalls now and then; a slow example is no failure.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> None:
    """Scores of evaluations go into a cache of the tests' own, for subprocesses too."""
    os.environ["RM_ROBUSTNESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def world() -> pd.DataFrame:
    """A little of the synthetic world with its gold."""
    from rm_robustness.data.gold import add_gold
    from rm_robustness.data.synthetic.responses import TRAIN_RESPONDERS, VALID_RESPONDERS, responses

    frame = responses(
        seed=0,
        prompts=120,
        train_models=list(TRAIN_RESPONDERS[:6]),
        valid_models=list(VALID_RESPONDERS),
        responses_per_prompt=4,
        length_quality_correlation=0.6,
        valid_length_quality_correlation=-0.6,
    )
    return add_gold(frame, {"kind": "programmatic"})


@pytest.fixture(scope="session")
def split_settings() -> dict[str, Any]:
    from rm_robustness.data.synthetic.responses import TRAIN_RESPONDERS, VALID_RESPONDERS

    return {
        "seed": 11,
        "train_prompts": 70,
        "train_responses": 2,
        "valid_prompts": None,
        "evaluation_prompts": None,
        "max_characters": None,
        "repeated_prompts": "keep_one",
        "identical_responses": "drop_prompt",
        "empty_responses": "error",
        "max_left_out": 0.0,
        "responses_per_prompt": 4,
        "train_models": list(TRAIN_RESPONDERS[:6]),
        "valid_models": list(VALID_RESPONDERS),
    }


@pytest.fixture(scope="session")
def splits(world: pd.DataFrame, split_settings: dict[str, Any], tmp_path_factory: Any) -> Path:
    """A folder with the five splits of the little world."""
    from rm_robustness.data.splits import build_splits
    from rm_robustness.frames import write_frame

    folder = tmp_path_factory.mktemp("splits")
    for name, frame in build_splits(world, split_settings)[0].items():
        write_frame(frame, folder / f"{name}.parquet")
    return Path(folder)


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def backbone(request: pytest.FixtureRequest, world: pd.DataFrame, tmp_path_factory: Any) -> Path:
    """An untrained backbone of each architecture, with a tokenizer of its own."""
    from support.small_models import make_backbone

    return make_backbone(request.param, world, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def llama(world: pd.DataFrame, tmp_path_factory: Any) -> Path:
    """An untrained Llama backbone."""
    from support.small_models import make_backbone

    return make_backbone("llama", world, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: Any) -> Path:
    """A clone in which the cut demo ran to its end on two cores; each pytest worker has a copy."""
    from support.cut_demo import DEMO, clone, snakemake

    root = tmp_path_factory.getbasetemp()
    run = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "cut-demo"
    with FileLock(f"{run}.lock"):
        if not run.is_dir():
            folder = clone(tmp_path_factory.mktemp("cut-demo"))
            answer = snakemake(folder, "--cores", "2", *DEMO, "--", "all")
            assert answer.returncode == 0, answer.stderr[-3000:]
            folder.rename(run)
    copy = tmp_path_factory.mktemp("finished") / "run"
    subprocess.run(["cp", "-a", run, copy], check=True)  # hard links stay hard links
    return Path(copy)


@pytest.fixture(scope="session")
def released(tmp_path_factory: Any) -> Any:
    """A small repository whose models are released through DVC."""
    from support.released import release

    return release(tmp_path_factory.mktemp("released") / "repository")
