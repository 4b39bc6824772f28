"""Times as responses and reported properties have them: UTC, in the format of RFC 3339."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Literal


def rfc3339(seconds: float, precision: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """Return a time, given in seconds since 1970, as `2026-11-23T15:49:59Z`."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec=precision).replace("+00:00", "Z")


def rfc3339_now() -> str:
    """Return the time of the clock, as `2026-11-23T15:49:59Z`."""
    return rfc3339(time.time())
