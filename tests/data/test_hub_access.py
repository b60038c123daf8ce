"""What a hub says of a preset's repositories, and the commits that are written down."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.hub import COMMIT, TOKEN, Hub, run, serve
from support.paths import ROOT
from support.presets import preset

from rm_robustness.experiment.downloads import repositories

PAPER = repositories(preset("paper"))
FILES = [str(ROOT / "config/paper.yaml")]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with every repository of the paper, each at one commit."""
    (tmp_path / "empty").mkdir()
    with serve({each.page: tmp_path / "empty" for each in PAPER}) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the workflow, where a preset is pinned to the commit of that hub."""
    for name in ("workflow", "profiles", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "config").mkdir()
    pins: dict = {}
    for each in PAPER:
        section = pins
        for name in each.key:
            section = section.setdefault(name, {})
        section["revision"] = COMMIT
    (tmp_path / "pins.yaml").write_text(yaml.safe_dump(pins))
    return tmp_path


def check(hub: Hub, folder: Path, *files: str, **more: str) -> list[str]:
    """The lines of `check` about the hub."""
    done = run(hub, folder, "check", "--configfile", *FILES, *files, **more)
    assert done.returncode == 2  # something else is not in order on this machine
    assert "Traceback" not in done.stderr and TOKEN not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return [line for line in lines if "hub: " in line or "no commit" in line or "no such" in line]


def test_repositories_that_can_be_read_are_one_line(hub, folder):
    assert check(hub, folder, "pins.yaml") == ["ok   hub: all 17 repositories can be read"]


def test_terms_to_accept_are_one_list_and_go_with_the_token(hub, folder):
    hub.gated = {"meta-llama/Llama-3.2-1B", "google/gemma-2-2b-it", "datasets/allenai/x"}
    (line,) = check(hub, folder, "pins.yaml", HF_TOKEN="")
    assert line.startswith(
        "--   hub: gated, accept the terms and export HF_TOKEN, which is unset: "
    )
    assert (
        f"{hub.url}/meta-llama/Llama-3.2-1B" in line and f"{hub.url}/google/gemma-2-2b-it" in line
    )
    (line,) = check(hub, folder, "pins.yaml", HF_TOKEN="hf_other")
    assert "with the account of HF_TOKEN" in line
    (line,) = check(hub, folder, "pins.yaml", HF_TOKEN=TOKEN)
    assert line.startswith("ok ")


def test_an_unknown_commit_and_an_unknown_repository_are_named_with_their_keys(hub, folder):
    change = {"sources": {"skywork": {"revision": "d" * 40}}, "gold": {"repo": "no/body"}}
    (folder / "change.yaml").write_text(yaml.safe_dump(change))
    lines = check(hub, folder, "pins.yaml", "change.yaml")
    assert len(lines) == 2 and all(line.startswith("--   ") for line in lines)
    assert f"sources.skywork: Skywork/Skywork-Reward-Preference-80K-v0.2, no commit {'d' * 40}" in (
        "\n".join(lines)
    )
    assert "gold: no/body, no such repository, or a private one" in "\n".join(lines)


def test_a_hub_that_cannot_be_reached_is_one_line_and_offline_does_not_ask(hub, folder):
    (line,) = check(hub, folder, "pins.yaml", HF_ENDPOINT="http://127.0.0.1:9")
    assert line.startswith("--   hub: http://127.0.0.1:9: found it cannot be reached (")
    assert check(hub, folder, "pins.yaml", "--offline") == []
    assert hub.requests == []


def test_pin_writes_what_is_null_into_a_file_on_top_and_nothing_else(hub, folder):
    change = {"sources": {"skywork": {"revision": None}}, "gold": {"revision": None}}
    (folder / "null.yaml").write_text(yaml.safe_dump(change))
    files = [*FILES, "pins.yaml", "null.yaml"]
    done = run(hub, folder, "pin", "--configfile", *files)
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((folder / "config/paper-pinned.yaml").read_text())
    expected = {"sources": {"skywork": {"revision": COMMIT}}, "gold": {"revision": COMMIT}}
    assert written == expected
    done = run(hub, folder, "pin", "--configfile", *files)
    assert done.returncode == 2 and "remove it, or give --output" in done.stderr
    done = run(
        hub, folder, "pin", "--configfile", *files, "config/paper-pinned.yaml", "--output", "o"
    )
    assert done.returncode == 0 and "every repository has its commit" in done.stdout
    assert not (folder / "o").exists()


def test_pin_without_a_hub_writes_nothing(hub, folder):
    (folder / "null.yaml").write_text(yaml.safe_dump({"gold": {"revision": None}}))
    files = [*FILES, "pins.yaml", "null.yaml"]
    done = run(hub, folder, "pin", "--configfile", *files, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2 and "cannot be reached" in done.stderr
    assert list((folder / "config").iterdir()) == []
    (folder / "null.yaml").write_text(
        yaml.safe_dump({"gold": {"revision": None, "repo": "no/body"}})
    )
    done = run(hub, folder, "pin", "--configfile", *files)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "gold: no/body" in done.stderr
