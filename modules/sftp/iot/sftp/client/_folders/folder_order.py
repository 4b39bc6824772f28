"""The order to transfer a folder, as one value: which of its files, and what becomes of them."""

from __future__ import annotations

import posixpath
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import InvalidRequest
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._folders.markers import Markers
from iot.sftp.client._folders.quarantine import Quarantine
from iot.sftp.client._folders.selection import Selection
from iot.sftp.client._transfer.file_order import Direction, Modes, Verify, check_member, check_verify, member_of
from iot.sftp.client._transfer.growth import Append

if TYPE_CHECKING:
    from collections.abc import Callable


class IfExists(Enum):
    """What is done where a file of that name is at the destination."""

    REPLACE = "replace"
    SKIP = "skip"
    SKIP_SAME = "skip_same"
    RENAME = "rename"
    FAIL = "fail"
    BACKUP = "backup"

    @classmethod
    def of(cls, value: str) -> IfExists:
        """Return the member with this value; raise `InvalidRequest` if there is none."""
        return member_of("if_exists", cls, value)


class Then(Enum):
    """What becomes of a file at its source after it was delivered."""

    KEEP = "keep"
    DELETE = "delete"
    MOVE = "move"

    @classmethod
    def of(cls, value: str) -> Then:
        """Return the member with this value; raise `InvalidRequest` if there is none."""
        return member_of("then", cls, value)


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
        moved_below: the folder that holds `move_to` and whatever it was in earlier calls, where it changes: not to be
            found again.
        rename: returns where a file goes, relative to `dest`, by its path relative to `source`; `None` keeps the path.
        backup_to: the folder on the destination's side in which replaced files are kept under their paths; or what
            returns the path of a kept file, by those of the new one relative to `source` and to `dest`.
        verify: `size`, or `sha256` to compare the hash of all bytes too.
        modes: the permissions of what is created.
        markers: which files say at either side that others are complete.
        quarantine: where files are put that fail by themselves; `None` keeps trying.
        append: keep up with files that grow by their new bytes; `None` transfers each version as a whole.
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
    moved_below: str | None = None
    rename: Callable[[str], str] | None = None
    backup_to: str | Callable[[str, str], str] | None = None
    verify: Verify = "size"
    modes: Modes = field(default_factory=Modes)
    markers: Markers = field(default_factory=Markers)
    quarantine: Quarantine | None = None
    verify_existing: bool = False
    append: Append | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for values that cannot be meant."""
        check_member("direction", self.direction, Direction)
        check_member("if_exists", self.if_exists, IfExists)
        check_member("then", self.then, Then)
        if (self.if_exists is IfExists.BACKUP) != (self.backup_to is not None):
            raise InvalidRequest("if_exists='backup' and backup_to, the folder to move into, need each other")
        if isinstance(self.backup_to, str) and posixpath.normpath(self.backup_to) == posixpath.normpath(self.dest):
            raise InvalidRequest("backup_to is the destination itself")
        if not isinstance(self.selection, Selection):
            raise InvalidRequest("selection must be a Selection")
        if (self.then is Then.MOVE) != (self.move_to is not None):
            raise InvalidRequest("then='move' and move_to, the folder to move into, need each other")
        if _is_same(self.move_to, self.source):
            raise InvalidRequest("move_to is the source itself: its files would be found again each time")
        if self.selection.recursive and _is_same(self.moved_below, self.source):
            raise InvalidRequest("move_to changes within the source itself: its files would be found again each time")
        check_verify(self.verify)
        if self.quarantine is not None:
            self._check_quarantine(self.quarantine)
        if self.append is not None:
            self._check_append()

    def _check_quarantine(self, quarantine: Quarantine) -> None:
        folder = posixpath.normpath(quarantine.folder)
        if _is_same(folder, self.source):
            raise InvalidRequest("the folder for files that fail is the source itself: they would be found again")
        if self.selection.recursive and _is_same(quarantine.below, self.source):
            raise InvalidRequest("the folder for files that fail changes within the source itself: see move_to")
        if self.move_to is not None and _is_same(folder, self.move_to):
            raise InvalidRequest("the folder for files that fail is move_to: what has arrived would replace them")

    def _check_append(self) -> None:
        """Raise for what would delete, move or keep back a file that grows, or have it go elsewhere."""
        if not isinstance(self.append, Append):
            raise InvalidRequest("append must be an Append")
        if self.then is not Then.KEEP:
            raise InvalidRequest("append goes with then='keep' only: a file that grows stays at its source")
        if self.if_exists is not IfExists.REPLACE:
            raise InvalidRequest("append goes with if_exists='replace' only: it adds to what it has delivered")
        if self.markers.is_used or self.quarantine is not None:
            raise InvalidRequest("append goes without markers and without a folder for files that fail")
        if self.selection.min_age:
            raise InvalidRequest("append goes without min_age: a file that grows is always young")

    def backup_of(self, path: str, dest: str) -> str | None:
        """Return where what a file replaces is kept; `None` if it is not.

        Parameters:
            path: the file's, relative to the source.
            dest: where it goes, relative to the destination.
        """
        if isinstance(self.backup_to, str):
            return posixpath.join(self.backup_to, dest)
        return None if self.backup_to is None else self.backup_to(path, dest)

    @property
    def operation(self) -> str:
        """The name of the operation: `download_files` or `upload_files`."""
        return f"{self.direction.value}_files"

    @property
    def emptied_into(self) -> list[str]:
        """The folders on the source's side that its files are moved into: not to be found again."""
        folders = [self.moved_below or self.move_to]
        if self.quarantine is not None:
            folders.append(self.quarantine.below or self.quarantine.folder)
        return [folder for folder in folders if folder is not None]

    @property
    def keeps_source(self) -> bool:
        """Whether the files stay at their source."""
        return self.then is Then.KEEP

    @property
    def replaces(self) -> bool:
        """Whether what is at the destination may be replaced."""
        return self.if_exists in {IfExists.REPLACE, IfExists.SKIP_SAME, IfExists.BACKUP}

    @property
    def keeps_existing(self) -> bool:
        """Whether nothing at the destination may be replaced."""
        return not self.replaces

    def selects(self, path: str) -> bool:
        """Return whether a file is to be transferred, by its path relative to the source."""
        shown = path if self.selection.file_pattern is None else listed(self.source, path)
        return self.markers.selects(path) and self.selection.selects(path, shown)


def _is_same(folder: str | None, other: str) -> bool:
    return folder is not None and posixpath.normpath(folder) == posixpath.normpath(other)
