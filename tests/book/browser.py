"""Headless Chromium by its DevTools protocol over a pipe: no port, no driver, no further library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT = 120  # seconds for one answer: bounds a hang, as a busy machine may take its time
FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--disable-extensions", "--mute-audio", "--hide-scrollbars", "--use-mock-keychain"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but this machine is reached
)


class BrowserError(Exception):
    """The browser did not do what was asked of it."""


def find_browser() -> str | None:
    """Return the path of a browser; `None` if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """Start a browser, and give its only page."""
    to_browser, our_end = os.pipe()
    their_end, from_browser = os.pipe()[::-1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The protocol is spoken over the file descriptors 3 and 4
        script = f'exec "$@" 3<&{to_browser} 4>&{their_end}'
        command = ("bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={profile}")
        process = subprocess.Popen(
            command, pass_fds=(to_browser, their_end), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(their_end)
        try:
            yield Page(_Wire(our_end, from_browser))
        finally:
            os.close(our_end)
            os.close(from_browser)
            process.terminate()
            process.wait(LIMIT)


class _Wire:
    """Messages of the protocol: JSON, each with a zero byte at its end."""

    def __init__(self, write_end: int, read_end: int) -> None:
        self._write_end = write_end
        self._read_end = read_end
        self._bytes = b""

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write_end, data) :]

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message; `None` if there is none in that time."""
        end = time.monotonic() + seconds
        while b"\0" not in self._bytes:
            readable, _, _ = select.select([self._read_end], [], [], max(0.0, end - time.monotonic()))
            if not readable:
                return None
            chunk = os.read(self._read_end, 1 << 20)
            if not chunk:
                message = "the browser has ended"
                raise BrowserError(message)
            self._bytes += chunk
        line, _, self._bytes = self._bytes.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Page:
    """A tab of the browser.

    Attributes:
        events: what the page has reported since the last `open`, in its order.
    """

    def __init__(self, wire: _Wire) -> None:
        self.events: list[dict[str, Any]] = []
        self._wire = wire
        self._last = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._wire.send(message)
        end = time.monotonic() + LIMIT
        while (answer := self._wire.receive(end - time.monotonic())) is not None:
            if answer.get("id") != self._last:
                self.events.append(answer)
                continue
            if "error" in answer:
                raise BrowserError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result
        raise BrowserError(f"{method}: no answer")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the window."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def color_scheme(self, scheme: str) -> None:
        """Prefer `light` or `dark`, as a setting of the system would."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address: str) -> None:
        """Load a page, and wait until it is loaded, with all that it asks for."""
        self.events.clear()
        self._call("Page.navigate", url=address)
        end = time.monotonic() + LIMIT
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            event = self._wire.receive(end - time.monotonic())
            if event is None:
                raise BrowserError(f"{address} is not loaded")
            self.events.append(event)

    def run(self, code: str) -> Any:
        """Return what JavaScript makes of an expression, awaited if it is a promise."""
        answer = self._call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{code[:80]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, code: str) -> Any:
        """Return the value of an expression once it is true."""
        end = time.monotonic() + LIMIT
        while not (value := self.run(code)):
            if time.monotonic() > end:
                raise BrowserError(f"never came: {code}")
            time.sleep(0.05)
        return value

    def screenshot(self, file: Path) -> None:
        """Write what is seen as a PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """Return the errors that the page has reported since it was opened: scripts, and what could not be loaded."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
        return [
            json.dumps(event["params"])[:500]
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
            or (event.get("method") == "Network.loadingFailed" and not event["params"].get("canceled"))
            or (event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] in {"error", "assert"})
            or (event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
        ]

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for since it was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
