"""The direct methods: one table of names, requests and what they call, and the one place that words the answers."""

from __future__ import annotations

import json
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from iot.sftp.client import Direction, InvalidRequest, SFTPError, TooLarge, UnknownMethod
from iot.sftp.client._base.text import excerpt, shortened
from iot.sftp.module._base.wording import describe
from iot.sftp.module._documents.orders import file_order
from iot.sftp.module._documents.requests import (
    CancelRequest,
    ChangeRequest,
    CopyRequest,
    DeleteRequest,
    FolderRequest,
    ListRequest,
    ListTasksRequest,
    PathRequest,
    Request,
    TaskRequest,
    TestRequest,
    TransferRequest,
)
from iot.sftp.module._documents.validation import explain
from iot.sftp.module._hub.response import Response
from iot.sftp.module._hub.sdk import Malformed
from iot.sftp.module._methods.statuses import STATUSES
from iot.sftp.module._work.failures import Failures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.module._work.current_session import CurrentSession
    from iot.sftp.module._work.tasks import Tasks
    from iot.sftp.module._work.transfers import Transfers

RESPONSE_MAXIMUM = 128 * 1024  # bytes, IoT Hub's limit for the payload of a direct method's response
LISTED_MAXIMUM = RESPONSE_MAXIMUM // len('"a", ') + 1  # paths: so many never fit, however short they are
MESSAGE_MAXIMUM = 2_000  # characters
EXTENSIONS_SHOWN, EXTENSION_SHOWN = 100, 100  # of a server, and characters of each: some have thirty
TASKS_SHOWN = 500  # in a listing: as many as may fit
ACCEPTED = 202  # it became a task (RFC 9110, section 15.3.3)


class Lane(Enum):
    """Who waits for whom: calls wait only behind others of their lane."""

    CONTROL = "control"
    QUICK = "quick"
    TRANSFER = "transfer"
    TASKS = "tasks"
    STATUS = "status"


class StatusSource(Protocol):
    """Describes the module for `get_status`, and is told of what failed."""

    failures: Failures

    @abstractmethod
    def document(self, maximum: int) -> dict[str, Any]:
        """Return the module's status, cut to `maximum` bytes of JSON."""


@dataclass(frozen=True)
class Parts:
    """What methods work with."""

    sessions: CurrentSession
    transfers: Transfers
    tasks: Tasks
    status: StatusSource


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        request: the model of its payload.
        run: carries it out within so many seconds, blocking; returns the bare result, or raises `SFTPError`.
        lane: which calls it waits behind.
        failed: the `result` of an answer that it was not carried out.
        repeatable: whether doing it again, after it was interrupted, ends as doing it once.
    """

    request: type[Request]
    run: Callable[[Parts, Any, float], Any]
    lane: Lane
    failed: bool | None = False
    repeatable: bool = False


@dataclass(frozen=True)
class Call:
    """A request that was understood."""

    name: str
    method: Method
    request: Request


def _is_connected(parts: Parts, _request: Request, timeout: float) -> bool:
    return parts.sessions.is_connected(timeout)


def _disconnect(parts: Parts, _request: Request, _timeout: float) -> None:
    parts.sessions.disconnect()


def _exists(parts: Parts, request: PathRequest, timeout: float) -> bool:
    with parts.sessions.use() as session:
        return session.exists(request.path, timeout=timeout)


def _download_file(parts: Parts, request: TransferRequest, timeout: float) -> bool:
    parts.transfers.transfer_file(file_order(Direction.DOWNLOAD, request), timeout)
    return True


def _upload_file(parts: Parts, request: TransferRequest, timeout: float) -> bool:
    parts.transfers.transfer_file(file_order(Direction.UPLOAD, request), timeout)
    return True


def _delete_file(parts: Parts, request: PathRequest, timeout: float) -> bool:
    with parts.sessions.use() as session:
        session.delete_file(request.path, timeout=timeout)
    return True


def _move_file(parts: Parts, request: CopyRequest, timeout: float) -> bool:
    with parts.sessions.use() as session:
        session.move_file(request.source, request.dest, timeout=timeout)
    return True


def _only_as_a_task(_parts: Parts, _request: FolderRequest, _timeout: float) -> None:
    message = "this is done as a task only"  # which is what the dispatcher makes of it
    raise InvalidRequest(message)


def _list_files(parts: Parts, request: ListRequest, timeout: float) -> list[str]:
    limit = None if request.limit is None else min(request.limit, LISTED_MAXIMUM)
    options: dict[str, Any] = {"limit": limit, "after": request.after, "longest": RESPONSE_MAXIMUM}
    with parts.sessions.use() as session, suppress(TooLarge):
        page = session.list_files(request.path, request.file_pattern, timeout=timeout, **options)
        if encoded_size(page) <= RESPONSE_MAXIMUM:
            return page
    message = (
        f"these paths are more than a response may hold ({RESPONSE_MAXIMUM} bytes): ask for pages, "
        'with "limit": n and then "after": the last path of the page before'
    )
    raise TooLarge(message, operation="list_files", path=request.path)


def _test_connection(parts: Parts, request: TestRequest, timeout: float) -> dict[str, Any]:
    with parts.sessions.use() as session:
        server = session.test_connection(learn=request.learn, timeout=timeout)
    return {
        "authenticated": True,
        "host_key": server.host_key,
        "server": server.server,
        "cipher": server.cipher,
        "extensions": [shortened(name, EXTENSION_SHOWN) for name in server.extensions[:EXTENSIONS_SHOWN]],
    }


def _get_task_status(parts: Parts, request: TaskRequest, _timeout: float) -> dict[str, Any]:
    return parts.tasks.status(request.task_id)


def _cancel_task(parts: Parts, request: CancelRequest, timeout: float) -> bool:
    if parts.tasks.cancel(request.task_id, timeout):
        return True
    if request.request_id is None:
        return False
    with suppress(SFTPError):  # where the journal cannot be read, nothing else is known than that it does not run
        # A repeat of a call that did not wait for the end
        return bool(parts.tasks.status(request.task_id)["status"] == "Cancelled")
    return False


def _list_tasks(parts: Parts, request: ListTasksRequest, _timeout: float) -> list[dict[str, Any]]:
    page, size = [], len("[]")
    for task in parts.tasks.newest(min(request.limit or TASKS_SHOWN, TASKS_SHOWN), request.after):
        size += encoded_size(task) + len(", ")
        if size > RESPONSE_MAXIMUM:
            break
        page.append(task)
    return page


def _get_status(parts: Parts, _request: Request, _timeout: float) -> dict[str, Any]:
    return parts.status.document(RESPONSE_MAXIMUM)


METHODS: Mapping[str, Method] = {
    "is_connected": Method(Request, _is_connected, Lane.CONTROL),
    "disconnect": Method(ChangeRequest, _disconnect, Lane.CONTROL, repeatable=True),
    "exists": Method(PathRequest, _exists, Lane.QUICK),
    "download_file": Method(TransferRequest, _download_file, Lane.TRANSFER, repeatable=True),
    "upload_file": Method(TransferRequest, _upload_file, Lane.TRANSFER, repeatable=True),
    "delete_file": Method(DeleteRequest, _delete_file, Lane.QUICK),
    "move_file": Method(CopyRequest, _move_file, Lane.QUICK),
    "list_files": Method(ListRequest, _list_files, Lane.QUICK, failed=None),
    "test_connection": Method(TestRequest, _test_connection, Lane.QUICK, repeatable=True),
    "download_files": Method(FolderRequest, _only_as_a_task, Lane.TASKS),
    "upload_files": Method(FolderRequest, _only_as_a_task, Lane.TASKS),
    "get_task_status": Method(TaskRequest, _get_task_status, Lane.TASKS),
    "cancel_task": Method(CancelRequest, _cancel_task, Lane.TASKS, repeatable=True),
    "list_tasks": Method(ListTasksRequest, _list_tasks, Lane.TASKS),
    "get_status": Method(Request, _get_status, Lane.STATUS),
}


def understand(name: str, payload: Any) -> Call:
    """Check a request against its method's model.

    Raises:
        UnknownMethod: the message lists the methods.
        InvalidRequest: the message names the key and what is expected there.
    """
    method = METHODS.get(name)
    if method is None:
        message = f"there is no method '{excerpt(name, 100)}'; there are: {', '.join(METHODS)}"
        raise UnknownMethod(message)
    if isinstance(payload, Malformed):
        message = f"the payload is not valid JSON: {payload.reason}"
        raise InvalidRequest(message)
    if payload is None or payload == "":  # the azure-iot-hub SDK sends an empty string where no payload is given
        payload = {}
    if not isinstance(payload, dict):
        message = "the payload must be a JSON object, such as " + _example(method.request)
        raise InvalidRequest(message)
    try:
        return Call(name, method, method.request.model_validate(payload))
    except ValidationError as error:
        raise InvalidRequest(explain(error, method.request)) from None


def succeeded(result: Any) -> Response:
    """Word the answer to a call that was carried out."""
    return Response(200, result)


def accepted(task_id: str) -> Response:
    """Word the answer to a call that became a task."""
    return Response(ACCEPTED, {"task_id": task_id})


def refused(name: str, error: SFTPError) -> Response:
    """Word the answer to a call that was not carried out."""
    method = METHODS.get(name)
    payload = {
        "result": method.failed if method is not None else False,
        "code": error.code,
        "message": excerpt(describe(error), MESSAGE_MAXIMUM),
    }
    return Response(STATUSES[error.code], payload, error.code)


def _example(request: type[Request]) -> str:
    required = [name for name, field in request.model_fields.items() if field.is_required()]
    return json.dumps(dict.fromkeys(required, "…"), ensure_ascii=False)


def encoded_size(value: Any) -> int:
    """Return the bytes of a value in a response."""
    return len(json.dumps(value))  # as the SDK encodes it: ASCII only
