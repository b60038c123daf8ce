"""Places on this machine where DVC can store: a bucket, an SSH server, a folder, a web server."""

import contextlib
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from pwd import getpwuid
from socket import create_connection
from threading import Event, Thread

import boto3
import psutil
from moto.server import ThreadedMotoServer
from slurm.machine import free_ports, packages
from support.released import overwrite


@dataclass(frozen=True)
class Remote:
    """A remote of DVC: its address, what `dvc remote modify` is to say, its users' environment.

    `folder` is where its objects lie on this machine; `home` holds files for a user's home folder.
    """

    url: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    home: Path | None = None

    def write(self, key: str, content: bytes) -> None:
        """Put other bytes in the place of an object."""
        overwrite(self.folder / key, content)


@dataclass(frozen=True)
class Bucket(Remote):
    """A remote in a bucket."""

    def write(self, key: str, content: bytes) -> None:
        """Put other bytes in the place of an object."""
        session = boto3.Session(*self.environment.values())
        place = session.resource("s3", endpoint_url=self.settings["endpointurl"])
        place.Object("models", f"rm/{key}").put(Body=content)


@contextlib.contextmanager
def bucket() -> Iterator[Remote]:
    """A bucket on moto's S3 server, in a thread; moto takes any credentials."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/models", method="PUT")).close()
        throwaway = {"AWS_ACCESS_KEY_ID": "of-tests", "AWS_SECRET_ACCESS_KEY": "throwaway"}
        yield Bucket("s3://models/rm", Path(), {"endpointurl": endpoint}, throwaway)
    finally:
        server.stop()


@contextlib.contextmanager
def ssh(folder: Path) -> Iterator[Remote]:
    """An sshd of our own on the loopback interface, with keys of its own, for this user alone.

    The user's key is in `home`, where SSH expects it, and beside it another server's key for this
    address. `sshd` must have found the daemon.
    """
    user, home = getpwuid(os.geteuid()).pw_name, folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    keys = (folder / "host", home / ".ssh" / "id_ed25519")
    for key in keys:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(key)]
        subprocess.run(words, check=True)
    (port,) = free_ports(1)
    (home / ".ssh" / "known_hosts").write_text(
        f"[127.0.0.1]:{port} {keys[1].with_suffix('.pub').read_text()}"
    )
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys[0]}\nPidFile none\n"
        f"AuthorizedKeysFile {keys[1]}.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"AllowUsers {user}\nSubsystem sftp internal-sftp\n"
    )
    if user == "root":  # where the system's own service has never run
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "sshd.log"
    daemon = psutil.Popen(
        ["/usr/sbin/sshd", "-D", "-f", str(folder / "sshd_config"), "-E", str(log)],
        stdin=subprocess.DEVNULL,
    )
    try:
        _until_it_answers(port, daemon, log)
        store = folder / "store"
        yield Remote(f"ssh://{user}@127.0.0.1:{port}{store}", store, home=home)
    finally:
        sessions = daemon.children(recursive=True)
        daemon.terminate()
        for process in psutil.wait_procs([*sessions, daemon], timeout=2)[1]:
            process.kill()


def _until_it_answers(port: int, daemon: psutil.Popen, log: Path) -> None:
    for _ in range(100):
        assert daemon.poll() is None, f"sshd does not start: {log.read_text()}"
        with contextlib.suppress(ConnectionRefusedError):
            return create_connection(("127.0.0.1", port)).close()
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def sshd() -> str | None:
    """Bring sshd onto this machine; the reason in one line where that fails."""
    return packages("an SSH server for tests", ["openssh-server"], ["sshd"])


class Stalling(SimpleHTTPRequestHandler):
    """Serves a folder, but of one object it sends a half and then waits."""

    stall = ""
    halfway, release = Event(), Event()

    def copyfile(self, source, outputfile):
        """Send a file's bytes."""
        content = source.read()
        if self.path.endswith(self.stall):
            outputfile.write(content[: len(content) // 2])
            outputfile.flush()
            self.halfway.set()
            self.release.wait()
        else:
            outputfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@dataclass(frozen=True)
class Web:
    """A web server's address; `halfway` is set once half of the chosen object is out.

    Setting `release` cuts that connection there.
    """

    url: str
    halfway: Event
    release: Event


@contextlib.contextmanager
def web(folder: Path, stall: str) -> Iterator[Web]:
    """A web server over `folder`, in a thread, that stalls in the middle of the object `stall`."""
    halfway, release = Event(), Event()
    handler = type("Handler", (Stalling,), dict(stall=stall, halfway=halfway, release=release))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Web(f"http://127.0.0.1:{server.server_port}", halfway, release)
    finally:
        release.set()
        server.shutdown()
        server.server_close()
