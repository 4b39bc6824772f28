"""Running the tools that a rehearsal is made of."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from release._errors import ReleaseError

LIMIT = 900.0  # seconds; a dependency may have to be compiled
_WORDS_KEPT = 3000


def run(*command: str, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run a command to its end; return what it wrote to stdout.

    Raises:
        ReleaseError: it is not there, failed, or took too long; with the end of what it said.
    """
    environment = {**os.environ, **(variables or {})}
    try:
        return subprocess.run(  # noqa: S603 - our own tools
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        ).stdout
    except FileNotFoundError as error:
        raise ReleaseError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"`{shlex.join(command)}` took more than {LIMIT:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = (error.stdout + error.stderr)[-_WORDS_KEPT:].strip()
        raise ReleaseError(f"`{shlex.join(command)}` failed:\n{said}") from error
