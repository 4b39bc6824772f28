"""Markers: small files that say that others are complete, on either side of a folder's transfer.

At the source, a file is taken when its marker is there. At the destination, a checksum and an empty marker follow a
file's arrival, in this order, so that a reader who waits for the marker finds everything else in its place.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from iot.sftp.client._base.errors import PathNotAllowed
from iot.sftp.client._files.numbered_names import LONGEST_NAME
from iot.sftp.client._ssh.packets import encode_path

if TYPE_CHECKING:
    from iot.sftp.client._files.file_version import FileVersion

# GNU coreutils escape these, and begin the line with a backslash then: sha256sum(1), md5sum invocation in its manual
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


class MarkerName(Protocol):
    """The names that markers of one kind have."""

    @property
    def is_shared(self) -> bool:
        """Whether several files may have one and the same marker."""

    def __call__(self, name: str) -> str:
        """Return the name of a file's marker by the name of the file."""

    def matches(self, name: str) -> bool:
        """Return whether this may be the name of a marker."""


class OwedMarkers(NamedTuple):
    """What is still to be written for a file that has arrived.

    Attributes:
        path: the file's, relative to the source.
        dest: where it is, relative to the destination.
        sha256: of its bytes, in hexadecimal digits.
    """

    path: str
    dest: str
    sha256: str


class SpentMarker(NamedTuple):
    """A marker at the source that is of no use any more as soon as its file is gone from there.

    Attributes:
        marker: its path, relative to the source.
        version: which one it is: a later one is for a later file.
        path: the file's, relative to the source.
        file: which version of that is deleted or moved.
        move_to: the folder that it is put aside into; `None` for what the order says of files that have arrived.
    """

    marker: str
    version: FileVersion
    path: str
    file: FileVersion
    move_to: str | None = None


class MarkerRecord(Protocol):
    """Remembers over restarts what is still to be done with markers; thread-safe. Its methods may raise `SFTPError`."""

    def announce(self, owed: OwedMarkers) -> None:
        """Take what is owed for the file whose arrival is recorded next: the ledger writes both together."""

    def owed(self, after: str) -> list[OwedMarkers]:
        """Return what is owed at the next destinations behind a path, in their order; none at the end."""

    def settle_owed(self, dest: str) -> None:
        """Record that nothing is owed at a destination."""

    def note_spent(self, spent: SpentMarker) -> None:
        """Record a marker before its file is deleted or moved."""

    def spent(self, after: str) -> list[SpentMarker]:
        """Return the next markers behind a path, in their order; none at the end."""

    def settle_spent(self, marker: str) -> None:
        """Record that a marker is gone, or still of use."""


@dataclass(frozen=True, kw_only=True)
class Markers:
    """Which markers belong to a folder's files.

    Attributes:
        wait: names the marker at the source without which a file is left alone; `None` takes all files.
        write: names the empty file that follows an arrival; `None` writes none.
        checksum: names the file with the arrival's SHA-256, which comes before that; `None` writes none.
        record: remembers what is still to be done; `None` keeps that in memory.
    """

    wait: MarkerName | None = None
    write: MarkerName | None = None
    checksum: MarkerName | None = None
    record: MarkerRecord | None = None

    @property
    def is_written(self) -> bool:
        """Whether anything follows an arrival."""
        return self.write is not None or self.checksum is not None

    @property
    def is_used(self) -> bool:
        """Whether there are any."""
        return self.wait is not None or self.is_written

    def waited_for(self, path: str) -> str | None:
        """Return the path of the marker that a file waits for; `None` if it waits for none."""
        return None if self.wait is None else _beside(path, self.wait)

    def selects(self, path: str) -> bool:
        """Return whether a file at the source is no marker itself."""
        return self.wait is None or not self.wait.matches(posixpath.basename(path))

    def at(self, dest: str) -> list[str]:
        """Return the paths of what follows the arrival at a destination, the last one first.

        Raises:
            PathNotAllowed: the file has the name of a marker, or a marker can have no name.
        """
        kinds = [name for name in (self.write, self.checksum) if name is not None]
        if any(name.matches(posixpath.basename(dest)) for name in kinds):
            message = "its name at the destination is that of a marker: have 'rename', or 'marker', give another one"
            raise PathNotAllowed(message, path=dest)
        names = [_beside(dest, name) for name in kinds]
        if len({*names}) < len(names):
            raise PathNotAllowed("its marker and its checksum would have the same name", path=dest)
        for name in names:
            if len(os.fsencode(posixpath.basename(name))) > LONGEST_NAME:
                raise PathNotAllowed(f"the name of its marker has more than {LONGEST_NAME} bytes", path=dest)
        return names

    def contents_at(self, owed: OwedMarkers) -> list[tuple[str, bytes]]:
        """Return the paths and contents of what follows an arrival, in the order in which they are written."""
        contents = []
        if self.checksum is not None:
            contents.append((_beside(owed.dest, self.checksum), checksum_line(owed.sha256, owed.dest)))
        if self.write is not None:
            contents.append((_beside(owed.dest, self.write), b""))
        return contents


def checksum_line(sha256: str, path: str) -> bytes:
    """Return the line that `sha256sum` writes in the directory of a file, and that `sha256sum -c` reads there."""
    name = posixpath.basename(path)
    escaped = "".join(_ESCAPED.get(each, each) for each in name)
    mark = "" if escaped == name else "\\"
    return encode_path(f"{mark}{sha256}  {escaped}\n")


def _beside(path: str, name: MarkerName) -> str:
    folder, own = posixpath.split(path)
    return posixpath.join(folder, name(own))
