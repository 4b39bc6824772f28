"""Times as people and machines read them: UTC, as in RFC 3339."""

from __future__ import annotations

from datetime import datetime, timezone


def moment(seconds: float, timespec: str = "seconds") -> str:
    """Return seconds of the epoch as UTC in ISO 8601; `timespec` is the precision, as `datetime.isoformat` takes it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec=timespec).replace("+00:00", "Z")
