"""What is to be transferred, as one value: the order for one file, and what orders for files and folders share."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Literal, TypeVar, get_args

from iot.sftp.client._base.errors import InvalidRequest

Verify = Literal["size", "sha256"]
WAYS_TO_VERIFY = get_args(Verify)
Member = TypeVar("Member", bound=Enum)


class Direction(Enum):
    """Which way a transfer goes."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


def check_verify(verify: str) -> None:
    """Raise `InvalidRequest` unless this is a value of `Verify`: callers without a type checker may give any."""
    if verify not in WAYS_TO_VERIFY:
        raise InvalidRequest(f"verify must be one of {', '.join(WAYS_TO_VERIFY)}")


def check_member(name: str, value: object, kind: type[Enum]) -> None:
    """Raise `InvalidRequest` unless a value is a member of an enumeration: its text in its place is none.

    Callers without a type checker may give any, and `"download"` that is no `Direction` must not end as an upload.
    """
    if not isinstance(value, kind):
        raise InvalidRequest(f"{name} must be one of {', '.join(map(str, kind))}")


def member_of(name: str, kind: type[Member], value: str) -> Member:
    """Return the member of an enumeration with this value; raise `InvalidRequest` if there is none."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(f"{name} must be one of {', '.join(each.value for each in kind)}") from None


@dataclass(frozen=True)
class Modes:
    """The permissions of what is created, such as `0o640`; its owner can always read and write it.

    Attributes:
        local: of local files; `None` for those of their sources, as for the next one.
        remote: of files on the server, if that sets any.
        directory: of directories, on both sides; `None` leaves them to the umask.
    """

    local: int | None = None
    remote: int | None = None
    directory: int | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for what is no mode."""
        for name, bits in (("local", 0o777), ("remote", 0o777), ("directory", 0o2777)):
            mode: object = getattr(self, name)  # of any type, where no type checker looks
            if mode is not None and (type(mode) is not int or mode < 0 or mode & ~bits):
                raise InvalidRequest(f"the mode of {name} must be a number like 0o640, with bits of 0o{bits:o}")


AS_THEIR_SOURCES = Modes()


@dataclass(frozen=True)
class FileOrder:
    """The order to transfer one file: see `SFTPSession.transfer_file`.

    Attributes:
        direction: which way.
        source: the file, remote for a download, local for an upload.
        dest: where it goes; an existing directory, or a path that ends with `/`, keeps the source's name.
        verify: `size`, or `sha256` to compare the hash of all bytes too.
        modes: the permissions of what is created.
    """

    direction: Direction
    source: str
    dest: str
    _: KW_ONLY
    verify: Verify = "size"
    modes: Modes = AS_THEIR_SOURCES

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for a value that cannot be meant."""
        check_member("direction", self.direction, Direction)
        check_verify(self.verify)

    @property
    def operation(self) -> str:
        """The name of the operation: `download_file` or `upload_file`."""
        return f"{self.direction.value}_file"
