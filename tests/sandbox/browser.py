"""A real browser for tests: headless Chromium, spoken to over a pipe by its debugging protocol."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

_PATIENCE = 20
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)

# The browser reads commands from file 3 and writes to file 4; the given ends may lie there the other way round.
_EXEC = """
import fcntl, os, sys
first, second = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(first, 3)
os.dup2(second, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab. Commands and events are JSON objects, each ended by NUL."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to = to_browser
        self._from = from_browser
        self._received = b""
        self._loads = 0
        self._number = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._from], [], [], _PATIENCE)
            assert ready, f"the browser has said nothing for {_PATIENCE} seconds"
            part = os.read(self._from, 65_536)
            assert part, "the browser has gone"
            self._received += part
        text, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        self._loads += found.get("method") == "Page.loadEventFired"
        return found

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _wait_for_load(self, before: int) -> None:
        while self._loads == before:
            self._read()

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        before = self._loads
        self._call("Page.navigate", url=url)
        self._wait_for_load(before)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Press the mouse on an element and wait for the page that comes."""
        box = self.run(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        before = self._loads
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self._wait_for_load(before)

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self.run(f"document.querySelector({selector!r}).focus()")
        self._call("Input.insertText", text=text)

    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.run("document.body.innerText"))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a fresh browser."""
    assert CHROMIUM is not None
    read_by_browser, to_browser = os.pipe()
    from_browser, written_by_browser = os.pipe()

    ends = (read_by_browser, written_by_browser)
    process = subprocess.Popen(
        [sys.executable, "-c", _EXEC, *map(str, ends), CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=ends,
        start_new_session=True,
    )
    os.close(read_by_browser)
    os.close(written_by_browser)
    try:
        yield Page(to_browser, from_browser)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the browser has children
        process.wait()
        os.close(to_browser)
        os.close(from_browser)
