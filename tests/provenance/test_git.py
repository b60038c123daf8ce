"""git: what a record says of the revision, and what is said where git has no answer."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.paths import ROOT

from rm_robustness.provenance import git
from rm_robustness.provenance.record import write_record

IDENTITY = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
CACHED = (git.revision, git.known, git.file_at, git.files_at, git.code_at)


def forget() -> None:
    for function in CACHED:
        function.cache_clear()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit, which is the working directory."""
    for name in ("config.yaml", "dvc.lock", "src/code.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    for words in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("config.yaml", True),
        ("src/new.py", True),  # a module that no commit has
        ("notes.txt", False),
        ("dvc.lock", False),  # DVC writes it between the stages of one run
    ],
)
def test_a_record_says_whether_a_commit_is_what_ran(repository, name, dirty):
    (repository / name).write_text("two\n")
    assert git.revision()["dirty"] is dirty
    assert len(git.revision()["commit"]) == 40


def no_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / ".git")


def another_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def no_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


WHY = {
    no_repository: "not a git repository",
    another_owner: "git config --global --add safe.directory",
    no_program: "the program git cannot be run",
}


@pytest.mark.parametrize("harm", WHY)
def test_a_record_says_why_it_names_no_commit_and_a_refusal_is_said_aloud(
    repository, monkeypatch, capfd, harm
):
    harm(repository, monkeypatch)
    for name in ("a.json", "b.json"):
        with write_record({}, [Path(name)]):
            Path(name).write_text("{}")
    said = json.loads(Path("b.record.json").read_text())["git"]
    assert (said["commit"], said["dirty"]) == (None, None)
    assert WHY[harm] in said["reason"]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == (harm is not no_repository)  # once, of however many records
    assert all(WHY[harm] in line for line in lines)


def test_a_repository_without_a_commit_is_no_refusal(repository):
    shutil.rmtree(".git")
    subprocess.run(["git", "init", "-q"], check=True)
    assert git.refusal() is None
    assert git.revision() == {"commit": None, "dirty": None, "reason": "no commit yet"}


def test_code_is_hashed_in_a_commit_as_in_a_tree(tmp_path, monkeypatch):
    """The value of releases: sha256 over path, size and bytes, in the order of the paths."""
    package = tmp_path / git.PACKAGE
    shutil.copytree(ROOT / git.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    for words in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], check=True)
    subprocess.run(["git", "config", "core.autocrlf", "true"], check=True)
    forget()
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    assert git.code() == git.code_at("HEAD") == digest.hexdigest()
    forget()


def test_the_files_of_a_folder_are_those_of_the_commit(repository):
    (repository / "src/code.py").write_text("two\n")
    (repository / "src/new.py").write_text("two\n")
    assert git.files_at("HEAD", "src") == {"code.py": b"one\n"}
    assert git.files_at("HEAD", "nowhere") == {}
    assert git.file_at("HEAD", "src/code.py") == b"one\n"
    assert git.file_at("HEAD", "src/new.py") is None
    assert git.known("HEAD") and not git.known("0" * 40)


def test_a_clone_with_line_ends_of_windows_has_the_bytes_of_the_commit(tmp_path):
    """DVC's remote is in the repository: an object with other line ends is a damaged one."""
    source, clone = tmp_path / "source", tmp_path / "clone"
    contents = {
        "dvcstore/files/md5/ab/cd": b'{"a": 1}\n',
        "dvcstore/files/md5/ab/ef": b"of Windows\r\nand not\n",
        "src/code.py": b"one\ntwo\n",
        "table.parquet": b"PAR1\n",
    }
    for name, content in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    shutil.copy(ROOT / ".gitattributes", source)
    for words in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=source, check=True)
    subprocess.run(["git", "-c", "core.autocrlf=true", "clone", "-q", source, clone], check=True)
    assert {name: (clone / name).read_bytes() for name in contents} == contents
