"""What a server reports of one file, directory or link."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot.sftp.client._ssh.packets import Attributes

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


@dataclass(frozen=True)
class FileInfo:
    """What a server reports of a path; `None` where it does not.

    Attributes:
        path: as the caller knows it.
        kind: `file`, `directory`, `link` or `other` (a device, a socket).
        size: bytes.
        modified: seconds since 1970.
        mode: the permission bits, `0o644`.
    """

    path: str
    kind: str | None
    size: int | None
    modified: int | None
    mode: int | None

    @classmethod
    def of(cls, path: str, attributes: Attributes) -> FileInfo:
        """Return what these attributes say of a path."""
        mode = attributes.mode
        bits = stat.S_IFMT(mode or 0)
        kind = KINDS.get(bits, "other") if bits else None
        permissions = None if mode is None else stat.S_IMODE(mode)
        return cls(path, kind, attributes.size, attributes.modification_time, permissions)
