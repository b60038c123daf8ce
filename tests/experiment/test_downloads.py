"""The repositories of a preset, and those without a commit."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.presets import dry_run, preset

from rm_robustness.errors import InputError
from rm_robustness.experiment.downloads import pinned, repositories, unpinned

BLANK = {
    ("sources", "skywork"): "Skywork/Skywork-Reward-Preference-80K-v0.2",
    ("gold",): "RLHFlow/ArmoRM-Llama3-8B-v0.1",
    ("responses", "generate", "models", "gemma-2-2b-it"): "google/gemma-2-2b-it",
    ("backbones", "Qwen2.5-3B", "init"): "Qwen/Qwen2.5-3B",
    ("artifacts", "reward_models/Llama-3.1-8B-Instruct/skywork/seed-90"): (
        "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
    ),
}


def unpin(config: dict[str, Any], *keys: tuple[str, ...]) -> dict[str, Any]:
    """A preset whose only commits without a value are those of these sections."""
    config["sources"]["skywork"]["revision"] = "c" * 40
    for key in keys:
        section = config
        for name in key:
            section = section[name]
        section["revision"] = None
    return config


def test_every_repository_that_is_downloaded_is_listed_once():
    found = repositories(preset("paper"))
    assert len(found) == len({each.key for each in found}) == 17
    kinds = {each.repo: each.kind for each in found}
    assert kinds["openbmb/UltraFeedback"] == "dataset"
    assert kinds["Qwen/Qwen2.5-3B"] == "model"
    assert "Qwen/Qwen2.5-7B" not in kinds  # defined, and in no table
    assert repositories(preset("demo")) == []


@pytest.mark.parametrize(("key", "repo"), BLANK.items(), ids=lambda value: value[0])
def test_a_null_of_every_kind_is_found(key, repo):
    (found,) = unpinned(unpin(preset("paper"), key))
    assert (found.key, found.repo) == (key, repo)


def test_all_of_them_are_named_in_one_line_with_the_cure():
    config = unpin(preset("paper"), *BLANK)
    with pytest.raises(InputError) as caught:
        pinned(config, [Path("a.yaml"), Path("b.yaml")])
    line = str(caught.value)
    assert "\n" not in line and all(repo in line for repo in BLANK.values())
    assert "`rm-robustness pin --configfile a.yaml b.yaml`" in line
    assert "all 17" in pinned(unpin(preset("paper")), [])


def test_a_split_that_is_downloaded_is_a_data_set():
    config = unpin(preset("paper"))
    for name, section in config["artifacts"].items():
        if name.startswith("splits/"):
            section |= {"source": "released", "revision": None}
    assert {(each.kind, each.key[0]) for each in unpinned(config)} == {("dataset", "artifacts")}
    assert len(unpinned(config)) == 5


def test_snakemake_refuses_at_once_what_no_job_could_download(tmp_path):
    blank = tmp_path / "blank.yaml"
    blank.write_text(yaml.safe_dump({"sources": {"skywork": {"revision": None}}}))
    done = dry_run(tmp_path, "--configfile", "config/paper.yaml", str(blank), "--", "all")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "no revision of sources.skywork" in line and "rm-robustness pin" in line
    assert "Traceback" not in done.stderr
