"""A headless Chromium driven over a pipe (Chrome DevTools Protocol), for tests of pages."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUIET = ("background-networking", "component-update", "sync", "quic", "dev-shm-usage", "extensions", "default-apps")
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NOTICES = ("willReadFrequently", "GPU stall due to ReadPixels")
"""Of Chromium, on how fast plotly draws."""


def find_browser() -> str | None:
    """Path of a Chromium or Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """One page of a browser: what it logged, and what an expression is in it."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer, self._next, self._rest = reader, writer, 0, b""
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._next:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._reader, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        params = message.get("params", {})
        said = ""
        if message.get("method") == "Runtime.consoleAPICalled":
            said = " ".join(str(a.get("value", a.get("description"))) for a in params["args"])
        elif message.get("method") == "Runtime.exceptionThrown":
            said = json.dumps(params["exceptionDetails"])
        elif message.get("method") == "Log.entryAdded":
            said = str(params["entry"]["text"])
        if said and not any(notice in said for notice in NOTICES):
            self.complaints.append(said)
        return message

    def resize(self, width: int, height: int) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, path: Path) -> None:
        """Open a file, and wait until its figures are drawn where it says when (``placed``)."""
        self.send("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")
        self.evaluate("typeof placed === 'undefined' ? null : placed.then(() => null)")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"not within {seconds} s: {expression}"
            time.sleep(0.05)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def open_browser(browser: str) -> Iterator[Page]:
    """A fresh browser with one empty page, ended with all its processes."""
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    # the browser reads commands on 3 and answers on 4: first out of the way of these
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, from_write)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [browser, "--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", *SOFTWARE_GL]
        arguments += [f"--disable-{name}" for name in QUIET]
        arguments += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        actions = [(os.POSIX_SPAWN_DUP2, end, place) for place, end in zip((3, 4), theirs, strict=True)]
        actions += [(os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_WRONLY, 0) for place in (1, 2)]
        process = os.posix_spawn(browser, arguments, os.environ, file_actions=actions, setsid=True)
        for end in (to_read, from_write, *theirs):
            os.close(end)
        try:
            yield Page(from_read, to_write)
        finally:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(to_write)
            os.close(from_read)
