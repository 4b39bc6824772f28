"""What each direct method does; `table.py` says which method runs which function.

A function gets the parts of the module, the valid request and the seconds that it has. It blocks, and returns the bare
result or raises an `SFTPError`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Direction, InvalidRequest, NotConfigured, SFTPError, TooLarge
from iot.sftp.client._base.text import shortened
from iot.sftp.module._documents.orders import file_order
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, encoded_size
from iot.sftp.module._methods.contents import READ_MAXIMUM, WRITE_MAXIMUM, content_document
from iot.sftp.module._methods.pages import (
    ENTRIES_MAXIMUM,
    PATHS_MAXIMUM,
    file_document,
    fitting_page,
    page_limit,
    too_large,
)
from iot.sftp.module._work import directory_deletion, local_directory
from iot.sftp.module._work.current_session import SessionState

if TYPE_CHECKING:
    from iot.sftp.module._documents.requests import (
        CancelRequest,
        CopyRequest,
        CreateDirectoryRequest,
        DeleteDirectoryRequest,
        DeleteRequest,
        DirectoryPageRequest,
        FolderRequest,
        ListRequest,
        ListTasksRequest,
        LocalDeleteRequest,
        LocalPageRequest,
        PathRequest,
        Request,
        RotateRequest,
        ServerRequest,
        TaskRequest,
        TestRequest,
        TransferRequest,
        WriteRequest,
    )
    from iot.sftp.module._methods.method import MethodContext

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


def rotate_key(context: MethodContext, request: RotateRequest, _timeout: float) -> dict[str, str]:
    """Make the next key of this device for a server, and return its public line."""
    sessions = context.servers.get(request.server)
    if sessions.device_key is None:
        if sessions.state.state is SessionState.NOT_CONFIGURED:
            raise NotConfigured(sessions.state.message or "there are no settings yet")
        message = (
            f"the key for the server '{request.server}' was not made on this device, so it cannot be rotated here: set "
            '"privateKey": {"generate": "ed25519"} for that, or the new key in the desired properties'
        )
        raise InvalidRequest(message)
    return {"publicKey": sessions.device_key.rotate()}


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


def delete_file(context: MethodContext, request: DeleteRequest, timeout: float) -> bool:
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
    limit = None if request.limit is None else page_limit(request.limit, PATHS_MAXIMUM)
    longest = RESPONSE_MAXIMUM if limit is None else None
    options: dict[str, Any] = {"limit": limit, "after": request.after, "longest": longest}
    with context.servers.use(request.server) as session, suppress(TooLarge):
        page = session.list_files(request.path, request.file_pattern, timeout=timeout, **options)
        return fitting_page(page, limit=request.limit, path=request.path)
    raise too_large(request.path)


# --- Directories


def create_directory(context: MethodContext, request: CreateDirectoryRequest, timeout: float) -> bool:
    """Create a directory on the server, and its parents."""
    with context.servers.use(request.server) as session:
        session.create_directory(request.path, timeout=timeout)
    return True


def delete_directory(context: MethodContext, request: DeleteDirectoryRequest, timeout: float) -> bool:
    """Delete a directory on the server."""
    with context.servers.use(request.server) as session:
        directory_deletion.delete_directory(session, request, timeout=timeout)
    return True


def move_directory(context: MethodContext, request: CopyRequest, timeout: float) -> bool:
    """Move a directory on the server."""
    with context.servers.use(request.server) as session:
        session.move_directory(request.source, request.dest, timeout=timeout)
    return True


def list_directory(context: MethodContext, request: DirectoryPageRequest, timeout: float) -> list[dict[str, Any]]:
    """List all that is in a directory, or a page of it."""
    options: dict[str, Any] = {"limit": page_limit(request.limit, ENTRIES_MAXIMUM), "after": request.after}
    with context.servers.use(request.server) as session:
        entries = session.list_directory(request.path, timeout=timeout, **options)
    return fitting_page([file_document(entry) for entry in entries], limit=request.limit, path=request.path)


def stat(context: MethodContext, request: PathRequest, timeout: float) -> dict[str, Any] | None:
    """Describe a file or directory; `None` if it is not there."""
    with context.servers.use(request.server) as session:
        info = session.stat(request.path, timeout=timeout)
    return None if info is None else file_document(info)


# --- Contents


def read_file(context: MethodContext, request: PathRequest, timeout: float) -> dict[str, Any]:
    """Read a small file on the server."""
    return content_document(context.transfers.read_file(request.path, READ_MAXIMUM, timeout, server=request.server))


def write_file(context: MethodContext, request: WriteRequest, timeout: float) -> bool:
    """Write a small file on the server."""
    content = request.content_bytes()
    if len(content) > WRITE_MAXIMUM:
        message = f"the content has {len(content)} bytes, and may have {WRITE_MAXIMUM}: upload a file instead"
        raise TooLarge(message, path=request.path)
    context.transfers.write_file(request.path, content, timeout, server=request.server)
    return True


# --- Local files


def list_local_directory(context: MethodContext, request: LocalPageRequest, timeout: float) -> list[dict[str, Any]]:
    """List a directory of the local root, or a page of it."""
    entries = local_directory.list_local_directory(
        context.local_files,
        request.path,
        limit=page_limit(request.limit, ENTRIES_MAXIMUM),
        after=request.after,
        timeout=timeout,
    )
    return fitting_page([file_document(entry) for entry in entries], limit=request.limit, path=request.path)


def delete_local_file(context: MethodContext, request: LocalDeleteRequest, _timeout: float) -> bool:
    """Delete a file of the local root."""
    local_directory.delete_local_file(context.local_files, request.path)
    return True


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
