"""A small repository that releases its models as this one does, and clones of it."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import yaml

SPLITS, MODELS = "runs/demo/splits", "runs/demo/reward_models"
HISTORY, RESULTS = "runs/demo/snakemake.json.gz", "runs/demo/results"
BT = f"{MODELS}/llama/bt/seed-0/model.safetensors"
BSR = f"{MODELS}/llama/bt-bsr/seed-0/model.safetensors"
SIZES = {
    BT: 200_000,
    BSR: 200_000,
    f"{MODELS}/llama/bt/seed-0/record.json": 500,
    f"{SPLITS}/train.parquet": 3000,
    f"{SPLITS}/in_domain.parquet": 2000,
    HISTORY: 60,
    f"{RESULTS}/table2.csv": 400,
}
STAGES = {"splits": [SPLITS], "reward_models": [MODELS], "results": [RESULTS, HISTORY]}


class Clone:
    """A clone whose DVC knows nothing of this machine: neither settings, caches nor credentials."""

    def __init__(self, folder: Path, source: "Clone | None" = None, *, whole: bool = False) -> None:
        """Clone `source`, or with `whole` copy it with its released files and its cache."""
        self.folder = folder
        self.home = folder.with_name(f"{folder.name}-home")
        self.home.mkdir(parents=True)
        foreign = ("AWS_", "DVC_", "GIT_", "SSH_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
            "HOME": str(self.home),
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": f"{self.home}/global",
            "DVC_SYSTEM_CONFIG_DIR": f"{self.home}/system",
            "DVC_SITE_CACHE_DIR": f"{self.home}/site",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{
                f"GIT_{who}_{what}": "tests@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        if source and whole:
            shutil.copytree(source.folder, folder)
        elif source:
            self.git("clone", "--quiet", str(source.folder), str(folder), cwd=folder.parent)

    def git(self, *words: str, cwd: Path | None = None) -> str:
        """What git prints; CalledProcessError where it fails."""
        return subprocess.run(
            ["git", *words],
            cwd=cwd or self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start `dvc WORDS`, both outputs in one."""
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *words],
            cwd=self.folder,
            env=self.environment | environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def ends(self, running: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit status and output, its white space made single blanks."""
        try:
            said = running.communicate(timeout=120)[0]
        finally:
            running.kill()
        return running.returncode, " ".join(said.split())

    def dvc(self, *words: str, **environment: str) -> str:
        """What a dvc command says, which must succeed."""
        status, said = self.ends(self.start(*words, **environment))
        assert status == 0, said
        return said

    def refused(self, *words: str, **environment: str) -> str:
        """What a dvc command says, which must fail."""
        status, said = self.ends(self.start(*words, **environment))
        assert status != 0, said
        return said

    def is_clean(self, *words: str) -> bool:
        """Whether `dvc status` finds nothing, going by its exit status."""
        return self.ends(self.start("status", "--quiet", *words))[0] == 0

    def remote(self, name: str, url: str, **settings: str) -> None:
        """Give it a remote of its own, as `dvc remote add --local` and `modify --local` do."""
        lines = [f"['remote \"{name}\"']", f"url = {url}", *map(" = ".join, settings.items())]
        (self.folder / ".dvc" / "config.local").write_text("\n".join(lines))

    def found(self) -> dict[str, bytes]:
        """The files under runs/ and results/, with their bytes."""
        paths = [path for top in ("runs", "results") for path in (self.folder / top).rglob("*")]
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in paths
            if path.is_file() and path.name != ".gitignore"
        }

    def cached(self, key: str) -> Path:
        """An object in the clone's cache."""
        return self.folder / ".dvc" / "cache" / key

    def stored(self, key: str) -> Path:
        """An object in the default remote, which is a folder of the clone."""
        return self.folder / "dvcstore" / key

    @cached_property
    def listing(self) -> str:
        """Key of the object that lists the reward models' files."""
        outs = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]["reward_models"]
        return key(next(out["md5"] for out in outs["outs"] if out["path"] == MODELS))


def key(md5: str) -> str:
    """Where DVC keeps the object of this hash, in every cache and remote."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def contents() -> dict[str, bytes]:
    """Path and bytes of every file that is released."""
    numbers = random.Random(0)
    return {name: numbers.randbytes(size) for name, size in SIZES.items()}


def object_of(name: str) -> str:
    """Key of a released file's object."""
    return key(hashlib.md5(contents()[name]).hexdigest())


def release(folder: Path) -> Clone:
    """Make the repository: coarse stages, outs that persist, a remote in the repository."""
    folder.mkdir()
    made = Clone(folder)
    made.git("init", "--quiet")
    made.dvc("init", "--quiet")
    made.dvc("remote", "add", "-d", "released", "dvcstore")
    made.dvc("remote", "modify", "released", "verify", "true")
    stages = {
        stage: {"cmd": "snakemake", "outs": [{out: {"persist": True}} for out in outs]}
        for stage, outs in STAGES.items()
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name, content in contents().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    made.dvc("commit", "--force")
    made.dvc("push")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "Released")
    return made


def flipped(content: bytes) -> bytes:
    """One bit of it is another."""
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def damaged() -> dict[str, bytes]:
    """Two of the released files: of one a half is left, in the other one bit is another."""
    files = contents()
    return {BT: files[BT][: len(files[BT]) // 2], BSR: flipped(files[BSR])}


def overwrite(path: Path, content: bytes) -> None:
    """Other bytes in a file of the same mode, as a failing disk brings them."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
