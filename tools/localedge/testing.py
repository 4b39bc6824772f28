"""For tests that start a runtime of their own."""

from __future__ import annotations

import hashlib
import os

_ADDRESSES = 254


def worker_address() -> str:
    """Return a loopback address of this test process's own, 127.0.1.1 to 127.0.1.254: the same at each call.

    azure-iot-device fixes the hub's port, so that runtimes side by side need addresses of their own: the workers of
    a run of pytest-xdist always have different ones, and two runs at the same time on one machine most likely, too.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    block = int.from_bytes(hashlib.sha256(run.encode()).digest()[:4], "big") % (_ADDRESSES // workers)
    return f"127.0.1.{block * workers + worker + 1}"
