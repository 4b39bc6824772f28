"""What each direct method does; `table.py` says which method runs which function.

A function gets the parts of the module, the valid request and the seconds that it has. It blocks, and returns the bare
result or raises an `SFTPError`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Direction, InvalidRequest, SFTPError, TooLarge
from iot.sftp.client._base.text import shortened
from iot.sftp.module._documents.orders import file_order
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, encoded_size

if TYPE_CHECKING:
    from iot.sftp.module._documents.requests import (
        CancelRequest,
        CopyRequest,
        FolderRequest,
        ListRequest,
        ListTasksRequest,
        PathRequest,
        Request,
        ServerRequest,
        TaskRequest,
        TestRequest,
        TransferRequest,
    )
    from iot.sftp.module._methods.method import MethodContext

LISTED_MAXIMUM = RESPONSE_MAXIMUM // len('"a", ') + 1  # paths: more never fit, however short they are
EXTENSIONS_SHOWN, EXTENSION_SHOWN = 100, 100  # of a server, and characters of each: some servers have thirty
TASKS_SHOWN = 500  # in a listing: more never fit


# --- Connection


def is_connected(context: MethodContext, request: ServerRequest, timeout: float) -> bool:
    """Ask the live session."""
    return context.servers.get(request.server).is_connected(timeout)


def disconnect(context: MethodContext, request: ServerRequest, _timeout: float) -> None:
    """Close the session; the next call opens a new one."""
    context.servers.get(request.server).disconnect()


def test_connection(context: MethodContext, request: TestRequest, timeout: float) -> dict[str, Any]:
    """Open a new connection with the current settings, and describe the server."""
    with context.servers.use(request.server) as session:
        server = session.test_connection(learn=request.learn, timeout=timeout)
    return {
        "authenticated": True,
        "host_key": server.host_key,
        "server": server.server,
        "cipher": server.cipher,
        "extensions": [shortened(name, EXTENSION_SHOWN) for name in server.extensions[:EXTENSIONS_SHOWN]],
    }


# --- Files


def exists(context: MethodContext, request: PathRequest, timeout: float) -> bool:
    """Ask whether a file or directory is there."""
    with context.servers.use(request.server) as session:
        return session.exists(request.path, timeout=timeout)


def download_file(context: MethodContext, request: TransferRequest, timeout: float) -> bool:
    """Download a file while the caller waits."""
    context.transfers.transfer_file(file_order(Direction.DOWNLOAD, request), timeout, server=request.server)
    return True


def upload_file(context: MethodContext, request: TransferRequest, timeout: float) -> bool:
    """Upload a file while the caller waits."""
    context.transfers.transfer_file(file_order(Direction.UPLOAD, request), timeout, server=request.server)
    return True


def delete_file(context: MethodContext, request: PathRequest, timeout: float) -> bool:
    """Delete a file on the server."""
    with context.servers.use(request.server) as session:
        session.delete_file(request.path, timeout=timeout)
    return True


def move_file(context: MethodContext, request: CopyRequest, timeout: float) -> bool:
    """Move a file on the server."""
    with context.servers.use(request.server) as session:
        session.move_file(request.source, request.dest, timeout=timeout)
    return True


def list_files(context: MethodContext, request: ListRequest, timeout: float) -> list[str]:
    """List the files of a directory, or a page of them."""
    limit = None if request.limit is None else min(request.limit, LISTED_MAXIMUM)
    options: dict[str, Any] = {"limit": limit, "after": request.after, "longest": RESPONSE_MAXIMUM}
    with context.servers.use(request.server) as session, suppress(TooLarge):
        page = session.list_files(request.path, request.file_pattern, timeout=timeout, **options)
        if encoded_size(page) <= RESPONSE_MAXIMUM:
            return page
    message = (
        f"these paths do not fit into a response ({RESPONSE_MAXIMUM} bytes): ask for pages, "
        'with "limit": n and then "after": the last path of the page before'
    )
    raise TooLarge(message, operation="list_files", path=request.path)


# --- Tasks


def only_as_a_task(_context: MethodContext, _request: FolderRequest, _timeout: float) -> None:
    """Refuse to run a folder's transfer while the caller waits: the dispatcher makes a task of it."""
    message = "a folder is transferred by a background task only"
    raise InvalidRequest(message)


def get_task_status(context: MethodContext, request: TaskRequest, _timeout: float) -> dict[str, Any]:
    """Describe a task."""
    return context.tasks.status(request.task_id)


def cancel_task(context: MethodContext, request: CancelRequest, timeout: float) -> bool:
    """Cancel a task; return whether that stopped it."""
    if context.tasks.cancel(request.task_id, timeout):
        return True
    if request.request_id is None:
        return False
    with suppress(SFTPError):  # where the journal cannot be read, all that is known is that the task does not run
        # A repeat of a call that did not wait until the task had stopped
        return bool(context.tasks.status(request.task_id)["status"] == "Cancelled")
    return False


def list_tasks(context: MethodContext, request: ListTasksRequest, _timeout: float) -> list[dict[str, Any]]:
    """List tasks, the newest first: as many as fit into a response."""
    page, size = [], len("[]")
    for task in context.tasks.newest(min(request.limit or TASKS_SHOWN, TASKS_SHOWN), request.after):
        size += encoded_size(task) + len(", ")
        if size > RESPONSE_MAXIMUM:
            break
        page.append(task)
    return page


# --- The module


def get_status(context: MethodContext, _request: Request, _timeout: float) -> dict[str, Any]:
    """Describe the module."""
    return context.status.document(RESPONSE_MAXIMUM)
