"""A headless Chromium that tests look at pages with, through chromedriver's plain HTTP."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
from slurm.machine import packages

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)


def install() -> str | None:
    """Bring Chromium onto this machine; the reason in one line where that fails."""
    programs = ("/usr/bin/chromium", "/usr/bin/chromedriver")
    return packages("a browser for tests", ("chromium", "chromium-driver"), programs)


class Browser:
    """One page of a session of chromedriver."""

    def __init__(self, session: str) -> None:
        self.session = session

    def show(self, path: Path, width: int, *, dark: bool = False) -> None:
        """Open a local file in a window of this width, and wait for it and its images."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setDeviceMetricsOverride", **size)
        self._devtools("Emulation.setEmulatedMedia", features=[scheme])
        ask(f"{self.session}/url", {"url": path.resolve().as_uri()})

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which the page's own policy would not run."""
        said = self._devtools("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def picture(self, path: Path) -> None:
        """A picture of the whole page."""
        taken = self._devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return ask(f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, of which no process is left."""
    driver = subprocess.Popen(
        ["/usr/bin/chromedriver", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = next(
            m[1] for m in map(re.compile(r"successfully on port (\d+)").search, driver.stdout) if m
        )
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": "/usr/bin/chromium"}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        started = ask(f"http://127.0.0.1:{port}/session", {"capabilities": wanted})
        yield Browser(f"http://127.0.0.1:{port}/session/{started['sessionId']}")
    finally:
        ours = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(ours, timeout=30)
        driver.wait()
        driver.stdout.close()
        shutil.rmtree(profile, ignore_errors=True)


def ask(url: str, body: Any) -> Any:
    """The value of chromedriver's answer."""
    with urlopen(Request(url, json.dumps(body).encode()), timeout=60) as answer:
        return json.load(answer)["value"]
