"""What is to be transferred, as one value: the order for one file, and what orders for files and folders share."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Literal, get_args

from iot.sftp.client._base.errors import InvalidRequest

Verify = Literal["size", "sha256"]


class Direction(Enum):
    """Which way a transfer goes."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


def check_verify(verify: str) -> None:
    """Raise `InvalidRequest` unless this is a value of `Verify`: callers without a type checker may give any."""
    if verify not in get_args(Verify):
        raise InvalidRequest(f"verify must be one of {', '.join(get_args(Verify))}")


def check_member(name: str, value: object, kind: type[Enum]) -> None:
    """Raise `InvalidRequest` unless a value is a member of an enumeration: its text in its place is none.

    Callers without a type checker may give any, and `"download"` that is no `Direction` must not end as an upload.
    """
    if not isinstance(value, kind):
        raise InvalidRequest(f"{name} must be one of {', '.join(map(str, kind))}")


@dataclass(frozen=True)
class FileOrder:
    """The order to transfer one file: see `SFTPSession.transfer_file`.

    Attributes:
        direction: which way.
        source: the file, remote for a download, local for an upload.
        dest: where it goes; an existing directory, or a path that ends with `/`, keeps the source's name.
        verify: `size`, or `sha256` to compare the hash of all bytes too.
    """

    direction: Direction
    source: str
    dest: str
    _: KW_ONLY
    verify: Verify = "size"

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for a value that cannot be meant."""
        check_member("direction", self.direction, Direction)
        check_verify(self.verify)

    @property
    def operation(self) -> str:
        """The name of the operation: `download_file` or `upload_file`."""
        return f"{self.direction.value}_file"
