"""Wording that log lines, responses and reported properties share: errors with their paths and causes, rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client._base.text import excerpt

if TYPE_CHECKING:
    from iot.sftp.client import SFTPError

CAUSES_SHOWN = 4  # deeper ones are of no help


def internal_error(place: str) -> str:
    """Return the message of an error that is a bug of the module.

    Parameters:
        place: what the record in the log begins with, such as `task 3fa2c1`.
    """
    return f"internal error of the module, described in its log at {place}: please report it"


def describe(error: SFTPError) -> str:
    """Return the message of an error, with the path that it is about."""
    if error.path is None:
        return error.message
    path = excerpt(error.path)
    return error.message if f"'{path}'" in error.message else f"'{path}': {error.message}"


def with_causes(error: BaseException) -> str:
    """Return the text of an error and those of its causes: the SDK's own errors say little by themselves."""
    words: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(words) < CAUSES_SHOWN:
        text = str(cause) or type(cause).__name__
        if text not in words:
            words.append(text)
        cause = cause.__cause__
    return ": ".join(words)


def rate(size: float, seconds: float) -> str:
    """Return a transfer rate, as `21.8 MB/s`."""
    value = size / max(seconds, 1e-3)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004 - the step between two units
            return f"{value:.3g} {unit}/s"
        value /= 1000
    return f"{value:.3g} GB/s"
