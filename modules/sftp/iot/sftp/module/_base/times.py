"""Times as people and machines read them: UTC, as in RFC 3339."""

from __future__ import annotations

from datetime import datetime, timezone


def moment(seconds: float) -> str:
    """Return a time of the epoch as people and programs read it, in UTC (ISO 8601)."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
