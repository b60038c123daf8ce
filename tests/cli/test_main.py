"""The command line: its commands are those of the rules, and its mistakes end in one line."""

import os
import re
import subprocess
import sys

import pytest
from support.paths import ROOT

from rm_robustness.cli import main as cli
from rm_robustness.cli.main import COMMANDS
from rm_robustness.experiment.catalog import EVERY_RESULT
from rm_robustness.experiment.scenarios import BENCHMARKS

RULES = "\n".join(path.read_text() for path in sorted(ROOT.glob("workflow/rules/*.smk")))
CALLED = set(re.findall(r"\brm-robustness ([a-z]\S*)", RULES))
HEAVY = {"torch", "transformers", "trl", "pandas", "numpy", "matplotlib", "snakemake"}


def rm_robustness(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rm_robustness", *arguments],
        cwd=ROOT,
        text=True,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
    )


def test_what_a_rule_calls_is_a_command():
    assert {"responses", "train", "measure", "run-times"} <= CALLED <= COMMANDS.keys()
    assert "rm-robustness {params.command}" in RULES  # of results and benchmarks
    assert EVERY_RESULT.keys() | BENCHMARKS.keys() <= COMMANDS.keys()


def test_a_claim_that_there_is_not_is_refused_before_anything_is_planned():
    done = rm_robustness("plan", "--claims", "C14")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--claims: found 'C14'; expected claims of C1 to C13" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_is_for_people_or_a_rule_calls_it():
    rules = {name for name, command in COMMANDS.items() if not command.for_people}
    assert rules == CALLED | EVERY_RESULT.keys() | BENCHMARKS.keys()


def test_only_commands_of_local_rules_and_four_of_a_person_go_online():
    text = (ROOT / "workflow/rules/sources.smk").read_text()
    (block,) = re.findall(r"^localrules:\n((?: {4}\w+,\n)+)", text, re.MULTILINE)
    online = {name for name, command in COMMANDS.items() if command.online}
    assert online == {*re.findall(r"\w+", block), *BENCHMARKS, "evaluate", "reward", "check", "pin"}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_and_its_arguments_say_what_they_are(command, capsys):
    assert re.fullmatch(r"[A-Z][^\n]+\.", command.summary)
    with pytest.raises(SystemExit, match="0"):
        cli.main([command.name, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: rm-robustness {command.name} ")
    assert all(name in shown or name.upper() in shown for name, _ in command.arguments)


def test_help_lists_each_command_once_in_80_columns_and_those_for_people_first(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2] not in " -"]
    assert sorted(names) == sorted(COMMANDS)
    people = [COMMANDS[name].for_people for name in names]
    assert people == sorted(people, reverse=True)


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from rm_robustness.cli.main import parser; parser().format_help();"
        f"print({HEAVY} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [("verfy", "did you mean 'verify'?"), ("xyz", "known: adopt, adopt_splits, answers")],
)
def test_an_unknown_command_is_refused_with_the_nearest_name(name, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([name, "--runs", "runs/demo"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rm-robustness: error: COMMAND: found '{name}'") and words in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["score", "--batch-token", "5"], "'--batch-token'; .*did you mean '--batch-tokens'?"),
        (["score", "--outptu=x"], "'--outptu'; .*did you mean '--output'?"),
        (["evaluate", "m", "--dtype", "bf16"], "--dtype: found 'bf16'; .*mean 'bfloat16'?"),
        (["evaluate", "m", "--batch-tokens", "x"], "--batch-tokens: invalid int value: 'x'"),
        (["score"], "required: --model, --data, --output; rm-robustness score --help"),
        (["--print-completion", "bsh"], "'bsh'; .*did you mean 'bash'?"),
    ],
)
def test_a_mistaken_option_or_choice_is_one_line_with_the_nearest_name(arguments, line, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    (error,) = capsys.readouterr().err.splitlines()
    assert re.search(line.replace("?", r"\?"), error)


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_lists_the_commands_and_bash_reads_it(shell, capsys, tmp_path):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    if shell == "bash":
        assert "_evaluate_pos_0_COMPGEN=_shtab_compgen_files" in script  # MODEL is a path
        (tmp_path / "x").write_text(script, encoding="utf-8")
        subprocess.run(["bash", "-n", tmp_path / "x"], check=True)


@pytest.mark.parametrize("where", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_that_is_not_utf_8_shows_a_replacement(where):
    done = rm_robustness("plan", "--configfile", "τ→.yaml", env=os.environ | where)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rm-robustness: error: ??.yaml: found")


def test_a_closed_error_stream_alone_is_silent_too():
    reader, writer = os.pipe()
    os.close(reader)
    done = rm_robustness("plan", "--claims", "C14", stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (141, "")


def test_no_command_at_all_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "required: COMMAND" in capsys.readouterr().err


def test_the_version_is_that_of_the_package():
    done = rm_robustness("--version")
    assert re.fullmatch(r"rm-robustness \d+\.\d+\.\d+\S*\n", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("argument", "unbuffered"), [("plan", ""), ("plan", "1"), ("--help", "")])
def test_a_reader_that_leaves_ends_a_command_in_silence(argument, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)  # as `| head -1` does after a line
    done = rm_robustness(argument, stdout=writer, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_broken_pipe_to_another_process_is_not_silenced(monkeypatch):
    def body(_):
        raise BrokenPipeError("of a server")

    monkeypatch.setitem(COMMANDS, "history", COMMANDS["history"]._replace(body=body))
    with pytest.raises(BrokenPipeError, match="of a server"):
        cli.main(["history", "--runs", "runs/demo"])
