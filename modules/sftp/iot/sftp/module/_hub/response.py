"""The response to a direct method, as the edge hub accepts it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

RESPONSE_MAXIMUM = 128 * 1024  # bytes, IoT Hub's limit for the payload of a direct method's response


@dataclass(frozen=True)
class Response:
    """An HTTP status and a JSON value for the caller; `code` is that of the failure, for the log."""

    status: int
    payload: Any
    code: str | None = None


def encoded_size(value: Any) -> int:
    """Return the number of bytes of a JSON value in a response."""
    return len(json.dumps(value))  # as the SDK encodes it: ASCII only
