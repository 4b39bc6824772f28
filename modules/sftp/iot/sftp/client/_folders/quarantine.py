"""Which files of a folder are put aside, since they fail by themselves again and again: one value."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from iot.sftp.client._base.errors import (
    Fault,
    InvalidRequest,
    NotADirectory,
    NotFound,
    PermissionDenied,
    Scope,
    SFTPError,
)

if TYPE_CHECKING:
    from iot.sftp.client._files.file_version import FileVersion

# Of these alone the class does not show whose failure it is, unless they are about the source itself
_OF_ANYBODY = (NotADirectory, NotFound, PermissionDenied)


class FailureCounts(Protocol):
    """Counts how often each version of a file has failed by itself; thread-safe. Its methods may raise `SFTPError`."""

    def add(self, path: str, version: FileVersion) -> int:
        """Count a failure of a version, and return how many there were in a row."""

    def forget(self, path: str) -> None:
        """Forget a file that has arrived, or is put aside."""


@dataclass(frozen=True)
class Quarantine:
    """Where files are put that fail by themselves.

    Attributes:
        after: so many failures of one version in a row.
        folder: on the source's side.
        below: the folder that holds it and whatever it was in earlier calls, where it changes; `None` if it does not.
        counts: remembers the failures; without it, no file is put aside.
    """

    after: int
    folder: str
    below: str | None = None
    counts: FailureCounts | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for values that cannot be meant."""
        after: object = self.after
        if type(after) is not int or after < 1:
            raise InvalidRequest("after must be a whole number of failures, 1 or more")
        if not self.folder:
            raise InvalidRequest("the folder for files that fail must have a name")

    def target_of(self, path: str) -> str:
        """Return where a file is put, by its path relative to the source; a number is added if something is there."""
        return posixpath.join(self.folder, path)


def is_own_failure(error: SFTPError, *, is_about_source: bool, have_others_arrived: bool) -> bool:
    """Return whether a file has failed by itself, not for want of a way, of room or of a server that can do it.

    A refusal at the destination may be about this file (its name, say) or about all of them (a folder in which nobody
    may write). If others arrive, it is about this one.

    Parameters:
        error: why it failed.
        is_about_source: whether the path of the error is that of the file at its source.
        have_others_arrived: whether other files have arrived in the same call.
    """
    if error.scope is not Scope.FILE or error.fault not in {Fault.FILE, Fault.CALL}:
        return False
    return not isinstance(error, _OF_ANYBODY) or is_about_source or have_others_arrived
