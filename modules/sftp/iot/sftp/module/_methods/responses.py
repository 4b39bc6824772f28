"""Results and errors as responses: nothing else in the module turns one into the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.wording import describe
from iot.sftp.module._hub.response import Response
from iot.sftp.module._methods.statuses import STATUSES
from iot.sftp.module._methods.table import METHODS

if TYPE_CHECKING:
    from iot.sftp.client import SFTPError

MESSAGE_MAXIMUM = 2_000  # characters
OK = 200
ACCEPTED = 202  # the call became a task (RFC 9110, section 15.3.3)


def succeeded(result: Any) -> Response:
    """Return the response to a call that was executed: the bare result."""
    return Response(OK, result)


def accepted(task_id: str) -> Response:
    """Return the response to a call that became a task."""
    return Response(ACCEPTED, {"task_id": task_id})


def failed(name: str, error: SFTPError) -> Response:
    """Return the response to a call of a method that failed.

    Parameters:
        name: the method's, also one that does not exist.
        error: the reason.
    """
    method = METHODS.get(name)
    payload = {
        "result": method.failed if method is not None else False,
        "code": error.code,
        "message": excerpt(describe(error), MESSAGE_MAXIMUM),
    }
    return Response(STATUSES[error.code], payload, error.code)
