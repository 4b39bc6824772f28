"""A server's files: everything that the layers above ask of it, each call waiting until its deadline.

`RemoteFiles` is put together from five files, each above the one before: `remote_answers` (waiting), `remote_requests`
(sending), `remote_handles` (opening), `remote_queries` (looking and reading), and this one (changing). One object, and
no further call per packet. Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import logging
import posixpath
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    NoSpace,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._base.messages import REMOTE_DISK_FULL
from iot.sftp.client._files.remote_queries import RemoteQueries
from iot.sftp.client._ssh.packets import Attributes, Kind, encode_path, string

if TYPE_CHECKING:
    from iot.sftp.client._base.steps import Steps

logger = logging.getLogger(__name__)

POSIX_RENAME = "posix-rename@openssh.com"
HARDLINK = "hardlink@openssh.com"
STATVFS = "statvfs@openssh.com"
# draft-ietf-secsh-filexfer-extensions-00, sections 3 and 7
CHECK_FILE = "check-file"
CHECK_FILE_HANDLE = "check-file-handle"
COPY_DATA = "copy-data"


class RemoteFiles(RemoteQueries):
    """A server's files, over one channel and under one deadline. Paths are as the server takes them."""

    def patient(self) -> RemoteFiles:
        """Return the same files for the last step, which may end when the caller cancels the call meanwhile."""
        return RemoteFiles(self._connection, self._channel, self.deadline.patient())

    def within(self, seconds: float) -> RemoteFiles:
        """Return the same files for a part of the call, which may take so many seconds at most."""
        return RemoteFiles(self._connection, self._channel, self.deadline.within(seconds))

    def close(self, handle: bytes, path: str) -> None:
        """Close a file, and wait for the answer."""
        self.wait(self.begin_close(handle), path)

    def remove(self, path: str) -> None:
        """Remove a file (section 6.5)."""
        with self._clearer_refusal(path):
            self._ask(Kind.REMOVE, path)

    @property
    def offers_posix_rename(self) -> bool:
        """Whether the server announced a rename that replaces its destination atomically."""
        return self.offers(POSIX_RENAME)

    def rename(self, source: str, dest: str) -> None:
        """Rename a file; most servers refuse if `dest` exists (section 6.5)."""
        with self._clearer_refusal(posixpath.dirname(dest) or ".", source):
            fields = string(encode_path(source)) + string(encode_path(dest))
            self.wait(self._send(Kind.RENAME, fields), dest)

    def posix_rename(self, source: str, dest: str) -> Steps[None]:
        """Rename a file, in steps, replacing `dest` atomically (OpenSSH PROTOCOL, section 4.3)."""
        paths = string(encode_path(source)) + string(encode_path(dest))
        asked = self._send(Kind.EXTENDED, string(POSIX_RENAME.encode()) + paths)
        yield asked
        try:
            self.wait(asked, dest)
        except PermissionDenied:
            with self._clearer_refusal(posixpath.dirname(dest) or ".", source):
                raise

    def link(self, source: str, dest: str) -> None:
        """Make `dest` a second name of a file, unless something has it already (OpenSSH PROTOCOL, section 4.5)."""
        with self._clearer_refusal(posixpath.dirname(dest) or ".", source):
            self._extended(HARDLINK, string(encode_path(source)) + string(encode_path(dest)), dest)

    def hash_of(self, handle: bytes, length: int, path: str) -> bytes | None:
        """Return the SHA-256 of the first `length` bytes of an open file, 0 for all of them, as one block.

        `None` where the server computes none (`check-file-handle`).
        """
        if not self.offers(CHECK_FILE) and not self.offers(CHECK_FILE_HANDLE):
            return None
        fields = string(handle) + string(b"sha256") + struct.pack(">QQI", 0, length, 0)
        try:
            answer = self._extended(CHECK_FILE_HANDLE, fields, path, Kind.EXTENDED_REPLY)
            algorithm = answer.string()
            return answer.rest() if algorithm == b"sha256" else None
        except (DeadlineExceeded, ConnectionLost):
            raise
        except SFTPError:
            return None

    @property
    def offers_copy(self) -> bool:
        """Whether the server announced that it copies data between open files."""
        return self.offers(COPY_DATA)

    def copy_data(self, source: bytes, dest: bytes, offset: int, length: int, path: str) -> None:
        """Have the server copy a part of an open file to the same place of another one: see `offers_copy`."""
        fields = string(source) + struct.pack(">QQ", offset, length) + string(dest) + struct.pack(">Q", offset)
        self._extended(COPY_DATA, fields, path)

    def is_full(self, path: str, *, for_new: bool = False) -> bool:
        """Return whether the file system of a path has no space left, if the server reports that (statvfs, 4.4).

        Parameters:
            path: of a file or directory there.
            for_new: whether something is to be made, for which there must be an inode.
        """
        if not self.offers(STATVFS):
            return False
        try:
            fields = self._extended(STATVFS, string(encode_path(path)), path, Kind.EXTENDED_REPLY)
            numbers = [fields.uint64() for _ in range(8)]
        except SFTPError:
            return False
        blocks, inodes, free_inodes = numbers[4], numbers[5], numbers[7]  # f_bavail, f_files, f_favail: for users
        return blocks == 0 or (for_new and inodes > 0 == free_inodes)  # not every file system counts inodes

    def make_directories(self, path: str, mode: int | None = None) -> None:
        """Make a directory and its missing parents (section 6.6), also where the server refuses to show any.

        Parameters:
            path: of the directory.
            mode: the permissions of those that are made, if the server sets any; `None` leaves them to it.
        """
        missing: list[str] = []
        ancestor = path.rstrip("/") or "/"
        try:
            while (kind := self.kind_of(ancestor)) is None:
                missing.append(ancestor)
                parent = posixpath.dirname(ancestor) or "."
                if parent == ancestor:
                    break
                ancestor = parent
        except (PermissionDenied, Unsupported):
            self._make_directories_unseen(path)  # which of them are new is not known: they keep what they have
            return
        if kind not in {None, 0, stat.S_IFDIR}:
            message = f"{ancestor} is a file on the server, not a directory"
            raise NotADirectory(message, path=path)
        refusal: SFTPError | None = None
        for directory in reversed(missing):
            try:
                self.make_directory(directory, mode)
            except (NotFound, PermissionDenied, Unsupported) as error:
                refusal = refusal or error
            else:
                refusal = None  # of a parent: it is there, and the server does not say so
        if refusal is not None:
            raise refusal

    def _make_directories_unseen(self, path: str) -> None:
        """Ask for each directory on the way; one that is refused may be there, as the next request shows."""
        names = path.strip("/").split("/")
        root = "/" if path.startswith("/") else ""
        for count in range(1, len(names) + 1):
            with suppress(PermissionDenied, Unsupported, NotFound, NotADirectory):
                self._ask(Kind.MKDIR, root + "/".join(names[:count]), Attributes().pack())

    def make_directory(self, path: str, mode: int | None = None) -> None:
        """Make a directory in one that is there, unless it is there already (section 6.6)."""
        try:
            self._ask(Kind.MKDIR, path, Attributes().pack())
            if mode is not None:
                self._set_mode(path, mode | stat.S_IRWXU)
        except SFTPError as refusal:
            if isinstance(refusal, ConnectionLost | DeadlineExceeded):
                raise
            if self.kind_of(path) == stat.S_IFDIR:
                return  # another process has made it meanwhile
            if isinstance(refusal, PermissionDenied) and self.is_full(posixpath.dirname(path) or ".", for_new=True):
                raise NoSpace(REMOTE_DISK_FULL, path=path) from refusal
            raise

    def _set_mode(self, path: str, mode: int) -> None:
        """Set permissions, which a server need not do; the umask, which it may have, is not asked."""
        asked = self.begin_setstat(path, Attributes(mode=mode))
        try:
            self.wait(asked, path)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError as error:
            logger.info(
                "%r was created with the server's own permissions: it does not set them (%s)", path, error.message
            )
