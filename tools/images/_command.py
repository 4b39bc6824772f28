"""Running the tools that this package is made of."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from images._errors import ImagesError

_WORDS_KEPT = 2000


def run(*command: str, limit: float = 60, log: Path | None = None, cwd: Path | None = None) -> str:
    """Run a command to its end; return what it wrote to stdout, or write all it says to `log`.

    Raises:
        ImagesError: it is not installed, failed, or took more than `limit` seconds; with the end of what it said.
    """
    try:
        if log is None:
            return _captured(command, limit, cwd)
        with log.open("wb") as output:
            subprocess.run(  # noqa: S603 - our own tools
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=limit, cwd=cwd, check=True
            )
        return ""
    except FileNotFoundError as error:
        raise ImagesError(f"{command[0]} is not installed; tools/install-image-tools installs it.") from error
    except subprocess.TimeoutExpired as error:
        raise ImagesError(f"`{shlex.join(command)}` took more than {limit:.0f} s.") from error
    except subprocess.CalledProcessError as error:
        said = log.read_text(errors="replace") if log else (error.stderr or error.stdout or "")
        where = f" (all of it is in {log})" if log else ""
        raise ImagesError(f"`{shlex.join(command)}` failed{where}:\n{said[-_WORDS_KEPT:].strip()}") from error


def _captured(command: Sequence[str], limit: float, cwd: Path | None) -> str:
    return subprocess.run(  # noqa: S603 - our own tools
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, cwd=cwd, check=True
    ).stdout


def succeeds(*command: str, limit: float = 20) -> bool:
    """Say whether a command can be run and succeeds within `limit` seconds."""
    try:
        run(*command, limit=limit)
    except ImagesError:
        return False
    return True
