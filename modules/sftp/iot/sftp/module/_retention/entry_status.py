"""How the retention of one folder does: what `get_status` shows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.times import rfc3339_now

if TYPE_CHECKING:
    from iot.sftp.module._retention.deletions import Deletions

PROBLEM_SHOWN = 500  # characters


@dataclass(frozen=True)
class EntryStatus:
    """How the retention of one folder does.

    Attributes:
        path: of the folder, as it was filled in.
        last_look: when it was looked at, in UTC (RFC 3339).
        deleted: files since the process began, or since the entry was changed.
        bytes: of these.
        problem: why there is too much in it still; `None` if there is not.
    """

    path: str
    last_look: str | None = None
    deleted: int = 0
    bytes: int = 0
    problem: str | None = None

    def after(self, path: str, done: Deletions, problem: str | None) -> EntryStatus:
        """Return the status after a look."""
        shown = None if problem is None else excerpt(problem, PROBLEM_SHOWN)
        deleted, size = self.deleted + done.files, self.bytes + done.bytes
        return replace(self, path=path, last_look=rfc3339_now(), deleted=deleted, bytes=size, problem=shown)

    def as_document(self) -> dict[str, Any]:
        """Return what `get_status` shows."""
        return dict(vars(self))
