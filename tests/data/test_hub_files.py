"""Files in the hub's cache: those with another sum than the one that names them are thrown away."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.hub import COMMIT, run, serve

from rm_robustness.data.hub_files import require_sum
from rm_robustness.errors import InputError
from rm_robustness.frames import read_frame

TEXT = b"a text\n"
SUMS = [hashlib.sha256(TEXT).hexdigest(), hashlib.sha1(b"blob 7\0a text\n").hexdigest()]


def cached(folder: Path, name: str, content: bytes) -> Path:
    """A file as huggingface_hub keeps it: a link to a file that is named by its sum."""
    (folder / "blobs").mkdir(exist_ok=True)
    (folder / "blobs" / name).write_bytes(content)
    link = folder / "file.txt"
    link.symlink_to(Path("blobs") / name)
    return link


@pytest.mark.parametrize("name", [*SUMS, "an-etag-of-a-mirror"])
def test_a_file_with_the_sum_that_names_it_stays(tmp_path, name):
    link = cached(tmp_path, name, TEXT)
    require_sum(link, "here")
    assert link.read_bytes() == TEXT


@pytest.mark.parametrize("name", SUMS)
def test_a_file_with_another_sum_is_named_and_removed(tmp_path, name):
    link = cached(tmp_path, name, b"b text\n")
    with pytest.raises(InputError, match=f"here: found sum .*; expected sum {name}; a damaged"):
        require_sum(link, "here")
    assert not link.is_symlink() and not list((tmp_path / "blobs").iterdir())


def test_a_file_in_a_cache_without_links_is_not_judged(tmp_path):
    (tmp_path / SUMS[0]).write_bytes(b"b text\n")
    require_sum(tmp_path / SUMS[0], "here")


def rows(number: int) -> list[dict[str, Any]]:
    """RM-Bench's rows of one domain."""
    texts = {kind: [f"{kind} {style}" for style in range(3)] for kind in ("chosen", "rejected")}
    return [{"id": number, "prompt": "Why?", "domain": "chat", **texts}]


def test_a_damaged_copy_of_rm_bench_is_refused_and_fetched_again(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "chat_filtered.json").write_text(json.dumps(rows(1)))
    settings = json.dumps({"kind": "hub", "repo": "some/bench", "revision": COMMIT})
    command = ["rm_bench", "--settings", settings, "--output", "rm_bench.parquet"]
    with serve({"datasets/some/bench": folder}) as hub:
        hub.damaged.add("chat_filtered.json")
        done = run(hub, tmp_path, *command)
        (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
        assert done.returncode == 2 and f"some/bench at {COMMIT}: chat_filtered.json" in line
        hub.damaged.clear()
        done = run(hub, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert len(read_frame(tmp_path / "rm_bench.parquet")) == 6
