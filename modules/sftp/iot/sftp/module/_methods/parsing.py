"""A method's name and its payload, checked against the table and the method's model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from iot.sftp.client import InvalidRequest, UnknownMethod
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._documents.validation import explain
from iot.sftp.module._hub.sdk import Malformed
from iot.sftp.module._methods.method import Call
from iot.sftp.module._methods.table import METHODS

if TYPE_CHECKING:
    from iot.sftp.module._documents.requests import Request

NAME_SHOWN = 100  # characters of a name that no method has


def parse_call(name: str, payload: Any) -> Call:
    """Check a request against its method's model.

    Parameters:
        name: the method's.
        payload: any JSON value, or `Malformed`.

    Raises:
        UnknownMethod: the message lists the methods.
        InvalidRequest: the message names the key and what is expected there.
    """
    method = METHODS.get(name)
    if method is None:
        message = f"there is no method '{excerpt(name, NAME_SHOWN)}'; there are: {', '.join(METHODS)}"
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


def _example(request: type[Request]) -> str:
    required = [name for name, field in request.model_fields.items() if field.is_required()]
    return json.dumps(dict.fromkeys(required, "…"), ensure_ascii=False)
