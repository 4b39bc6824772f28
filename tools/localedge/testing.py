"""For tests that start a runtime of their own."""

from __future__ import annotations

import os


def worker_address() -> str:
    """Return a loopback address that no other worker of pytest-xdist uses: 127.0.1.1 for gw0, 127.0.1.2 for gw1.

    azure-iot-device fixes the hub's port, so that runtimes side by side need addresses of their own. Without
    pytest-xdist it is 127.0.1.1, too.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return f"127.0.1.{int(worker) + 1}"
