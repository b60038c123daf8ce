"""The Hugging Face hub, as much of it as huggingface_hub needs, on a port of this machine.

Repositories are folders. Models are known by their name, data sets as `datasets/NAME`; each has one
commit. Faults are switched on by the attributes of `Hub`.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40
TOKEN = "hf_madeUpForTheTests"


class Hub(ThreadingHTTPServer):
    """Repositories by name, and the requests: path and range of bytes."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories = repositories
        self.gated: set[str] = set()  # these want TOKEN
        self.cut: dict[str, int] = {}  # a file's answer ends after so many bytes, once
        self.held: dict[str, threading.Event] = {}  # as `cut`, but in the middle, and silently
        self.damaged: set[str] = set()  # a byte of these is another one
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str) -> dict[str, bytes]:
        """What is in a repository."""
        folder = self.repositories[name]
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def fetched(self) -> list[str]:
        """The files whose bytes were requested."""
        return [path.rpartition("/")[2] for path, _ in self.requests if "/resolve/" in path]


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        self.server.requests.append((path, self.headers.get("Range", "")))
        listing = re.fullmatch(
            r"/api/(?:models/|(?=datasets/))((?:datasets/)?[^/]+/[^/]+)(?:/(tree|revision)/([^/]+))?(/auth-check)?",
            path,
        )
        file = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        if file:
            self.reply_file(*file.groups())
        elif listing and listing[4]:
            self.reply_access(listing[1])
        elif listing:
            self.reply_listing(*listing.groups()[:3])
        else:
            self.refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def known(self, name: str, commit: str | None) -> bool:
        """Whether there is such a repository and commit; if not, that is answered."""
        if name not in self.server.repositories:
            self.refuse(401, "RepoNotFound")
        elif commit not in (None, COMMIT, "main"):
            self.refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def reply_listing(self, name: str, kind: str | None, commit: str | None) -> None:
        if not self.known(name, commit):
            return
        files = []
        for path, data in self.server.files(name).items():
            entry = {"type": "file", "path": path, "rfilename": path, "size": len(data)}
            entry |= {"oid": "0" * 40, "blobId": "0" * 40}
            if path.endswith((".safetensors", ".parquet")):  # as git LFS has them
                sha256 = hashlib.sha256(data).hexdigest()
                lfs = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 130}
                entry["lfs"] = lfs
            files.append(entry)
        whole = {"id": name.removeprefix("datasets/"), "sha": COMMIT, "siblings": files}
        whole["gated"] = "auto" if name in self.server.gated else False
        self.reply(json.dumps(files if kind == "tree" else whole).encode())

    def may_read(self, name: str) -> bool:
        """Whether the request has the token of an account that accepted the terms."""
        token = self.headers.get("Authorization")
        return name not in self.server.gated or token == f"Bearer {TOKEN}"

    def reply_access(self, name: str) -> None:
        if self.known(name, None):
            self.reply(b"{}") if self.may_read(name) else self.refuse(403, "GatedRepo")

    def reply_file(self, name: str, commit: str, file: str) -> None:
        if not self.known(name, commit):
            return
        data = self.server.files(name).get(file)
        if not self.may_read(name):
            self.refuse(401, "GatedRepo")
        elif data is None:
            self.refuse(404, "EntryNotFound")
        else:
            self.reply(data, file)

    def reply(self, data: bytes, file: str = "") -> None:
        """Answer with the requested range of bytes."""
        first = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self.write(data[first:], file)

    def write(self, data: bytes, file: str) -> None:
        """Write an answer to its end, unless a fault is switched on for the file."""
        if file in self.server.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        if file in self.server.held:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.server.held[file].wait(60)
        elif file in self.server.cut:
            self.wfile.write(data[: self.server.cut.pop(file)])
        else:
            self.wfile.write(data)
            return
        self.close_connection = True

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[Hub]:
    """Run a hub with these repositories."""
    with Hub(repositories) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            for event in server.held.values():
                event.set()
            server.shutdown()
            thread.join()


MAIN = "from rm_robustness.cli.main import main; main()"


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """That of a machine that knows this hub and no other."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
    kept = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and "proxy" not in k.lower()}
    return kept | own


def run(
    hub: Hub, folder: Path, *arguments: object, program: str = MAIN, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` with `more` in its environment."""
    hub.requests.clear()
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env=environment(hub, folder) | more,
        capture_output=True,
        text=True,
        check=False,
    )
