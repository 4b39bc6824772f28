"""Make the client's orders of what a request or a rule says: the one place where a transfer is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iot.sftp.client import Direction, FileOrder, FolderOrder, IfExists, Then
from iot.sftp.module._documents.requests import FolderRequest, TransferRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def folder_order(direction: Direction, what: FolderRequest | Rule) -> FolderOrder:
    """Return the order for a folder.

    Raises:
        InvalidRequest: it contradicts itself, which the models do not see.
    """
    move_to = what.then["move"] if isinstance(what.then, dict) else None
    return FolderOrder(
        direction,
        what.source,
        what.dest,
        selection=what.selection(),
        if_exists=IfExists(what.if_exists),
        then=Then.MOVE if isinstance(what.then, dict) else Then(what.then),
        move_to=move_to,
    )
