"""The response of a direct method, as the edge hub takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Response:
    """What the caller gets: an HTTP status and a JSON value; `code` is that of the failure, for the log."""

    status: int
    payload: Any
    code: str | None = None
