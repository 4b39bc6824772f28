"""Direct methods: a request to a module over MQTT, and its answer within a time limit.

Source: "Understand and invoke direct methods from IoT Hub" in the IoT Hub documentation.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, quote

from localedge._errors import HubError

NAME_LIMIT = 100
"""Characters of a method's name."""
PAYLOAD_LIMIT = 128 * 1024
"""Bytes of a payload, in each direction."""
REQUEST_TOPIC = "$iothub/methods/POST/"
"""What begins the topic of a request; the name and the request id follow."""
RESPONSE_TOPIC = "$iothub/methods/res/"
"""What begins the topic of an answer; the status and the request id follow."""


def encode_payload(value: object) -> bytes:
    """Return a payload as the JSON that goes over the wire, as short as it gets: its size is limited."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can express
        return json.dumps(value, separators=(",", ":")).encode()


class MethodResponse(NamedTuple):
    """A module's answer, its payload as the bytes that came."""

    status: int
    payload: bytes


class _Call(NamedTuple):
    client_id: str
    response: asyncio.Future[MethodResponse]


class DirectMethods:
    """Hands requests to modules through `deliver(client_id, topic, payload)`, and answers back to their callers."""

    def __init__(self, deliver: Callable[[str, str, bytes], bool]) -> None:
        self._deliver = deliver
        self._calls: dict[str, _Call] = {}

    async def invoke(self, client_id: str, name: str, payload: bytes, timeout: float) -> MethodResponse:
        """Return the module's answer; `HubError` if there is none within `timeout` seconds."""
        _check_request(name, payload)
        request_id = secrets.token_hex(8)
        response: asyncio.Future[MethodResponse] = asyncio.get_running_loop().create_future()
        self._calls[request_id] = _Call(client_id, response)
        try:
            topic = f"{REQUEST_TOPIC}{quote(name, safe='')}/?$rid={request_id}"
            if not self._deliver(client_id, topic, payload):
                raise HubError.not_online()
            return await asyncio.wait_for(response, timeout)
        except asyncio.TimeoutError:  # another class than TimeoutError before Python 3.11
            raise HubError.no_answer() from None
        finally:
            del self._calls[request_id]

    def answered(self, client_id: str, topic: str, payload: bytes) -> None:
        """Take a module's answer; one that nobody waits for any more is dropped, as IoT Hub does."""
        status, _, query = topic.removeprefix(RESPONSE_TOPIC).partition("/")
        request_id = parse_qs(query.removeprefix("?")).get("$rid", [""])[0]
        call = self._calls.get(request_id)
        if call is None or call.client_id != client_id or call.response.done():
            return
        if re.fullmatch(r"-?\d+", status, re.ASCII) is None:
            message = f"The module's answer has the status {status!r}, which is not an integer."
            call.response.set_exception(HubError(502, 502000, message))
        elif len(payload) > PAYLOAD_LIMIT:
            message = f"The module's answer has {len(payload)} bytes; the limit is {PAYLOAD_LIMIT} (128 KiB)."
            call.response.set_exception(HubError.too_large(message))
        else:
            call.response.set_result(MethodResponse(int(status), payload))

    def connection_closed(self, client_id: str) -> None:
        """End the calls of a module whose connection ended: its answer would be ignored after a reconnect."""
        for call in self._calls.values():
            if call.client_id == client_id and not call.response.done():
                call.response.set_exception(HubError.connection_closed())


def _check_request(name: str, payload: bytes) -> None:
    if not 0 < len(name) <= NAME_LIMIT:
        raise HubError.invalid(f"The method's name has {len(name)} characters; it has 1 to {NAME_LIMIT}.")
    if len(payload) > PAYLOAD_LIMIT:
        raise HubError.too_large(f"The payload has {len(payload)} bytes; the limit is {PAYLOAD_LIMIT} (128 KiB).")
