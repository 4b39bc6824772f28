"""Real proxies of the distribution, and the tests' way to say through what a server is reached."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.servers import ATTEMPTS, _stop, free_port, wait_for_port

from iot.sftp.client import Jump, Proxy, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

USER, PASSWORD = "gateway", "correct-horse"  # tinyproxy takes no spaces
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/local/bin"])
MICROSOCKS, TINYPROXY = shutil.which("microsocks", path=SEARCHED), shutil.which("tinyproxy", path=SEARCHED)


@contextmanager
def socks_proxy(*, has_login: bool = False) -> Iterator[Proxy]:
    """Run microsocks: SOCKS version 5."""
    assert MICROSOCKS, "microsocks is missing: make test installs it, or install the package microsocks"
    login = ["-u", USER, "-P", PASSWORD] if has_login else []
    with _started(lambda port: [MICROSOCKS, "-i", "127.0.0.1", "-p", str(port), *login]) as port:
        yield _proxy(f"socks5h://127.0.0.1:{port}", has_login=has_login)


@contextmanager
def http_proxy(base: Path, *lines: str, has_login: bool = False) -> Iterator[Proxy]:
    """Run tinyproxy: HTTP's CONNECT.

    Parameters:
        base: a directory for its configuration.
        lines: further lines of that.
        has_login: whether it wants one.
    """
    assert TINYPROXY, "tinyproxy is missing: make test installs it, or install the package tinyproxy"
    base.mkdir(parents=True, exist_ok=True)
    login = [f"BasicAuth {USER} {PASSWORD}"] if has_login else []

    def command(port: int) -> list[str]:
        configuration = base / "tinyproxy.conf"
        common = [f"Port {port}", "Listen 127.0.0.1", "Timeout 600", f'LogFile "{base}/log"', "Allow 127.0.0.1"]
        configuration.write_text("\n".join([*common, *login, *lines, ""]))
        return [TINYPROXY or "", "-d", "-c", str(configuration)]

    with _started(command) as port:
        yield _proxy(f"http://127.0.0.1:{port}", has_login=has_login)


def _proxy(url: str, *, has_login: bool) -> Proxy:
    return Proxy(url, USER, Secret(PASSWORD)) if has_login else Proxy(url)


@contextmanager
def _started(command: Callable[[int], list[str]]) -> Iterator[int]:
    for _ in range(ATTEMPTS):
        port = free_port()
        process = subprocess.Popen(
            command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        if wait_for_port(process, port):
            break
        _stop(process)
    else:
        message = "the proxy did not start"
        raise RuntimeError(message)
    try:
        yield port
    finally:
        _stop(process)


def jump_of(server: Server, **options: object) -> Jump:
    """Return a server as a jump host, with the credential that it takes."""
    values: dict[str, object] = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": Secret(server.password) if server.password else None,
        "private_key": Secret.from_file(server.key_file) if server.key_file else None,
    }
    return Jump(**(values | options))  # type: ignore[arg-type]
