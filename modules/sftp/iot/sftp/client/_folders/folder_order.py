"""The order to transfer a folder, as one value: which of its files, and what becomes of them."""

from __future__ import annotations

import posixpath
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum

from iot.sftp.client._base.errors import InvalidRequest
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._folders.selection import Selection
from iot.sftp.client._transfer.file_order import Direction, Verify, check_member, check_verify


class IfExists(Enum):
    """What is done where a file of that name is at the destination."""

    REPLACE = "replace"
    SKIP = "skip"
    SKIP_SAME = "skip_same"

    @classmethod
    def of(cls, value: str) -> IfExists:
        """Return the member with this value; raise `InvalidRequest` if there is none."""
        try:
            return cls(value)
        except ValueError:
            raise InvalidRequest(f"if_exists must be one of {', '.join(each.value for each in cls)}") from None


class Then(Enum):
    """What becomes of a file at its source after it was delivered."""

    KEEP = "keep"
    DELETE = "delete"
    MOVE = "move"

    @classmethod
    def of(cls, value: str) -> Then:
        """Return the member with this value; raise `InvalidRequest` if there is none."""
        try:
            return cls(value)
        except ValueError:
            raise InvalidRequest(f"then must be one of {', '.join(each.value for each in cls)}") from None


@dataclass(frozen=True)
class FolderOrder:
    """The order to transfer a folder: see `SFTPSession.transfer_folder`.

    Made once, where a request or a rule is read, and checked there. What differs from run to run is replaced
    (`dataclasses.replace`): `verify`, `verify_existing`.

    Attributes:
        direction: which way.
        source: the folder, remote for a download, local for an upload.
        dest: the folder on the other side, made if it is missing.
        selection: which of its files, and which first.
        if_exists: see `SFTPSession.download_files`, as are all below.
        then: what becomes of a file at its source.
        move_to: the folder on the source's side that files are moved into.
        verify: `size`, or `sha256` to compare the hash of all bytes too.
        verify_existing: compare the bytes of what is at the destination, for a call that resumes another one.
    """

    direction: Direction
    source: str
    dest: str
    _: KW_ONLY
    selection: Selection = field(default_factory=Selection)
    if_exists: IfExists = IfExists.REPLACE
    then: Then = Then.KEEP
    move_to: str | None = None
    verify: Verify = "size"
    verify_existing: bool = False

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for values that cannot be meant."""
        check_member("direction", self.direction, Direction)
        check_member("if_exists", self.if_exists, IfExists)
        check_member("then", self.then, Then)
        if not isinstance(self.selection, Selection):
            raise InvalidRequest("selection must be a Selection")
        if (self.then is Then.MOVE) != (self.move_to is not None):
            raise InvalidRequest("then='move' and move_to, the folder to move into, need each other")
        if self.move_to is not None and posixpath.normpath(self.move_to) == posixpath.normpath(self.source):
            raise InvalidRequest("move_to is the source itself: its files would be found again each time")
        check_verify(self.verify)

    @property
    def operation(self) -> str:
        """The name of the operation: `download_files` or `upload_files`."""
        return f"{self.direction.value}_files"

    @property
    def keeps_source(self) -> bool:
        """Whether the files stay at their source."""
        return self.then is Then.KEEP

    def selects(self, path: str) -> bool:
        """Return whether a file is to be transferred, by its path relative to the source."""
        return self.selection.selects(path, listed(self.source, path))
