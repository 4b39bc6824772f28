"""Direct methods: the first line is the method's name, the rest is its payload as the message has it."""

from __future__ import annotations

import json

from iot.sftp.client import NotFound, SFTPError
from iot.sftp.module._documents.requests import ChangeRequest
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, Response
from iot.sftp.module._hub.sdk import parse_payload
from iot.sftp.module._methods.method import Call
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._methods.responses import failed
from iot.sftp.module._methods.table import METHODS

WORDS = (
    *METHODS,
    *(f'"{key}"' for method in METHODS.values() for key in method.request.model_fields),
    *('"delete"', '"move"', '"skip_same"', "true", "null", "NaN", "1e999", '"\\ud800"', '"\\u202e"', "{}"),
)


def check(data: bytes) -> None:
    """A request is understood, or refused with an answer that IoT Hub takes."""
    first, _, payload = data.partition(b"\n")
    name = first.decode("utf-8", "surrogateescape")
    try:
        call = parse_call(name, parse_payload(payload))
    except SFTPError as error:
        _is_an_answer(failed(name, error))
    else:
        _can_be_worked_with(call)


def _is_an_answer(response: Response) -> None:
    assert 400 <= response.status < 600
    assert len(json.dumps(response.payload, allow_nan=False)) <= RESPONSE_MAXIMUM
    assert response.payload["message"].isprintable()


def _can_be_worked_with(call: Call) -> None:
    """What was understood can be refused by the server, told apart from others, and kept in the journal."""
    request = call.request
    assert 1 <= request.timeout <= 290
    for text in (value for value in vars(request).values() if isinstance(value, str)):
        _is_an_answer(failed(call.name, NotFound(f"there is no {text!r}", path=text)))
    if isinstance(request, ChangeRequest):
        assert request.fingerprint(call.name) == request.fingerprint(call.name)
        kept = json.loads(json.dumps(request.parameters(), allow_nan=False))
        assert type(request).model_validate(kept).parameters() == request.parameters()
