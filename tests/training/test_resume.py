"""Work folders: what is kept for resuming, and what is published at the end."""

from pathlib import Path

import pytest

from rm_robustness.training.resume import COMPLETE, last_checkpoint, prepare_work, publish_all


def checkpoint(work: Path, step: int, *contents: str) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in contents:
        (folder / name).mkdir() if name.startswith("pytorch") else (folder / name).touch()
    return folder


def final(work: Path) -> Path:
    folder = work / "final"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (work / "identity.json").write_text("{}")
    (work / "attempts.json").write_text("[]")
    checkpoint(work, 8, COMPLETE)
    return folder


def test_training_resumes_from_the_newest_complete_checkpoint_by_number(tmp_path):
    checkpoint(tmp_path, 9, COMPLETE)
    newest = checkpoint(tmp_path, 10, COMPLETE)
    incomplete = checkpoint(tmp_path, 11)
    assert last_checkpoint(tmp_path) == str(newest)
    assert not incomplete.exists()


def test_a_sharded_checkpoint_is_not_resumed_by_a_whole_model_nor_the_other_way(tmp_path):
    sharded = checkpoint(tmp_path / "sharded", 10, COMPLETE, "pytorch_model_fsdp_0")
    assert last_checkpoint(tmp_path / "sharded", sharded=True) == str(sharded)
    assert last_checkpoint(tmp_path / "sharded") is None
    checkpoint(tmp_path / "whole", 10, COMPLETE)
    assert last_checkpoint(tmp_path / "whole", sharded=True) is None


def test_a_work_folder_is_kept_by_its_own_experiment_alone(tmp_path):
    work = tmp_path / "work"
    prepare_work(work, {"seed": 0})
    checkpoint(work, 5, COMPLETE)
    prepare_work(work, {"seed": 0})
    assert (work / "checkpoint-5").is_dir()
    prepare_work(work, {"seed": 1})
    assert [path.name for path in work.iterdir()] == ["identity.json"]


def test_all_finished_folders_are_published_and_their_work_is_pruned(tmp_path):
    finals = {final(tmp_path / f"work/{seed}"): tmp_path / f"out/{seed}" for seed in "01"}
    publish_all(finals)
    for folder, output in finals.items():
        assert (output / "model.safetensors").samefile(folder / "model.safetensors")
        assert sorted(path.name for path in folder.parent.iterdir()) == ["final", "identity.json"]


def test_where_files_cannot_be_linked_they_are_copied_and_the_work_is_removed(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    folder, output = final(tmp_path / "work"), tmp_path / "out"
    monkeypatch.setattr("os.link", refuse)
    publish_all({folder: output})
    assert (output / "model.safetensors").read_bytes() == b"weights"
    assert not folder.parent.exists()


def test_only_rank_0_publishes(tmp_path, monkeypatch: pytest.MonkeyPatch):
    folder, output = final(tmp_path / "work"), tmp_path / "out"
    monkeypatch.setenv("RANK", "1")
    publish_all({folder: output})
    assert not output.exists() and (folder.parent / "checkpoint-8").exists()
