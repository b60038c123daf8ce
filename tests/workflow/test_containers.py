"""The container recipes: from the locks, by the Makefile, as no root, and both alike.

No engine is here to build them. The files that they copy are all that `make env` reads.
"""

import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
from support.paths import ROOT

DOCKER = (ROOT / "Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "apptainer.def").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, continued lines joined."""
    plain = re.sub(r"^#.*\n", "", DOCKER, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def copied() -> list[str]:
    return [name for word, rest in instructions() if word == "COPY" for name in rest.split()[:-1]]


def section(name: str) -> list[str]:
    """The lines of a section of the Apptainer definition."""
    body = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", APPTAINER, re.MULTILINE | re.DOTALL)
    assert body, name
    return [line.strip() for line in body[1].splitlines() if line.strip()]


def packages(text: str) -> list[str]:
    return re.findall(r"--no-install-recommends ([a-z -]+?)(?: &&|$)", text, re.MULTILINE)


def test_the_image_is_from_the_locks_and_runs_without_root():
    words = [word for word, _ in instructions()]
    assert words[0] == "FROM" and "ADD" not in words
    runs = [rest for word, rest in instructions() if word == "RUN"]
    assert runs[1:] == ['make env ENV=/opt/venv VLLM="$VLLM" CPU="$CPU"']
    assert "pip" not in DOCKER
    last_run = max(number for number, word in enumerate(words) if word == "RUN")
    [user] = [number for number, word in enumerate(words) if word == "USER"]
    assert user > last_run and not dict(instructions())["USER"].startswith(("0", "root"))


def test_no_secret_is_in_a_recipe():
    given = {
        name for word, rest in instructions() if word in ("ARG", "ENV") for name in rest.split()
    }
    names = {name.partition("=")[0] for name in given}
    assert names == {"VLLM", "CPU", "PATH", "HOME", "USER"}
    assert section("arguments") == ["VLLM=0"]


def test_what_is_copied_exists_and_reaches_the_engine():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for name in copied():
        assert (ROOT / name).exists(), name
        assert any(fnmatch(name, pattern) for pattern in sent), name
    assert all(any(fnmatch(name, pattern) for name in copied()) for pattern in sent)


def test_the_two_recipes_are_alike():
    image = dict(instructions())["FROM"]
    assert f"\nFrom: {image}\n" in APPTAINER
    assert dict(line.split() for line in section("files")) == {
        name: f"/rm-robustness/{name}" for name in copied()
    }
    post = "\n".join(section("post"))
    assert packages(post) == packages(dict(reversed(instructions()))["RUN"]) != []
    assert 'make env ENV=/opt/venv VLLM="$with_vllm"' in post


@pytest.mark.parametrize(
    ("arguments", "locks"),
    [
        (["VLLM=", "CPU="], ["requirements.lock"]),
        (["VLLM=1", "CPU="], ["requirements.lock", "requirements-vllm.lock"]),
        (["VLLM=1", "CPU=1"], ["requirements.lock", "requirements-vllm-cpu.lock"]),
    ],
)
def test_the_copied_files_are_all_that_make_env_needs(tmp_path, arguments, locks):
    for name in copied():
        if (ROOT / name).is_dir():
            (tmp_path / name).mkdir(parents=True)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    venv = Path("/nowhere/venv")
    done = subprocess.run(
        ["make", "-n", "env", f"ENV={venv}", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"-r (\S+)", done.stdout) == locks
    assert f"{venv}/bin/python -m pip install --quiet --no-deps --editable ." in done.stdout
