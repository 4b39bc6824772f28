"""What a transfer of one file did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class TransferOutcome(NamedTuple):
    """What was done.

    Attributes:
        size: bytes of the file.
        verified: how.
        resumed: bytes that were there before.
        atomic: whether it got its name in one step.
        sha256: of all its bytes, in hexadecimal digits, if that was asked for; else empty.
    """

    size: int
    verified: str
    resumed: int
    atomic: bool
    sha256: str = ""


@dataclass(frozen=True)
class Transfer:
    """What a transfer did.

    Attributes:
        bytes: the size of the file, compared between source and destination.
        seconds: from the call to the end.
        atomic: whether the destination was replaced in one step. `False` where the server does not offer that.
        verified: what was compared: `size`, or how the SHA-256 was: `check-file`, `sha256sum` or `read back`; or
            `acknowledged`: the server reports no size, and has confirmed each WRITE, or the end of the file.
        resumed: how many of the bytes were there already, from an earlier attempt.
        attempts: the attempts, the one that succeeded included; attempts to connect count too.
    """

    bytes: int
    seconds: float
    atomic: bool
    verified: str = "size"
    resumed: int = 0
    attempts: int = 1

    @classmethod
    def of(cls, outcome: TransferOutcome, seconds: float, attempts: int) -> Transfer:
        """Return what was done in so many seconds and attempts."""
        return cls(outcome.size, seconds, outcome.atomic, outcome.verified, outcome.resumed, attempts)
