"""What is fetched from the hub: at its commit, checked, whole or not there; and each fault."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.hub import COMMIT, MAIN, TOKEN, Hub, environment, run, serve

from rm_robustness.files import hashes, read_json

CHUNK = 10 * 2**20  # huggingface_hub writes so many bytes at a time


@pytest.fixture(scope="module")
def repository(tmp_path_factory: Any) -> Path:
    """A repository with a large file, small ones and what is never fetched."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(os.urandom(2 * CHUNK + 5))
    (folder / "samples.parquet").write_bytes(b"samples")
    for name in ("modeling.py", "record.json", "weights.bin"):
        (folder / name).write_text("{}")
    return Path(folder)


@pytest.fixture
def hub(repository):
    with serve({"some/model": repository, "datasets/some/data": repository}) as server:
        yield server


def origin(**changes: Any) -> dict[str, Any]:
    return {"kind": "hub", "repo": "some/model", "revision": COMMIT} | changes


def fetch(hub: Hub, folder: Path, settings: dict[str, Any], **more: str) -> Any:
    command = ["pretrained", "--settings", json.dumps(settings), "--output", "got"]
    return run(hub, folder, *command, "--patience", "0", **more)


def refused(done: Any, folder: Path) -> str:
    """The one line of a fetch that was refused and left nothing that looks finished."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert not (folder / "got/manifest.json").exists() and not (folder / "got/model").exists()
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    return line


def test_a_repository_comes_at_its_commit_with_its_sums_and_without_code(hub, repository, tmp_path):
    sums = hashes(repository)
    known = {"model.safetensors": sums["model.safetensors"], "config.json": sums["config.json"]}
    done = fetch(hub, tmp_path, origin(sha256=known, needs=["samples.parquet"]))
    assert done.returncode == 0, done.stderr
    wanted = {name: sums[name] for name in ("config.json", "samples.parquet", "model.safetensors")}
    assert hashes(tmp_path / "got/model") == wanted
    manifest = read_json(tmp_path / "got/manifest.json")
    assert (manifest["resolved"], manifest["files"]) == (COMMIT, wanted)
    done = fetch(hub, tmp_path, origin(kind="dataset", repo="some/data"))
    assert done.returncode == 0, done.stderr
    assert list(hashes(tmp_path / "got/model")) == ["samples.parquet"]


def test_a_killed_download_looks_unfinished_and_goes_on_where_it_was(hub, repository, tmp_path):
    hub.held["model.safetensors"] = threading.Event()
    command = [sys.executable, "-c", MAIN, "pretrained", "--settings", json.dumps(origin())]
    process = subprocess.Popen(
        [*command, "--output", "got"], cwd=tmp_path, env=environment(hub, tmp_path)
    )
    part = tmp_path / f"got/.{COMMIT}.part/model.safetensors.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= CHUNK):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.held.pop("model.safetensors").set()
    assert [path.name for path in (tmp_path / "got").iterdir()] == [f".{COMMIT}.part"]
    done = fetch(hub, tmp_path, origin())
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == ["model.safetensors"]
    assert hub.requests[-1][1] == f"bytes={CHUNK}-"
    left = {path.name for path in (tmp_path / "got").iterdir()}
    assert left == {"manifest.json", "manifest.record.json", "model"}
    sums = hashes(tmp_path / "got/model")
    assert sums["model.safetensors"] == hashes(repository)["model.safetensors"]


def test_a_connection_that_breaks_is_taken_up_again(hub, repository, tmp_path):
    hub.cut["model.safetensors"] = CHUNK + 1000
    done = fetch(hub, tmp_path, origin())
    assert done.returncode == 0, done.stderr
    assert hub.fetched().count("model.safetensors") == 2 and hub.requests[-1][1]
    assert hashes(tmp_path / "got/model").items() < hashes(repository).items()


def test_a_sum_that_is_not_the_configured_one_is_refused_before_the_bytes_come(hub, tmp_path):
    wrong = "0" * 64
    line = refused(fetch(hub, tmp_path, origin(sha256={"model.safetensors": wrong})), tmp_path)
    assert f"some/model at {COMMIT}: model.safetensors: found sha256 " in line
    assert f"expected sha256 {wrong}" in line
    assert hub.fetched() == []


def test_a_small_file_with_another_sum_is_refused_and_thrown_away(hub, repository, tmp_path):
    right = hashlib.sha256((repository / "config.json").read_bytes()).hexdigest()
    line = refused(fetch(hub, tmp_path, origin(sha256={"config.json": "0" * 64})), tmp_path)
    assert f"config.json: found sha256 {right}; expected sha256 {'0' * 64}" in line
    done = fetch(hub, tmp_path, origin(sha256={"config.json": right}))
    assert done.returncode == 0 and hub.fetched() == ["config.json"]


def test_a_byte_that_changed_on_its_way_is_refused_and_fetched_again(hub, repository, tmp_path):
    hub.damaged.add("model.safetensors")
    line = refused(fetch(hub, tmp_path, origin()), tmp_path)
    assert f"expected sha256 {hashes(repository)['model.safetensors']}" in line
    hub.damaged.clear()
    assert fetch(hub, tmp_path, origin()).returncode == 0
    assert hub.fetched() == ["model.safetensors"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repo": "some/other"}, f"some/other at {COMMIT}: found no such repository, or a private"),
        ({"repo": "no/such/name"}, f"no/such/name at {COMMIT}: found nothing to fetch"),
        ({"revision": "d" * 40}, f"some/model at {'d' * 40}: found no such commit"),
        ({"needs": ["probes.parquet"]}, "found no file probes.parquet to fetch"),
        ({"sha256": {"other.json": "0" * 64}}, "found no file other.json to fetch"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(hub, tmp_path, changes, words):
    assert words in refused(fetch(hub, tmp_path, origin(**changes)), tmp_path)
    assert hub.fetched() == []


def test_a_gated_repository_names_the_token_which_appears_nowhere(hub, tmp_path):
    hub.gated.add("some/model")
    wrong = fetch(hub, tmp_path, origin(), HF_TOKEN="hf_anotherOne")
    assert "found a gated repository" in refused(wrong, tmp_path)
    assert "HF_TOKEN" in wrong.stderr and "hf_anotherOne" not in wrong.stderr + wrong.stdout
    done = fetch(hub, tmp_path, origin(), HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_a_hub_that_does_not_answer_is_one_line(hub, tmp_path):
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    line = refused(fetch(hub, tmp_path, origin(), **gone), tmp_path)
    assert f"some/model at {COMMIT}: found nothing to fetch" in line
