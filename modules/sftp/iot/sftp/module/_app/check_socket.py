"""What the running module and `iot-sftp check` agree on: where the socket between them is, and what is said there.

A request is one line of JSON, and so is each part of the answer; the last one tells why nothing more comes:

    → {"command": "check", "timeout": 5.0}
    ← {"server": "device-42 at sftp.example.com port 22"}
    ← {"step": {"name": "dns", "passed": true, "found": "…", "advice": "", "code": null}}
    ← {"end": {"code": null, "message": ""}}

The command line has nothing but the library, so that nothing else is imported here.
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

DIRECTORY, NAME = "check", "socket"
DIRECTORY_MODE, SOCKET_MODE = 0o700, 0o600
WAITING = 16  # connections in the kernel's queue
REQUEST_MAXIMUM = 1024  # bytes of the one line that is asked
ANSWER_MAXIMUM = 64 * 1024  # bytes of a line that is answered
CHECK_LIMIT = 120.0  # seconds for all steps
LOOK_EVERY = 5  # seconds that an accept waits: then it is looked whether the socket is still there

ROOT = 0
# Seconds and microseconds: socket(7), SO_RCVTIMEO; another number stands for 64-bit times on 32-bit machines
# (asm-generic/socket.h). Who waits with a time limit of Python's is not woken by a shutdown.
_TIME = struct.Struct("@2l" if socket.SO_RCVTIMEO == 20 else "@2q")  # noqa: PLR2004 - see above
_CREDENTIALS = struct.Struct("3i")  # of a peer: process, user, group; see unix(7)


def places(state_dir: Path) -> tuple[Path, Path]:
    """Return the directories in which the socket may be: in the state directory, or else in the temporary one."""
    # Not tempfile's: that looks for one that can be written now, as far as to the current directory, which is elsewhere
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - who has made the directory in there is checked
    return state_dir / DIRECTORY, Path(temporary, f"iot-sftp-{DIRECTORY}-{os.geteuid()}")


class Listener:
    """A socket that listens in a directory of our own, in the place of whatever listened there before."""

    def __init__(self, directory: Path) -> None:
        """Listen.

        The socket is made under another name: so it is there with its mode or not at all, and one that a killed process
        has left is replaced in one step.

        Raises:
            OSError: nothing can be made there, or the directory is somebody else's.
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
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(LOOK_EVERY, 0))
            self.socket.listen(WAITING)
            os.rename(new, NAME, src_dir_fd=self._place, dst_dir_fd=self._place)
        except BaseException:
            self.socket.close()
            os.close(self._place)
            raise

    @property
    def can_be_reached(self) -> bool:
        """Whether the socket is still where it was made, or another process's that has taken its place."""
        try:
            return stat.S_ISSOCK(os.stat(self._path).st_mode)
        except OSError:
            return False

    def close(self) -> None:
        """Listen no more, and take the socket away, unless another process has put its own in its place."""
        self.socket.close()
        with suppress(OSError):
            if os.path.samestat(os.stat(NAME, dir_fd=self._place), self._file):
                os.unlink(NAME, dir_fd=self._place)
        os.close(self._place)


def connect(directory: Path, *, owner: int | None) -> socket.socket:
    """Connect to the module that listens in a directory.

    Parameters:
        directory: one of `places`.
        owner: the user to whom it has to belong, since anybody could have made it; `None` takes everybody's.

    Raises:
        OSError: nobody listens there, or it is somebody else's.
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
    """Return the user of whoever has connected, as the kernel knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _process, user, _group = _CREDENTIALS.unpack(raw)
    return int(user)


def line(**content: Any) -> bytes:
    """Return a line to send."""
    return json.dumps(content).encode("ascii") + b"\n"


def content_of(text: bytes) -> dict[str, Any]:
    """Return what a line holds.

    Raises:
        ValueError: it is not whole, or no JSON object.
    """
    if not text.endswith(b"\n"):
        message = "the line is cut, or too long"
        raise ValueError(message)
    try:
        content = json.loads(text)
    except RecursionError:
        content = None
    if not isinstance(content, dict):
        message = "it is no JSON object"
        raise ValueError(message)  # noqa: TRY004 - one kind of error for all that cannot be read
    return content


def _made(directory: Path) -> int:
    """Make a directory that only we may enter; return its descriptor."""
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


def _check_owner(place: int, owner: int) -> None:
    if os.fstat(place).st_uid != owner:
        raise PermissionError(errno.EPERM, "it belongs to another user")


def _address(place: int, name: str) -> str:
    """Return the path of a socket by its directory's descriptor: the kernel takes 107 bytes, whatever that one's is."""
    return f"/proc/self/fd/{place}/{name}"
