"""The Hugging Face hub, as much of it as its clients need, on a port of this machine.

It serves folders as repositories: listings, files by range, large files by a redirect to storage
that wants no token, gated repositories, and git repositories by `git http-backend` beside them.
Faults are switched on by the attributes of `Hub`.
"""

import hashlib
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, TypeVar

LARGE = (".safetensors", ".parquet", ".jsonl", ".pth", ".bin")  # kept in git LFS


class Repository(NamedTuple):
    """A folder of files at one commit."""

    folder: Path
    commit: str

    def files(self) -> dict[str, bytes]:
        """The content of every file by its path."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


class Hub(ThreadingHTTPServer):
    """Repositories by name, data sets with `datasets/` before it; and the requests so far.

    A file of a fault is named by its last part, or by `REPOSITORY/FILE`.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, repositories: dict[str, Repository], token: str = "", git: Path | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories, self.token, self.git = repositories, token, git
        self.gated: set[str] = set()  # these want the token
        self.cut: dict[str, int] = {}  # a file's answer ends after so many bytes, once
        self.held: dict[str, threading.Event] = {}  # as `cut`, but in the middle, and silently
        self.damaged: set[str] = set()  # a byte of these is another one
        self.goes_down: dict[str, float] = {}  # at a request for the file, for so many seconds
        self.down_until = 0.0
        self.faults: list[str] = []  # those that happened
        self.requests: list[tuple[str, str]] = []  # path and range of bytes

    def shutdown(self) -> None:
        """Let go of what is held, and stop."""
        for event in self.held.values():
            event.set()
        super().shutdown()

    @property
    def url(self) -> str:
        """What the environment variable HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str) -> dict[str, bytes]:
        """What is in a repository."""
        return self.repositories[name].files()

    def fetched(self) -> list[str]:
        """The files whose bytes were requested."""
        return [path.rpartition("/")[2] for path, _ in self.requests if "/resolve/" in path]


class HubHandler(BaseHTTPRequestHandler):
    """Handler of one connection."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a listing, a file or a question about access."""
        if self.is_down():
            return
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        self.server.requests.append((path, self.headers.get("Range", "")))
        listing = re.fullmatch(
            r"/api/(?:models/|(?=datasets/))((?:datasets/)?[^/]+/[^/]+)"
            r"(?:/(tree|revision)/([^/]+)(?:/(.+))?)?(/auth-check)?",
            path,
        )
        file = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        stored = re.fullmatch(r"/storage/(.+?)/at/(.+)", path)
        if file:
            self.reply_file(*file.groups())
        elif stored:
            name, path = stored.groups()
            self.reply_bytes(self.server.files(name)[path], f"{name}/{path}")
        elif listing and listing[5]:
            self.reply_access(listing[1])
        elif listing:
            self.reply_listing(listing[1], listing[2], listing[3], listing[4] or "")
        elif self.server.git and re.match(r"/git/.+\.git/", path):
            self.reply_git()
        else:
            self.refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """Answer which of some paths there are, or a fetch by git."""
        if self.is_down():
            return
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        asked = re.fullmatch(r"/api/(?:models/|(?=datasets/))(.+)/paths-info/([^/]+)", path)
        if asked and self.known(asked[1], asked[2]):
            body = self.body()
            paths = (
                json.loads(body)["paths"]
                if body.startswith(b"{")
                else urllib.parse.parse_qs(body.decode())["paths"]
            )
            entries = {entry["path"]: entry for entry in self.entries(asked[1])}
            self.reply(json.dumps([entries[each] for each in paths if each in entries]).encode())
        elif self.server.git and path.startswith("/git/"):
            self.reply_git()
        elif not asked:
            self.refuse(404, "EntryNotFound")

    def is_down(self) -> bool:
        """Whether there is no answer now; the connection is then closed."""
        down = time.monotonic() < self.server.down_until
        self.close_connection = self.close_connection or down
        return down

    def body(self) -> bytes:
        """The body of a request."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def known(self, name: str, commit: str | None) -> bool:
        """Whether there is such a repository and commit; if not, that is answered."""
        if name not in self.server.repositories:
            self.refuse(401, "RepoNotFound")
        elif commit not in (None, self.server.repositories[name].commit, "main"):
            self.refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def entries(self, name: str, folder: str = "") -> list[dict[str, object]]:
        """What the hub says of each file of a folder and below."""
        found = []
        for path, data in self.server.files(name).items():
            if folder and not path.startswith(f"{folder}/"):
                continue
            entry: dict[str, object] = {"type": "file", "path": path, "size": len(data)}
            entry |= {"rfilename": path, "oid": "0" * 40, "blobId": "0" * 40}
            if path.endswith(LARGE):
                sha256 = hashlib.sha256(data).hexdigest()
                lfs = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 130}
                entry["lfs"] = lfs
            found.append(entry)
        return found

    def reply_listing(self, name: str, kind: str | None, commit: str | None, folder: str) -> None:
        """Answer with what a repository, or a folder of it, has."""
        if not self.known(name, commit):
            return
        entries = self.entries(name, folder)
        if kind == "tree":
            self.reply(json.dumps(self.within(entries, folder)).encode())
            return
        whole: dict[str, object] = {"id": name.removeprefix("datasets/"), "siblings": entries}
        whole |= {"sha": self.server.repositories[name].commit, "tags": [], "downloads": 0}
        whole |= {"gated": "auto" if name in self.server.gated else False, "private": False}
        self.reply(json.dumps(whole).encode())

    def within(self, entries: list[dict[str, object]], folder: str) -> list[dict[str, object]]:
        """A tree's entries; without `recursive` those of the folder itself alone."""
        if "recursive=" in self.path and "recursive=false" not in self.path.lower():
            return entries
        depth = len(Path(folder).parts)
        direct = [each for each in entries if len(Path(str(each["path"])).parts) == depth + 1]
        below = {"/".join(Path(str(each["path"])).parts[: depth + 1]) for each in entries}
        folders = below - {str(each["path"]) for each in direct}
        return direct + [
            {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
            for path in sorted(folders)
        ]

    def may_read(self, name: str) -> bool:
        """Whether the request has the token of an account that accepted the terms."""
        token = self.headers.get("Authorization")
        return name not in self.server.gated or token == f"Bearer {self.server.token}"

    def reply_access(self, name: str) -> None:
        """Answer whether the files may be read."""
        if self.known(name, None):
            self.reply(b"{}") if self.may_read(name) else self.refuse(403, "GatedRepo")

    def reply_file(self, name: str, commit: str, file: str) -> None:
        """Answer with a file, or with the place of a large one."""
        if not self.known(name, commit):
            return
        data = self.server.files(name).get(file)
        headers = {"X-Repo-Commit": self.server.repositories[name].commit}
        if not self.may_read(name):
            self.refuse(401, "GatedRepo")
        elif data is None:
            self.refuse(404, "EntryNotFound")
        elif file.endswith(LARGE):
            sha256 = hashlib.sha256(data).hexdigest()
            # Another host, as on the hub: clients go there to download alone, without the token.
            host = f"http://localhost:{self.server.server_port}"
            place = f"{host}/storage/{urllib.parse.quote(name)}/at/{file}"
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{sha256}"'}
            self.reply(b"", status=302, Location=place, **headers)
        else:
            self.reply_bytes(data, f"{name}/{file}", **headers)

    def reply_bytes(self, data: bytes, file: str, **more: str) -> None:
        """Answer with the requested range of a file's bytes, unless a fault is switched on."""
        if seconds := self.fault(self.server.goes_down, file):
            self.server.down_until = time.monotonic() + seconds
            self.server.faults.append(f"the hub was down for {seconds:g} s at {file}")
            self.close_connection = True
            return
        first = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        more |= {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        if first:
            more |= {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        self.reply(data[first:], file, status=206 if first else 200, **more)

    def reply(self, data: bytes, file: str = "", status: int = 200, **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.write(data, file)

    def write(self, data: bytes, file: str) -> None:
        """Write a body to its end, unless a fault is switched on for the file."""
        name = file.rpartition("/")[2]
        if {name, file} & self.server.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        if held := self.server.held.get(name):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            held.wait(60)
        elif end := self.fault(self.server.cut, file):
            self.server.faults.append(f"{file} ended after {end} of {len(data)} bytes")
            self.wfile.write(data[: int(end)])
        else:
            self.wfile.write(data)
            return
        self.close_connection = True

    @staticmethod
    def fault(faults: dict[str, float] | dict[str, int], file: str) -> float | None:
        """Take the fault of a file, which happens once."""
        return faults.pop(file, faults.pop(file.rpartition("/")[2], None))

    def reply_git(self) -> None:
        """Answer a request of git's smart protocol by git's own server side."""
        path, _, query = self.path.removeprefix("/git").partition("?")
        body = self.body() if self.command == "POST" else b""
        server = {
            "GIT_PROJECT_ROOT": str(self.server.git),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(
            command, input=body, env=os.environ | server, capture_output=True, check=True
        )
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200 OK").split()[0])
        self.reply(data, status=status, **headers)

    def refuse(self, status: int, code: str) -> None:
        """Answer with the hub's code of an error."""
        self.reply(b"", status=status, **{"X-Error-Code": code})

    def log_message(self, *_: object) -> None:
        """Requests are kept in `requests` instead."""


S = TypeVar("S", bound=ThreadingHTTPServer)


@contextmanager
def serving(server: S) -> Iterator[S]:
    """Run a server in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
