"""The protocol between the running module and `iot-sftp check`: where their socket is, and what is sent there.

A request is one line of JSON, and so is each part of the answer; the last line gives the reason for the end:

    → {"command": "servers"}
    ← {"servers": ["sftp", "mes"]}
    ← {"end": {"code": null, "message": ""}}

    → {"command": "check", "timeout": 5.0, "name": "sftp"}
    ← {"server": "device-42 at sftp.example.com port 22"}
    ← {"step": {"name": "dns", "passed": true, "found": "…", "advice": "", "code": null}}
    ← {"end": {"code": null, "message": ""}}

This file imports the standard library only, as the command line has nothing else than the client library.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

CHECK, LIST = "check", "servers"  # the commands
DIRECTORY, NAME = "check", "socket"
DIRECTORY_MODE, SOCKET_MODE = 0o700, 0o600
BACKLOG = 16  # connections in the kernel's queue
REQUEST_MAXIMUM = 1024  # bytes of the request's line
ANSWER_MAXIMUM = 64 * 1024  # bytes of a line of the answer
CHECK_LIMIT = 120.0  # seconds for all steps

ROOT = 0
# Seconds and microseconds: socket(7), SO_RCVTIMEO; another number stands for 64-bit times on 32-bit machines
# (asm-generic/socket.h). A timeout of Python's own would wait in poll(2), which a shutdown does not wake.
_TIME = struct.Struct("@2l" if socket.SO_RCVTIMEO == 20 else "@2q")  # noqa: PLR2004 - see above
_CREDENTIALS = struct.Struct("3i")  # of a peer: process, user, group; see unix(7)


def directories(state_dir: Path) -> tuple[Path, Path]:
    """Return the directories in which the socket may be: in the state directory, or else in the temporary one."""
    # Not tempfile's: that returns the current directory where no other can be written, which differs between processes
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the owner of the directory in there is checked
    return state_dir / DIRECTORY, Path(temporary, f"iot-sftp-{DIRECTORY}-{os.geteuid()}")


class Listener:
    """A socket that listens in a directory of our own; it replaces any socket that was there."""

    def __init__(self, directory: Path, accept_limit: float) -> None:
        """Listen.

        The socket is made under a temporary name: so it appears with its final mode, and atomically replaces one that
        a killed process has left.

        Parameters:
            directory: one of `directories`; it is made if it is missing.
            accept_limit: seconds after which `accept` raises `BlockingIOError`.

        Raises:
            OSError: nothing can be made there, or the directory belongs to another user.
        """
        self._path = directory / NAME
        self._place = _made(directory)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            new = f"{NAME}.{os.getpid()}"
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._place)
            self.socket.bind(_address(self._place, new))
            os.chmod(new, SOCKET_MODE, dir_fd=self._place)
            self._file = os.stat(new, dir_fd=self._place)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(*_parts_of(accept_limit)))
            self.socket.listen(BACKLOG)
            os.rename(new, NAME, src_dir_fd=self._place, dst_dir_fd=self._place)
        except BaseException:
            self.socket.close()
            os.close(self._place)
            raise

    @property
    def can_be_reached(self) -> bool:
        """Whether there still is a socket: ours, or that of another process that has replaced it."""
        try:
            return stat.S_ISSOCK(os.stat(self._path).st_mode)
        except OSError:
            return False

    def close(self) -> None:
        """Close and remove the socket, unless another process has replaced it."""
        self.socket.close()
        with suppress(OSError):
            if os.path.samestat(os.stat(NAME, dir_fd=self._place), self._file):
                os.unlink(NAME, dir_fd=self._place)
        os.close(self._place)


def connect(directory: Path, *, owner: int | None) -> socket.socket:
    """Connect to the module that listens in a directory.

    Parameters:
        directory: one of `directories`.
        owner: the user that it has to belong to, as anybody could have made it; `None` accepts every owner.

    Raises:
        OSError: no process listens there, or the directory belongs to another user.
    """
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if owner is not None:
            _check_owner(place, owner)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(_address(place, NAME))
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(place)


def peer(connection: socket.socket) -> int:
    """Return the user of the peer, as the kernel reports it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _process, user, _group = _CREDENTIALS.unpack(raw)
    return int(user)


def encode_line(**content: Any) -> bytes:
    """Return a line to send."""
    return json.dumps(content).encode("ascii") + b"\n"


def parse_line(text: bytes) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        ValueError: the line is incomplete, or not a JSON object.
    """
    if not text.endswith(b"\n"):
        message = "the line is cut, or too long"
        raise ValueError(message)
    try:
        content = json.loads(text)
    except RecursionError:
        content = None
    if not isinstance(content, dict):
        message = "it is not a JSON object"
        raise ValueError(message)  # noqa: TRY004 - one class of error for every line that cannot be read
    return content


def _made(directory: Path) -> int:
    """Make a directory with access for our user only; return its descriptor."""
    with suppress(FileExistsError):
        os.mkdir(directory, DIRECTORY_MODE)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_owner(place, os.geteuid())
        os.fchmod(place, DIRECTORY_MODE)
    except BaseException:
        os.close(place)
        raise
    return place


def _parts_of(seconds: float) -> tuple[int, int]:
    """Return whole seconds and microseconds."""
    return int(seconds), round(seconds % 1 * 1_000_000)


def _check_owner(place: int, owner: int) -> None:
    if os.fstat(place).st_uid != owner:
        raise PermissionError(errno.EPERM, "it belongs to another user")


def _address(place: int, name: str) -> str:
    """Return the path of a socket by its directory's descriptor, as the kernel accepts 107 bytes only."""
    return f"/proc/self/fd/{place}/{name}"
