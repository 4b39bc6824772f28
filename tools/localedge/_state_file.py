"""How the commands find the runtime that `localedge run` has started: a file that only its user can read."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from localedge._errors import LocalEdgeError
from localedge._service_client import ServiceClient

_NAME = "localedge.json"


@dataclass(frozen=True)
class RunningEdge:
    """What a caller needs to know of a runtime."""

    connection_string: str
    authority: str
    device: str

    def client(self, device: str | None = None) -> ServiceClient:
        """Return a client of its service API, for a device; by default the first one."""
        return ServiceClient(self.connection_string, self.authority, device or self.device)


def write_state(edge: RunningEdge, directory: Path | None) -> Path:
    """Write the file into `directory`, or into the user's own runtime directory; return where it is."""
    file = _file(directory)
    file.unlink(missing_ok=True)
    # Created with its mode, so that the key in it is at no moment readable by others.
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(asdict(edge), stream)
    return file


def read_state(directory: Path | None) -> RunningEdge:
    """Return the runtime that was started last; `LocalEdgeError` if none runs."""
    file = _file(directory)
    try:
        return RunningEdge(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise LocalEdgeError(
            f"No runtime found ({file}): start one with 'localedge run', or name its --directory."
        ) from error


def _file(directory: Path | None) -> Path:
    if directory is None:
        parent = os.environ.get("XDG_RUNTIME_DIR")
        directory = Path(parent, "localedge") if parent else Path(tempfile.gettempdir(), f"localedge-{os.getuid()}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.lstat().st_uid != os.getuid():
        raise LocalEdgeError(f"{directory} belongs to somebody else: choose another with --directory.")
    return directory / _NAME
