"""The site as `make docs` has built it, served on this machine, and a browser that looks at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.book.browser import Page, browser, find_browser

SITE = Path(__file__).parents[2] / "build/book/site"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Leave the output to the tests."""


@pytest.fixture(scope="session")
def site() -> Path:
    assert (SITE / "index.html").is_file(), "run: make docs"
    return SITE


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def page() -> Iterator[Page]:
    program = find_browser()
    assert program, "no browser: run tools/install-test-browser"
    with browser(program) as tab:
        yield tab
