"""Faults of a pull and their repairs, as docs/REMOTES.md lists them."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.released import (
    BSR,
    BT,
    MODELS,
    SPLITS,
    Clone,
    contents,
    damaged,
    flipped,
    object_of,
    overwrite,
)
from support.remotes import web

pytestmark = pytest.mark.slow
FILES, DAMAGED = contents(), damaged()
REST = {name: content for name, content in FILES.items() if not name.startswith(MODELS)}


@pytest.fixture
def fresh(released: Clone, tmp_path: Path) -> Clone:
    """A clone into which nothing was pulled."""
    return Clone(tmp_path / "clone", released)


@pytest.fixture
def pulled(released: Clone, tmp_path: Path) -> Clone:
    """A clone that has everything, in its workspace and in its cache."""
    return Clone(tmp_path / "clone", released, whole=True)


def looked_at(clone: Clone) -> str:
    """`dvc status` that reads every byte, because it remembers nothing."""
    return clone.dvc("status", DVC_SITE_CACHE_DIR=f"{clone.home}/empty")


# On the remote


def test_objects_damaged_on_the_remote_are_refused_and_named(fresh):
    for name, content in DAMAGED.items():
        overwrite(fresh.stored(object_of(name)), content)
    assert f"Checkout failed for following targets: {MODELS}" in fresh.refused("pull")
    assert fresh.found() == REST
    assert not any(fresh.cached(object_of(name)).exists() for name in DAMAGED)
    said = fresh.dvc("status", "--cloud")
    assert all(f"deleted: {name}" in said for name in DAMAGED)
    fresh.git("restore", "dvcstore")
    fresh.dvc("pull")
    assert fresh.found() == FILES


def test_an_edited_listing_on_the_remote_is_followed_and_only_status_sees_it(fresh):
    """DVC checks what it fetches, but reads the lists of it before it does."""
    listing = fresh.stored(fresh.listing)
    hashes = [object_of(name).removeprefix("files/md5/").replace("/", "") for name in (BSR, BT)]
    overwrite(listing, listing.read_text().replace(*hashes).encode())
    fresh.dvc("pull")
    assert fresh.found() == FILES | {BSR: FILES[BT]}
    assert not fresh.is_clean()
    fresh.git("restore", "dvcstore")
    fresh.refused("pull")
    fresh.dvc("pull")
    assert fresh.found() == FILES and fresh.is_clean()


def test_an_object_missing_on_the_remote_holds_all_back_until_checkout(fresh):
    fresh.stored(object_of(BT)).unlink()
    assert "failed to download" in fresh.refused("pull")
    assert fresh.found() == {}
    assert MODELS in fresh.refused("checkout")
    assert fresh.found() == REST
    fresh.git("restore", "dvcstore")
    fresh.dvc("pull")
    assert fresh.found() == FILES


def test_an_unreachable_remote_brings_nothing_and_the_default_one_still_does(fresh):
    remotes = {
        "s3://models/rm": "Could not connect to the endpoint",
        "ssh://127.0.0.1:9/rm": "Connect call failed",
        "/no/such/folder": "do not exist neither locally nor on remote",
    }
    keys = {"AWS_ACCESS_KEY_ID": "of-tests", "AWS_SECRET_ACCESS_KEY": "throwaway"}
    for url, message in remotes.items():
        nobody = {"endpointurl": "http://127.0.0.1:9"} if url.startswith("s3") else {}
        fresh.remote("big", url, **nobody)
        said = fresh.refused("pull", "--remote", "big", AWS_MAX_ATTEMPTS="1", **keys)
        assert message in said and fresh.found() == {}
    fresh.dvc("pull")
    assert fresh.found() == FILES


# In the cache


def test_objects_damaged_in_the_cache_come_through_and_a_look_at_the_bytes_finds_them(fresh):
    """The cache is trusted; status remembers what it believes."""
    fresh.dvc("fetch")
    for name, content in DAMAGED.items():
        overwrite(fresh.cached(object_of(name)), content)
    fresh.dvc("pull")
    assert fresh.found() == FILES | DAMAGED
    assert fresh.is_clean() and MODELS in looked_at(fresh)
    for name in DAMAGED:
        fresh.cached(object_of(name)).unlink()
        (fresh.folder / name).unlink()
    fresh.dvc("pull", *DAMAGED)
    assert fresh.found() == FILES


# In the workspace


def test_files_damaged_in_the_workspace_are_seen_and_kept_until_force(pulled):
    for name, content in DAMAGED.items():
        overwrite(pulled.folder / name, content)
    said = pulled.dvc("data", "status", "--granular")
    assert all(f"modified: {name}" in said for name in DAMAGED)
    said = pulled.refused("pull")
    assert all(str(pulled.folder / name) in said for name in DAMAGED)
    assert pulled.found() == FILES | DAMAGED
    pulled.dvc("checkout", "--force", *DAMAGED)
    assert pulled.found() == FILES


def test_damage_that_keeps_size_and_time_is_repaired_by_removing_the_file(fresh):
    fresh.dvc("pull")
    path = fresh.folder / BT
    times = path.stat()
    overwrite(path, flipped(FILES[BT]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fresh.is_clean() and MODELS in looked_at(fresh)
    fresh.dvc("checkout", "--force", BT)
    assert fresh.found() != FILES
    path.unlink()
    fresh.dvc("pull", BT)
    assert fresh.found() == FILES


def test_a_checkpoint_replaced_by_another_model_s_is_seen_and_put_right(pulled):
    shutil.copy(pulled.folder / BSR, pulled.folder / BT)
    assert f"modified: {BT}" in pulled.dvc("data", "status", "--granular")
    pulled.dvc("pull")  # asks nothing, for these bytes are in the cache
    assert pulled.found() == FILES


def test_files_of_one_s_own_are_never_removed_without_force(fresh):
    beside, ignored = {"runs/small/mine": b"mine"}, {f"{MODELS}/llama/bt/seed-1/model": b"mine"}
    own = {BT: b"my own model", f"{SPLITS}/mine.parquet": b"mine"}
    for name, content in (own | beside | ignored).items():
        (fresh.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh.folder / name).write_bytes(content)
    (fresh.folder / ".dvcignore").write_text(*ignored)
    said = fresh.refused("pull")
    assert all(str(fresh.folder / name) in said for name in own)
    assert fresh.found() == own | beside | ignored  # and nothing of the release
    fresh.dvc("pull", "--force")
    assert fresh.found() == FILES | beside | ignored


# On the way


def test_a_killed_pull_is_completed_by_the_next_one(fresh):
    with web(fresh.folder / "dvcstore", stall=object_of(BT)) as server:
        fresh.remote("web", server.url)
        pull = fresh.start("pull", "--remote", "web")
        assert server.halfway.wait(60)
        pull.kill()
        assert fresh.ends(pull)[0] == -signal.SIGKILL
    assert fresh.found() == {} and not fresh.cached(object_of(BT)).exists()
    fresh.dvc("pull")
    assert fresh.found() == FILES


def test_a_pull_whose_connection_breaks_is_completed_by_the_next_one(fresh):
    with web(fresh.folder / "dvcstore", stall=object_of(BT)) as server:
        server.release.set()
        fresh.remote("web", server.url)
        assert "failed to transfer" in fresh.refused("pull", "--remote", "web")
    assert fresh.found() == {} and not fresh.cached(object_of(BT)).exists()
    fresh.dvc("pull")
    assert fresh.found() == FILES


def test_of_two_pulls_at_once_the_second_waits_a_little_and_gives_up(fresh):
    with web(fresh.folder / "dvcstore", stall=object_of(BT)) as server:
        fresh.remote("web", server.url)
        first = fresh.start("pull", "--remote", "web")
        assert server.halfway.wait(60)
        assert "Unable to acquire lock" in fresh.refused("pull")
        server.release.set()
        fresh.ends(first)
    fresh.dvc("pull")
    assert fresh.found() == FILES


# Disks


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[None]:
    """A file system of 4 MB at this folder; the test is skipped where there can be none."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("a small disk for a test needs root")
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk for a test: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


@pytest.mark.parametrize(
    ("left", "message"), [(300_000, "No space left on device"), (700_000, "Checkout failed")]
)
def test_a_full_disk_leaves_no_half_file_and_a_pull_with_room_completes(
    released, left, message, tmp_path
):
    """The first has no room for the cache, the second none for the files beside it."""
    folder = tmp_path / "clone"
    with disk(folder):
        clone = Clone(folder, released)
        filler = folder / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(folder).free - left))
        assert message in clone.refused("pull")
        assert clone.found().items() <= FILES.items() and BT not in clone.found()
        filler.unlink()
        clone.dvc("pull")
        assert clone.found() == FILES


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest(released, fresh, tmp_path):
    shared = tmp_path / "shared"
    with disk(shared):
        shutil.copytree(released.folder / ".dvc" / "cache", shared, dirs_exist_ok=True)
        fresh.dvc("cache", "dir", "--local", str(shared))
        remount(shared, "ro")
        fresh.dvc("pull")
        assert fresh.found() == FILES
        remount(shared, "rw")
        (shared / object_of(BT)).unlink()
        remount(shared, "ro")
        shutil.rmtree(fresh.folder / MODELS)
        assert "Read-only file system" in fresh.refused("pull")
        assert not any(name.startswith(MODELS) for name in fresh.found())
        fresh.dvc("cache", "dir", "--local", "--unset")
        fresh.dvc("pull")
        assert fresh.found() == FILES
