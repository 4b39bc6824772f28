"""Make the client's orders of what a request or a rule says: the one place where a transfer is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iot.sftp.client import Direction, FileOrder, FolderOrder, IfExists, Then
from iot.sftp.module._documents.requests import FolderRequest, TransferRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._documents.template import Template


def order_of(method: str, request: Mapping[str, Any]) -> FileOrder | FolderOrder:
    """Return the order of a task, of its method and its parameters as the journal has them."""
    direction = Direction(method.partition("_")[0])
    if method in {"download_files", "upload_files"}:
        return folder_order(direction, FolderRequest.model_validate(request))
    return file_order(direction, TransferRequest.model_validate(request))


def file_order(direction: Direction, request: TransferRequest) -> FileOrder:
    """Return the order for one file."""
    return FileOrder(direction, request.source, request.dest)


def folder_order(direction: Direction, what: FolderRequest | Rule, now: float | None = None) -> FolderOrder:
    """Return the order for a folder.

    Parameters:
        direction: which way.
        what: which folder, and how.
        now: the moment for dates in a rule, in seconds since 1970.

    Raises:
        InvalidRequest: it contradicts itself, which the models do not see.
        NotConfigured: a date cannot be filled in, as the clock is not set.
    """
    move_to = _filled(what.then["move"], now) if isinstance(what.then, dict) else None
    return FolderOrder(
        direction,
        _filled(what.source, now),
        _filled(what.dest, now),
        selection=what.selection(),
        if_exists=IfExists(what.if_exists),
        then=Then.MOVE if isinstance(what.then, dict) else Then(what.then),
        move_to=move_to,
    )


def _filled(path: str | Template, now: float | None) -> str:
    return path if isinstance(path, str) else path.fill(now)
