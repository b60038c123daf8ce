"""What goes online: downloads, in local rules; nothing that runs on a compute node."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import COMMIT, MAIN, Hub, run, serve
from support.presets import PINNED, dry_run, preset
from transformers import AutoTokenizer

from rm_robustness.cli import main as cli
from rm_robustness.files import hashes, read_json
from rm_robustness.models.reward_model import initialise

ONLINE = {name for name, command in cli.COMMANDS.items() if command.online}
DOWNLOADS = {name for name in ONLINE if not cli.COMMANDS[name].for_people}

# --- the rules ---

# What Snakemake does not print in a plan: which rules stay where it runs.
LIST = """
include: "Snakefile"
for rule in workflow.rules:
    found = re.search(r"rm-robustness ([a-z_]+|{params)", rule.shellcmd or "")
    if found:
        # Rules that are made in a loop have the name of their command.
        command = rule.name if found[1] == "{params" else found[1]
        print("RULE", rule.name, command, rule.name in workflow._localrules)
"""


def plan(folder: Path, *files: str) -> tuple[set[str], set[str], set[str]]:
    """Plan everything: the commands of local rules, those of others, and the models downloaded."""
    folder.mkdir(exist_ok=True)
    (folder / "list.smk").write_text("import re\n" + LIST)
    pins = [str(PINNED)] * ("config/paper.yaml" in files)
    done = dry_run(folder, "-s", "list.smk", "--configfile", *files, *pins, "--", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    named: dict[str, set[str]] = {"True": set(), "False": set()}
    for command, local in re.findall(r"^RULE \S+ (\S+) (\w+)$", done.stdout, re.MULTILINE):
        named[local].add(command)
    models = re.findall(r"output: runs/\w+/pretrained/(\S+)/manifest\.json", done.stdout)
    return named["True"], named["False"], set(models)


@pytest.mark.parametrize(
    ("presets", "online"),
    [
        (["demo"], {"responses", "chats", "rm_bench", "instructions"}),
        (["small"], {"responses", "rm_bench", "pretrained"}),
        (["paper"], DOWNLOADS),
        (["paper", "judge"], DOWNLOADS),
        (["paper", "judge-hosted"], DOWNLOADS | {"judge"}),
    ],
)
def test_every_rule_that_goes_online_is_local(tmp_path, presets, online):
    files = [f"config/{name}.yaml" for name in presets]
    if "judge" in presets:  # no commit of its model is known
        files.append(str(tmp_path / "pinned.yaml"))
        pinned = {"alpaca_eval": {"judge": {"revision": "c" * 40}}}
        (tmp_path / "pinned.yaml").write_text(json.dumps(pinned))
    if "judge-hosted" in presets:
        files.append(str(tmp_path / "named.yaml"))
        named = {"alpaca_eval": {"judge": {"model": "some-model"}}}
        (tmp_path / "named.yaml").write_text(json.dumps(named))
    local, others, models = plan(tmp_path, *files)
    assert online <= local
    assert not others & ONLINE
    assert {"gold", "train", "measure", "splits"} <= others
    # The demo's judge is its gold; one with open weights is downloaded and runs on a GPU.
    assert ("judge" in others) == (presets in (["demo"], ["paper", "judge"]))
    assert ("judge" in models) == (presets == ["paper", "judge"])


def test_models_that_answer_are_downloaded_unless_a_server_has_them(tmp_path):
    answering = set(preset("paper")["responses"]["generate"]["models"])
    theirs = "reward_models/Llama-3.1-8B-Instruct/skywork/seed-90"
    _, others, models = plan(tmp_path / "here", "config/paper.yaml")
    assert "generate" in others
    assert {"gold", theirs, "Qwen2.5-3B", *answering} <= models
    there = {"options": {"serve": False, "base_url": "http://there/v1"}}
    (tmp_path / "there.yaml").write_text(json.dumps({"responses": {"generate": there}}))
    files = ("config/paper.yaml", str(tmp_path / "there.yaml"))
    local, _, models = plan(tmp_path / "there", *files)
    assert "generate" in local
    assert {"gold", theirs, "Qwen2.5-3B"} <= models and not models & answering


# --- the commands ---


def environment_of(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> dict[str, str]:
    """The environment in which the body of a command runs."""
    environment: dict[str, str] = {}
    command = cli.COMMANDS[name]._replace(body=lambda _: environment.update(os.environ))
    monkeypatch.setitem(cli.COMMANDS, name, command)
    cli.main([name, *arguments])
    return environment


def test_a_command_is_offline_unless_it_downloads_or_the_environment_says_so(monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    pretrained = ("pretrained", "--settings", "{}", "--output", str(tmp_path))
    assert "HF_HUB_OFFLINE" not in environment_of(monkeypatch, *pretrained)
    splits = ("splits", "--settings", "{}", "--gold", "x", "--output", str(tmp_path))
    assert environment_of(monkeypatch, *splits)["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert environment_of(monkeypatch, *splits)["HF_HUB_OFFLINE"] == "0"


@pytest.fixture(scope="module")
def hub(llama, tmp_path_factory) -> Iterator[Hub]:
    """A hub whose repository has a tiny reward model and, beside it, what must stay there."""
    folder = tmp_path_factory.mktemp("some-model")
    initialise(llama, seed=4).save_pretrained(folder)
    AutoTokenizer.from_pretrained(llama).save_pretrained(folder)
    for name in ("tokenizer.model", "merges.txt", "modeling.py", "weights.bin", "weights.pth"):
        (folder / name).write_text(name)
    with serve({"some/model": folder}) as server:
        yield server


@pytest.mark.slow
def test_a_downloaded_model_is_whole_without_code_and_read_without_a_network(hub, splits, tmp_path):
    origin = json.dumps({"kind": "hub", "repo": "some/model", "revision": None})
    done = run(hub, tmp_path, "pretrained", "--settings", origin, "--output", "pretrained")
    assert done.returncode == 0, done.stderr[-2000:]
    assert hub.requests
    model = tmp_path / "pretrained/model"
    left = {"modeling.py", "weights.bin", "weights.pth"}
    assert {path.name: path.read_bytes() for path in model.iterdir()} == {
        name: data for name, data in hub.files("some/model").items() if name not in left
    }
    assert {"chat_template.jinja", "tokenizer.model", "model.safetensors"} <= hashes(model).keys()
    manifest = read_json(model.parent / "manifest.json")
    assert (manifest["resolved"], manifest["files"]) == (COMMIT, hashes(model))
    data = ["--data", splits / "in_domain.parquet", "--output", "scores.parquet"]
    done = run(hub, tmp_path, "score", "--model", model, *data)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "scores.parquet").is_file() and hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "reaches"), [("splits", False), ("pretrained", True)])
def test_a_library_that_would_go_online_on_its_own_cannot(hub, tmp_path, name, reaches):
    """For example when it loads a base model that a file of the model names."""
    program = f"""if True:
        from rm_robustness.cli.main import COMMANDS

        def look_up(_):
            from transformers import AutoConfig

            AutoConfig.from_pretrained("some/model")

        COMMANDS["{name}"] = COMMANDS["{name}"]._replace(body=look_up)
        {MAIN}"""
    settings = ["--settings", "{}", "--output", "out"]
    gold = ["--gold", "x"] if name == "splits" else []
    done = run(hub, tmp_path, name, *gold, *settings, program=program)
    assert (done.returncode == 0, bool(hub.requests)) == (reaches, reaches), done.stderr[-2000:]


@pytest.mark.slow
def test_a_person_s_evaluation_takes_a_model_of_the_hub(hub, splits, tmp_path):
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "runs/demo/splits").symlink_to(splits)
    done = run(hub, tmp_path, "evaluate", "some/model", "--preset", "demo", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert hub.requests
