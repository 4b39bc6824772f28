"""`iot-sftp`: the library on the command line, without further dependencies."""

from __future__ import annotations

import os
import runpy
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    if list(sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        print(f"iot-sftp {_version()}")
        return 0
    from iot.sftp.command_line._main import main as run  # noqa: PLC0415 - it imports the library

    return run(arguments)


def _version() -> str:
    """Return the library's version without importing it: scripts ask for it often, and small devices take a second."""
    found: str = runpy.run_path(os.path.join(os.path.dirname(__file__), "..", "client", "_version.py"))["VERSION"]
    return found
