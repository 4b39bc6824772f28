"""What ends a rehearsal."""

from __future__ import annotations


class ReleaseError(Exception):
    """What is wrong, and what to do about it, for whoever wants to release."""
