"""The run that is drawn: a module at work on the local edge runtime, and what happens to it."""

from __future__ import annotations

import itertools
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dashboard._queries import Scrape, read_scrape
from localedge import HubError, LocalEdge

SECONDS = 300
PERIOD = 2.0  # seconds between two scrapes
_RATE = 6_000_000  # bytes per second: for tasks to take a while
_SMALL, _LARGE = 200_000, 24_000_000  # bytes of a file
_RULE = {"name": "measurements", "direction": "upload", "source": "out", "dest": "measurements", "then": "delete"}


def run(template: Path, address: str, seconds: float = SECONDS) -> list[Scrape]:
    """Let the module work, and things happen to it; return what was scraped."""
    port = _free_port(address)
    with LocalEdge(
        template,
        address=address,
        sftp_server=True,
        environment={"SFTP_METRICS_PORT": str(port)},
        desired={
            "transfers": {"bandwidthLimit": _RATE},
            "rules": [{**_RULE, "every": 10, "min_age": 0}],
        },
    ) as edge:
        edge.wait_until_connected()
        ended = threading.Event()
        threads = [threading.Thread(target=work, args=(edge, ended)) for work in (_call, _give_tasks, _feed_rule)]
        for thread in threads:
            thread.start()
        try:
            return _watch(f"http://{address}:{port}/metrics", seconds, _events(edge, seconds))
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def _events(edge: LocalEdge, seconds: float) -> list[tuple[float, Callable[[], object]]]:
    """Return what happens, each at its time: the server goes, a password is wrong, the connection to the hub breaks."""
    password = edge.sftp_server.password
    return [
        (seconds * 0.30, edge.stop_sftp_server),
        (seconds * 0.42, edge.start_sftp_server),
        (seconds * 0.60, lambda: edge.patch_desired({"sftp": {"password": "no longer valid"}})),
        (seconds * 0.70, lambda: edge.patch_desired({"sftp": {"password": password}})),
        (seconds * 0.85, edge.disconnect_module),
    ]


def _watch(url: str, seconds: float, events: list[tuple[float, Callable[[], object]]]) -> list[Scrape]:
    scrapes: list[Scrape] = []
    started = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0.0, started + number * PERIOD - time.monotonic()))
        passed = time.monotonic() - started
        while events and events[0][0] <= passed:
            events.pop(0)[1]()
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - it is ours
            scrapes.append(read_scrape(passed, response.read().decode()))
        if passed >= seconds:
            return scrapes
    raise AssertionError


def _call(edge: LocalEdge, ended: threading.Event) -> None:
    (edge.local_root / "small.bin").write_bytes(bytes(_SMALL))
    calls = (
        ("upload_file", {"source": "small.bin", "dest": "small/"}),
        ("exists", {"path": "small/small.bin"}),
        ("list_files", {"path": "."}),
        ("download_file", {"source": "small/small.bin", "dest": "in/"}),
        ("download_file", {"source": "nothing-here.bin", "dest": "in/"}),
    )
    for method, payload in itertools.cycle(calls):
        if ended.wait(0.4):
            return
        with suppress(HubError):  # it is not connected for a moment
            edge.invoke("sftp", method, {**payload, "timeout": 5})


def _give_tasks(edge: LocalEdge, ended: threading.Event) -> None:
    (edge.local_root / "large.bin").write_bytes(bytes(_LARGE))
    for number in itertools.count():
        with suppress(HubError):
            edge.invoke("sftp", "upload_file", {"source": "large.bin", "dest": f"l/{number % 7}", "background": True})
        if ended.wait(9):
            return


def _feed_rule(edge: LocalEdge, ended: threading.Event) -> None:
    folder = edge.local_root / "out"
    folder.mkdir(exist_ok=True)
    for number in itertools.count():
        (folder / f"{number}.csv").write_bytes(bytes(_SMALL // 4))
        if ended.wait(1.5):
            return


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
