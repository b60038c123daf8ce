"""`make` alone is `make help`: a line a target."""

import re
import subprocess

from support.paths import ROOT


def make(*arguments: str) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_make_alone_names_every_target_in_one_line():
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = make().splitlines()
    assert [line.split()[1] for line in lines] == targets.split()
    assert all(len(line.split()) > 2 and len(line) <= 100 for line in lines)
    assert make("help").splitlines() == lines
