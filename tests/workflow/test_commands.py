"""Every command of the documents runs: in a clone with the release, as a dry run where it computes.

What cannot run is in `EXCLUDED`, with the reason; a new command runs unless it is added there.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from support.cut_demo import clone
from support.paths import ROOT
from support.presets import dry_run

from rm_robustness.cli.main import parser
from rm_robustness.experiment.command_line import config_files

DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
# Blocks that are no commands, by their first word.
LISTINGS = {"Snakefile", "cli/", "artifacts:", "sensitivity:"}
# A command by its beginning -> why it is not run.
EXCLUDED = {
    "git clone": "the clone of these tests is made from the working tree",
    "cd rm-robustness": "as above",
    "source .venv/bin/activate": "the tests run in an environment already",
    "export": "sets a variable",
    "$EDITOR": "an editor",
    "sinfo": "needs a Slurm cluster",
    "sacctmgr": "needs a Slurm cluster",
    "md5sum FILE": "of a damaged file, which tests/provenance/test_pull_faults.py repairs",
    "rm FILE": "as above",
    "cp -f": "as above",
    "rocrate-validator": "needs the network",
    "runcrate": "not of the lock",
    "dvc exp run": "trains; its --dry wants outputs of stages that it only pretends to run",
    "dvc commit --force": "records a run of the preset `paper`",
    "python -m rehearsal": "tests/rehearsal/test_cut.py runs a cut of it",
    "python benchmarks/scoring.py --device cuda": "needs a GPU",
    "python benchmarks/training.py --device cuda": "needs a GPU",
    "python benchmarks/gpu.py": "tests/workflow/test_gpu_checks.py runs it",
    "python benchmarks/pilot.py": "needs the scores of the command above it",
    "python benchmarks/evaluation.py": "evaluates a model of SmolLM2's width, for minutes",
    "python examples": "tests/workflow/test_examples.py runs it",
    "rm-robustness reward": "tests/training/test_reward_script.py runs it",
}
# Commands whose inputs are not here: their arguments are parsed.
PARSED = {
    "rm-robustness train": "trains, from files that are named only for example",
    "rm-robustness pin": "asks the Hugging Face hub",
    "rm-robustness evaluate MODEL": "tests/evaluation/test_evaluate.py runs it on models",
    "rm-robustness evaluate models/": "as above",
    "rm-robustness history": "of a run of the preset `paper`",
}
# What computes is planned; what is named only for example is replaced.
REPLACED = {
    r"^snakemake(?! -n)": "snakemake -n",
    r"^make": "make -n",
    r"^dvc repro": "dvc repro --dry",
    r"PATH/TO/alpaca_eval|/data/alpaca_eval": "alpaca_eval",
    r"^(dvc remote add --local) big (\S+)": r"\1 --force big \2",
    r"(?<= )/data/rm-robustness$": "$PWD/../big",
}
# A preset that leaves something to its user is refused in one line until it is set; the last line
# of `check` says that this machine lacks something.
UNSET = re.compile(r"rm-robustness: error: .*(revision|judge\.model|check: found)")

PUT_BACK = (
    "git checkout -q . && dvc config --local cache.type copy"
    " && dvc checkout --quiet --force --relink"
)


class Block(NamedTuple):
    """Commands of one place in the documents, in order."""

    document: str
    line: int
    commands: list[str]


def simple(lines: list[str]) -> list[str]:
    """Commands without comments, and those of a line one by one, also what one of them submits."""
    text = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        words = shlex.shlex(line, punctuation_chars="&|", posix=False)
        words.whitespace_split, words.commenters = True, "#"
        for part in " ".join(words).split(" && "):
            found.append(part.strip())
            quoted = re.search(r"^(?:sbatch|tmux) .*(['\"])(.+)\1$", part)
            if quoted:  # what is submitted is a command too
                found[-1] = " ".join(quoted[2].split())
    return found


def fenced(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fenced blocks of a document with their lines, without those of Python and of JSON."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if match[1] not in ("python", "json"):
            yield text[: match.start()].count("\n") + 2, match[2].splitlines()


def blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        for number, lines in fenced(path):
            prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            written = prompted or [line for line in lines if line.strip()]
            if prompted or lines[0].split()[0] not in LISTINGS:
                yield Block(str(path.relative_to(ROOT)), number, simple(written))
    for path in sorted(ROOT.glob("config/*.yaml")):
        said = re.findall(r"^# (snakemake .+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if said:
            yield Block(str(path.relative_to(ROOT)), 1, simple(said))


BLOCKS = list(blocks())
ALL = [command for block in BLOCKS for command in block.commands]


def begins(command: str, known: dict[str, str]) -> bool:
    return any(command.startswith(start) for start in known)


def planned(command: str) -> str:
    for pattern, instead in REPLACED.items():
        command = re.sub(pattern, instead, command)
    return command


@pytest.fixture(scope="module")
def pulled(tmp_path_factory) -> Path:
    """A clone with the release, and with what the examples name."""
    folder = clone(tmp_path_factory.mktemp("commands"), released=True)
    (folder / "alpaca_eval").mkdir()
    pinned = {"sources": {"skywork": {"revision": "c" * 40}}}  # as `rm-robustness pin` writes it
    (folder / "config/paper-pinned.yaml").write_text(yaml.safe_dump(pinned), encoding="utf-8")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"], ["tag", "v1"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
    assert run("dvc pull --quiet", folder).returncode == 0
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")},
    )


def test_the_documents_are_read_as_commands():
    assert len(ALL) > 50
    text = ["a -n --config 'x={y: 1}' -- all   # why", "b &&  c || d # e && f", "$E g \\", "  h"]
    assert simple(text) == ["a -n --config 'x={y: 1}' -- all", "b", "c || d", "$E g h"]
    assert simple(["tmux new -d 'snakemake all'  # on"]) == ["snakemake all"]


def test_what_is_excluded_is_still_in_the_documents():
    unused = [s for s in EXCLUDED | PARSED if not any(command.startswith(s) for command in ALL)]
    assert unused == []


# A document is one test, because its later commands may rest on earlier ones.
@pytest.mark.slow
@pytest.mark.parametrize("document", dict.fromkeys(block.document for block in BLOCKS))
def test_every_command_of_a_document_runs(pulled, document, monkeypatch):
    monkeypatch.chdir(pulled)
    (pulled / "settings.yaml").write_text("{}\n")
    for block in BLOCKS:
        if block.document == document:
            run_block(block, pulled)
            done = run(PUT_BACK, pulled)
            assert done.returncode == 0, done.stderr


def run_block(block: Block, folder: Path) -> None:
    for command in block.commands:
        if begins(command, PARSED):
            parser().parse_args(shlex.split(command)[1:])
        elif not begins(command, EXCLUDED):
            done = run(planned(command), folder)
            said = f"{block}: {command}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
            damaged = command == "rm-robustness verify" and block.commands[0].startswith("echo >>")
            refused = done.returncode == 2 and UNSET.search(done.stderr)
            assert refused or done.returncode == (1 if damaged else 0), said
            assert "Traceback" not in done.stderr, said


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("results/table2.csv", "no readable file"),
        ("config/missing.yaml", "no readable file"),
        ("Snakefile", "broken YAML"),
        ("made.csv", "'preset,backbone'"),
    ],
)
def test_what_is_no_configuration_file_is_one_line_that_names_the_dashes(tmp_path, word, found):
    """Snakemake takes a target without `--` before it for a file, and would end in a traceback."""
    (tmp_path / "made.csv").write_text("preset,backbone\n")
    done = dry_run(tmp_path, "--configfile", "config/demo.yaml", word)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert f"--configfile {word}: found {found}" in line and "`--` before the targets" in line
    assert "Traceback" not in done.stdout + done.stderr


def test_the_files_of_a_command_line_are_found_however_they_are_named():
    words = [
        "snakemake",
        "-n",
        "--configfile",
        "a",
        "b",
        "--cores",
        "2",
        "--configfile=c",
        "--configfiles",
        "d",
        "--",
        "all",
    ]
    assert list(config_files(words)) == ["a", "b", "c", "d"]
