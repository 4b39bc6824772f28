"""Make the client's orders of what a request or a rule says: the one place where a transfer is put together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Direction, FileOrder, FolderOrder, IfExists, Markers, Then
from iot.sftp.module._documents.delivery import BackupPlaces, backup_of
from iot.sftp.module._documents.destination import FilePlaces
from iot.sftp.module._documents.requests import FolderRequest, TransferRequest
from iot.sftp.module._documents.template import Template, TemplateKind
from iot.sftp.module._documents.template_parts import check_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._documents.rule import Rule


def order_of(method: str, request: Mapping[str, Any]) -> FileOrder | FolderOrder:
    """Return the order of a task, of its method and its parameters as the journal has them."""
    direction = Direction(method.partition("_")[0])
    if method in {"download_files", "upload_files"}:
        return folder_order(direction, FolderRequest.model_validate(request))
    return file_order(direction, TransferRequest.model_validate(request))


def file_order(direction: Direction, request: TransferRequest) -> FileOrder:
    """Return the order for one file."""
    return FileOrder(direction, request.source, request.dest)


def folder_order(
    direction: Direction,
    what: FolderRequest | Rule,
    clock: Callable[[], float] = time.time,
    *,
    moment: float | None = None,
) -> FolderOrder:
    """Return the order for a folder.

    Parameters:
        direction: which way.
        what: which folder, and how.
        clock: gives the moment for dates, in seconds since 1970.
        moment: the moment for a date in the source; `None` is this one.

    Raises:
        InvalidRequest: it contradicts itself, which the models do not see.
        NotConfigured: a date cannot be filled in, as the clock is not set.
    """
    now = clock()
    move_to = _filled(what.then["move"], now) if isinstance(what.then, dict) else None
    dest, below = (what.dest, None) if isinstance(what.dest, str) else what.dest.split()
    name = Template.parse(what.rename, kind=TemplateKind.NAME) if isinstance(what.rename, str) else what.rename
    places = None if below is None and name is None else FilePlaces(below, name, clock)
    backup = backup_of(what.if_exists, clock)
    if (places is not None and places.has_date) or (isinstance(backup, BackupPlaces) and backup.folder.has_date):
        check_clock(now)  # here, and not in the middle of the transfer
    return FolderOrder(
        direction,
        _filled(what.source, now if moment is None else moment),
        dest,
        rename=places,
        selection=what.selection(),
        if_exists=IfExists.BACKUP if backup is not None else IfExists(what.if_exists),
        backup_to=backup,
        then=Then.MOVE if isinstance(what.then, dict) else Then(what.then),
        move_to=move_to,
        moved_below=_folder_of_all(what.then),
        append=what.append(),
        **_of_rules_only(what, now),
    )


def _of_rules_only(what: FolderRequest | Rule, now: float) -> dict[str, Any]:
    """Return what requests do not have."""
    if isinstance(what, FolderRequest):
        return {}
    markers = Markers() if what.marker is None else what.marker.as_markers()
    quarantine = None if what.on_failure is None else what.on_failure.as_quarantine(now)
    return {"markers": markers, "quarantine": quarantine}


def _folder_of_all(then: str | Mapping[str, str] | Mapping[str, Template]) -> str | None:
    """Return the folder in which all files are that were ever moved, where dates give them folders of their own."""
    move_to = then["move"] if isinstance(then, Mapping) else None
    return None if move_to is None or isinstance(move_to, str) or move_to.is_fixed else move_to.split()[0]


def _filled(path: str | Template, now: float) -> str:
    return path if isinstance(path, str) else path.fill(now)
