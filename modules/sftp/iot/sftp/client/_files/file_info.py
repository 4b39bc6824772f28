"""What a server reports of one file, directory or link."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot.sftp.client._ssh.packets import Attributes

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", 0: "unknown"}


@dataclass(frozen=True)
class FileInfo:
    """What a server reports of a path; `None` where it does not.

    Attributes:
        path: as the caller knows it.
        kind: `file`, `directory`, `link`, `other` (a device, a socket), or `unknown` if the server does not report it.
        size: bytes.
        mode: the permission bits, `0o644`.
        modified: seconds since 1970.
    """

    path: str
    kind: str
    size: int | None
    mode: int | None
    modified: int | None

    @classmethod
    def of(cls, path: str, attributes: Attributes) -> FileInfo:
        """Return what these attributes say of a path."""
        mode = attributes.mode
        kind = KINDS.get(stat.S_IFMT(mode or 0), "other")
        permissions = None if mode is None else stat.S_IMODE(mode)
        return cls(path, kind, attributes.size, permissions, attributes.modification_time)
