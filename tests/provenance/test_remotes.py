"""What is pushed to a remote comes back from it, and damaged objects do not: docs/REMOTES.md."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.released import BT, MODELS, Clone, contents, damaged, object_of
from support.remotes import Remote, bucket, ssh, sshd

pytestmark = pytest.mark.slow
FILES, DAMAGED = contents(), damaged()


@dataclass(frozen=True)
class Shelf:
    """A remote to which everything was pushed, from a clone that was set up by hand."""

    remote: Remote
    pusher: Clone

    def clone(self, folder: Path) -> Clone:
        """A fresh clone that has this remote beside the default one."""
        clone = Clone(folder, self.pusher)
        (clone.folder / ".dvc" / "config.local").write_text(self.settings())
        at_home(clone, self.remote)
        return clone

    def settings(self) -> str:
        """What the commands have written."""
        return (self.pusher.folder / ".dvc" / "config.local").read_text()

    @contextlib.contextmanager
    def spoiled(self) -> Iterator[None]:
        """Two damaged objects lie on the remote; afterwards those of a good cache do."""
        for name, content in DAMAGED.items():
            self.remote.write(object_of(name), content)
        try:
            yield
        finally:
            for key in map(object_of, DAMAGED):
                self.remote.write(key, self.pusher.cached(key).read_bytes())


def at_home(clone: Clone, remote: Remote) -> None:
    clone.environment.update(remote.environment)
    if remote.home:
        (clone.home / ".ssh").symlink_to(remote.home / ".ssh")


@contextlib.contextmanager
def started(kind: str, folder: Path) -> Iterator[Remote]:
    if kind == "folder":
        yield Remote(str(folder / "store"), folder / "store")
    elif kind == "s3":
        with bucket() as remote:
            yield remote
    else:
        if reason := sshd():
            needed = os.environ.get("CI") or os.environ.get("RM_ROBUSTNESS_NEEDS_SSHD")
            (pytest.fail if needed else pytest.skip)(reason)
        with ssh(folder) as remote:
            yield remote


@pytest.fixture(scope="module", params=["folder", "s3", "ssh"])
def shelf(request, released: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp(request.param)
    with started(request.param, folder) as remote:
        pusher = Clone(folder / "pusher", released, whole=True)
        at_home(pusher, remote)
        pusher.dvc("remote", "add", "--local", "big", remote.url)
        for name, value in remote.settings.items() | {("verify", "true")}:
            pusher.dvc("remote", "modify", "--local", "big", name, value)
        pusher.dvc("push", "--remote", "big")
        yield Shelf(remote, pusher)


def test_what_was_pushed_is_pulled_into_a_fresh_clone(shelf, tmp_path):
    clone = shelf.clone(tmp_path / "clone")
    clone.dvc("pull", "--remote", "big")
    assert clone.found() == FILES
    assert "in sync" in clone.dvc("status", "--cloud", "--remote", "big")


def test_git_sees_neither_the_remote_nor_a_credential(shelf):
    assert shelf.pusher.git("status", "--porcelain") == ""
    assert not any(word in shelf.settings() for word in shelf.remote.environment.values())


def test_damaged_objects_are_refused_until_good_ones_lie_there(shelf, tmp_path):
    clone = shelf.clone(tmp_path / "clone")
    with shelf.spoiled():
        assert MODELS in clone.refused("pull", "--remote", "big")
    for name in DAMAGED:
        assert name not in clone.found() and not clone.cached(object_of(name)).exists()
    clone.dvc("pull", "--remote", "big")
    assert clone.found() == FILES


def test_without_verify_damaged_objects_come_through(shelf, tmp_path):
    clone = shelf.clone(tmp_path / "clone")
    config = clone.folder / ".dvc" / "config.local"
    config.write_text(config.read_text().replace("verify = true", "verify = false"))
    with shelf.spoiled():
        clone.dvc("pull", "--remote", "big")
    assert clone.found() == FILES | DAMAGED
    assert clone.is_clean()


@pytest.mark.parametrize("shelf", ["ssh"], indirect=True)
def test_ssh_hosts_are_not_verified(shelf, tmp_path):
    """DVC does not check known_hosts, which has a different key for this address."""
    clone = shelf.clone(tmp_path / "clone")
    assert "127.0.0.1" in (clone.home / ".ssh" / "known_hosts").read_text()
    clone.dvc("fetch", "--remote", "big", "splits")


def test_one_model_is_pushed_and_pulled_by_its_path(released, tmp_path):
    pusher = Clone(tmp_path / "pusher", released, whole=True)
    clone = Clone(tmp_path / "clone", released)
    for each in (pusher, clone):
        each.remote("big", f"{tmp_path}/store")
    model = str(Path(BT).parent)
    assert "3 files pushed" in pusher.dvc("push", "--remote", "big", model)
    clone.dvc("pull", "--remote", "big", model)
    assert set(clone.found()) == {name for name in FILES if name.startswith(model)}
    clone.dvc("pull")  # the rest comes from where the rest is
    assert clone.found() == FILES


def test_a_wrong_path_below_a_tracked_folder_pulls_nothing_and_says_nothing(released, tmp_path):
    clone = Clone(tmp_path / "clone", released)
    clone.dvc("pull", f"{MODELS}/llama/no-such-model")
    assert "does not exist" in clone.refused("pull", "runs/no-such-preset")
    assert clone.found() == {}


def test_push_trusts_a_listing_and_does_not_repair_the_files_in_it(released, tmp_path):
    """Therefore a damaged object is replaced from a cache, or removed along with the listing."""
    clone, store = Clone(tmp_path / "clone", released, whole=True), tmp_path / "store"
    clone.remote("big", str(store))
    clone.dvc("push", "--remote", "big")
    (store / object_of(BT)).unlink()
    assert "up to date" in clone.dvc("push", "--remote", "big")
    assert "in sync" in clone.dvc("status", "--cloud", "--remote", "big")
    (store / clone.listing).unlink()
    assert "2 files pushed" in clone.dvc("push", "--remote", "big")
    assert (store / object_of(BT)).read_bytes() == FILES[BT]


@pytest.mark.parametrize("links", ["copy", "symlink"])
def test_links_to_the_cache_bring_the_same_bytes_and_survive_a_run(released, links, tmp_path):
    clone = Clone(tmp_path / "clone", released)
    clone.dvc("config", "--local", "cache.type", links)
    clone.dvc("pull")
    assert clone.found() == FILES
    assert (clone.folder / BT).is_symlink() == (links == "symlink")
    # A rule makes a file beside it and renames that; the cache keeps what it has.
    (clone.folder / "new").write_bytes(b"new")
    (clone.folder / "new").replace(clone.folder / BT)
    assert clone.cached(object_of(BT)).read_bytes() == FILES[BT]


def test_hard_links_are_read_only_and_are_the_cache_itself(released, tmp_path):
    clone = Clone(tmp_path / "clone", released)
    clone.dvc("config", "--local", "cache.type", "hardlink")
    clone.dvc("pull")
    assert (clone.folder / BT).samefile(clone.cached(object_of(BT)))
    assert not (clone.folder / BT).stat().st_mode & 0o222
