"""The examples of docs/fleet.md, run as an operator would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 900.0  # seconds: they bound a hang


def run_example(example: str, *arguments: str, connection_string: str, authority: Path) -> tuple[int, str]:
    """Run an example against a hub; return its exit status and what it said."""
    environment = {
        **os.environ,
        "REQUESTS_CA_BUNDLE": str(authority),
        "IOTHUB_CONNECTION_STRING": connection_string,
    }
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stdout + done.stderr


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            message = f"after {LIMIT:g} s it did not come to this: {what}"
            raise TimeoutError(message)
        time.sleep(0.1)
