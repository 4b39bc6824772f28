"""For tests that start a runtime of their own."""

from __future__ import annotations

import hashlib
import os


def worker_address() -> str:
    """Return a loopback address of this test process's own: the same at each call, another in each process.

    azure-iot-device fixes the hub's port, so that runtimes side by side need addresses of their own: the workers of
    one run of pytest-xdist differ in the last number, runs at the same time on one machine in the two before it.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    second, third = hashlib.sha256(run.encode()).digest()[:2]
    return f"127.{max(second, 1)}.{third}.{int(worker) + 1}"
