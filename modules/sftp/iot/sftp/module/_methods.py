"""The direct methods: one table of names, requests and what they call, and the one place that words the answers."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from iot.sftp.client import InvalidRequest, SFTPError, TooLarge, UnknownMethod
from iot.sftp.module._logging import printable, shortened
from iot.sftp.module._sdk import Malformed
from iot.sftp.module._validation import AnyText, Document, Text, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.module._current_session import CurrentSession

RESPONSE_MAXIMUM = 128 * 1024  # bytes, IoT Hub's limit for the payload of a direct method's response
MESSAGE_MAXIMUM = 2_000  # characters
PATH_SHOWN = 200  # characters of a path in a message

TIMEOUT_DEFAULT = 25.0  # seconds: under the 30 that callers wait by default
TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM = 1, 290  # IoT Hub waits for 300 at most


class Lane(Enum):
    """Who waits for whom: calls wait only behind others of their lane."""

    CONTROL = "control"
    QUICK = "quick"
    TRANSFER = "transfer"


def _timeout(value: object) -> float:
    # compared before it becomes a float: an integer may be too large for one, and NaN fails any comparison
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or not TIMEOUT_MINIMUM <= number <= TIMEOUT_MAXIMUM:
        expected = f"must be a number of seconds from {TIMEOUT_MINIMUM} to {TIMEOUT_MAXIMUM}"
        raise PydanticCustomError("timeout", expected)
    return float(number)


class Request(Document):
    """What every method takes."""

    timeout: Annotated[float, PlainValidator(_timeout)] = TIMEOUT_DEFAULT


class PathRequest(Request):
    """A method on one remote path."""

    path: Text


class CopyRequest(Request):
    """A method from one path to another."""

    source: Text
    dest: Text


class ListRequest(PathRequest):
    """A listing, or a page of it: the first `limit` paths that sort after `after`."""

    file_pattern: AnyText | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    after: AnyText | None = None


class TestRequest(Request):
    """A connection test; `learn` forgets the remembered host key first."""

    __test__: ClassVar[bool] = False  # not a test case, in spite of its name

    learn: bool = False


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        request: the model of its payload.
        run: carries it out within so many seconds, blocking; returns the bare result, or raises `SFTPError`.
        lane: which calls it waits behind.
        failed: the `result` of an answer that it was not carried out.
    """

    request: type[Request]
    run: Callable[[CurrentSession, Any, float], Any]
    lane: Lane
    failed: bool | None = False


@dataclass(frozen=True)
class Call:
    """A request that was understood."""

    name: str
    method: Method
    request: Request


@dataclass(frozen=True)
class Response:
    """What the caller gets: an HTTP status and a JSON value; `code` is that of the failure, for the log."""

    status: int
    payload: Any
    code: str | None = None


def _is_connected(sessions: CurrentSession, _request: Request, timeout: float) -> bool:
    return sessions.is_connected(timeout)


def _disconnect(sessions: CurrentSession, _request: Request, _timeout: float) -> None:
    sessions.disconnect()


def _exists(sessions: CurrentSession, request: PathRequest, timeout: float) -> bool:
    with sessions.use() as session:
        return session.exists(request.path, timeout=timeout)


def _download_file(sessions: CurrentSession, request: CopyRequest, timeout: float) -> bool:
    with sessions.use() as session:
        session.download_file(request.source, request.dest, timeout=timeout)
    return True


def _upload_file(sessions: CurrentSession, request: CopyRequest, timeout: float) -> bool:
    with sessions.use() as session:
        session.upload_file(request.source, request.dest, timeout=timeout)
    return True


def _delete_file(sessions: CurrentSession, request: PathRequest, timeout: float) -> bool:
    with sessions.use() as session:
        session.delete_file(request.path, timeout=timeout)
    return True


def _move_file(sessions: CurrentSession, request: CopyRequest, timeout: float) -> bool:
    with sessions.use() as session:
        session.move_file(request.source, request.dest, timeout=timeout)
    return True


def _list_files(sessions: CurrentSession, request: ListRequest, timeout: float) -> list[str]:
    with sessions.use() as session:
        paths = session.list_files(request.path, request.file_pattern, timeout=timeout)
    start = 0 if request.after is None else bisect_right(paths, request.after)
    page = paths[start:] if request.limit is None else paths[start : start + request.limit]
    if _encoded_size(page) > RESPONSE_MAXIMUM:
        message = (
            f"{len(page)} paths are more than a response may hold ({RESPONSE_MAXIMUM} bytes): ask for pages, "
            'with "limit": n and then "after": the last path of the page before'
        )
        raise TooLarge(message, operation="list_files", path=request.path)
    return page


def _test_connection(sessions: CurrentSession, request: TestRequest, timeout: float) -> dict[str, Any]:
    with sessions.use() as session:
        server = session.test_connection(learn=request.learn, timeout=timeout)
    return {
        "authenticated": True,
        "host_key": server.host_key,
        "server": server.server,
        "cipher": server.cipher,
        "extensions": list(server.extensions),
    }


METHODS: Mapping[str, Method] = {
    "is_connected": Method(Request, _is_connected, Lane.CONTROL),
    "disconnect": Method(Request, _disconnect, Lane.CONTROL),
    "exists": Method(PathRequest, _exists, Lane.QUICK),
    "download_file": Method(CopyRequest, _download_file, Lane.TRANSFER),
    "upload_file": Method(CopyRequest, _upload_file, Lane.TRANSFER),
    "delete_file": Method(PathRequest, _delete_file, Lane.QUICK),
    "move_file": Method(CopyRequest, _move_file, Lane.QUICK),
    "list_files": Method(ListRequest, _list_files, Lane.QUICK, failed=None),
    "test_connection": Method(TestRequest, _test_connection, Lane.QUICK),
}


def understand(name: str, payload: Any) -> Call:
    """Check a request against its method's model.

    Raises:
        UnknownMethod: the message lists the methods.
        InvalidRequest: the message names the key and what is expected there.
    """
    method = METHODS.get(name)
    if method is None:
        message = f"there is no method '{shortened(printable(name), 100)}'; there are: {', '.join(METHODS)}"
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


def refused(name: str, error: SFTPError) -> Response:
    """Word the answer to a call that was not carried out."""
    method = METHODS.get(name)
    message = error.message
    if error.path is not None:
        path = shortened(printable(error.path), PATH_SHOWN)
        message = message if f"'{path}'" in message else f"'{path}': {message}"
    payload = {
        "result": method.failed if method is not None else False,
        "code": error.code,
        "message": shortened(printable(message), MESSAGE_MAXIMUM),
    }
    return Response(error.status, payload, error.code)


def _example(request: type[Request]) -> str:
    required = [name for name, field in request.model_fields.items() if field.is_required()]
    return json.dumps(dict.fromkeys(required, "…"), ensure_ascii=False)


def _encoded_size(value: Any) -> int:
    return len(json.dumps(value))  # as the SDK encodes it: ASCII only
