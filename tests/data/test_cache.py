"""What is fetched is whole or absent, whoever is killed and whatever is cut short."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.real_text import serve, write_rm_bench

from rm_robustness.data.cache import MANIFEST, cache_folder, cached
from rm_robustness.errors import InputError

FETCH = """
import json, sys
from rm_robustness.data.cache import cached
print(cached(json.loads(sys.argv[1]), "do it by hand"))
"""


@pytest.fixture
def source(tmp_path):
    work = write_rm_bench(tmp_path / "work")
    return serve(work, tmp_path / "RM-Bench.git", ["/data/chat_filtered.json", "/data/m*.json"])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RM_ROBUSTNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(source: object, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FETCH, json.dumps(source)]
    env = os.environ | environment
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=env)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("RM_ROBUSTNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/rm-robustness")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/rm-robustness")


def test_only_the_files_asked_for_are_fetched_once_and_the_licence_is_said(source, capsys, cache):
    folder = cached(source, "")
    assert names(folder) == ["chat_filtered.json", MANIFEST, "math_filtered.json"]
    assert f"fetching {source['repository']}: licence not known here" in capsys.readouterr().err
    assert [path.name for path in cache.iterdir()] == [folder.name]  # no draft, no lease


def test_what_is_there_needs_no_git_and_no_server(source, monkeypatch, capsys):
    folder = cached(source, "")
    capsys.readouterr()
    monkeypatch.setenv("PATH", "/nowhere")
    assert cached(source, "") == folder
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("fault", ["cut", "removed", "manifest"])
def test_a_cache_cut_short_is_fetched_again(source, fault, capsys):
    folder = cached(source, "")
    path = folder / "data/chat_filtered.json"
    whole = path.read_bytes()
    if fault == "removed":
        path.unlink()
    else:
        cut = folder / MANIFEST if fault == "manifest" else path
        cut.write_bytes(cut.read_bytes()[:40])
    cached(source, "")
    assert "fetching it again" in capsys.readouterr().err
    assert path.read_bytes() == whole


def test_other_files_of_the_same_commit_are_fetched(source):
    cached(source, "")
    folder = cached(source | {"files": ["/data/code_filtered.json"]}, "")
    assert names(folder) == ["code_filtered.json", MANIFEST]


def test_without_a_server_or_git_the_cure_is_said_and_nothing_is_left(source, monkeypatch, cache):
    away = source | {"repository": f"{source['repository']}-away"}
    with pytest.raises(InputError, match=r"`git fetch` failing.*; do it by hand$"):
        cached(away, "do it by hand")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="no such program; expected git on PATH; do it by hand"):
        cached(source, "do it by hand")
    assert list(cache.iterdir()) == []


def test_damaged_without_a_server_is_one_error(source, tmp_path):
    folder = cached(source, "")
    (folder / "data/chat_filtered.json").unlink()
    (tmp_path / "RM-Bench.git").rename(tmp_path / "away")
    with pytest.raises(InputError, match="do it by hand"):
        cached(source, "do it by hand")


def test_a_cache_that_cannot_be_written_is_named(source, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RM_ROBUSTNESS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot be written .*; set RM_ROBUSTNESS_CACHE"):
        cached(source, "")


def test_a_kill_in_the_middle_is_made_good(source, tmp_path, cache):
    """A git that hangs in its fetch stands for a slow network."""
    (tmp_path / "bin").mkdir()
    real = subprocess.check_output(["which", "git"], text=True).strip()
    hang = f'#!/bin/sh\ncase "$*" in *fetch*) touch {tmp_path}/here; sleep 60;; esac\n'
    (tmp_path / "bin/git").write_text(f'{hang}exec {real} "$@"\n')
    (tmp_path / "bin/git").chmod(0o755)
    slow = start(source, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    while not (tmp_path / "here").exists():
        assert slow.poll() is None
        time.sleep(0.05)
    slow.send_signal(signal.SIGKILL)
    slow.communicate()
    assert any(path.suffix == ".part" for path in cache.iterdir())
    folder = cached(source, "")
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_two_at_once_fetch_once(source):
    both = [start(source) for _ in range(2)]
    said = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum(err.count("fetching") for _, err in said) == 1
