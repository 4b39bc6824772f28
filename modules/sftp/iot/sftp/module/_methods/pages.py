"""Listings as results: entries as JSON has them, and pages that fit into a response."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from iot.sftp.client import TooLarge
from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, encoded_size

if TYPE_CHECKING:
    from iot.sftp.client import FileInfo

Item = TypeVar("Item")

LEAST_ENTRY = {"path": "a", "kind": "file", "size": 0, "modified": None, "mode": None}
# More never fit, however short they are
PATHS_MAXIMUM = RESPONSE_MAXIMUM // len('"a", ') + 1
ENTRIES_MAXIMUM = RESPONSE_MAXIMUM // encoded_size(LEAST_ENTRY) + 1


def file_document(info: FileInfo) -> dict[str, Any]:
    """Return what is known of a file or directory, as responses show it: a time in UTC, a mode in octal."""
    modified = None
    if info.modified is not None:
        with suppress(ValueError, OverflowError, OSError):  # a local file may be of any year
            modified = rfc3339(info.modified)
    mode = None if info.mode is None else f"{info.mode:04o}"
    return {"path": info.path, "kind": info.kind, "size": info.size, "modified": modified, "mode": mode}


def page_limit(limit: int | None, most: int) -> int:
    """Return how many entries to ask for: what a response can hold at all, and no more than the caller wants."""
    return most if limit is None else min(limit, most)


def fitting_page(items: list[Item], *, limit: int | None, path: str) -> list[Item]:
    """Return as many of the first items as fit into a response.

    Parameters:
        items: a list of them, or a page.
        limit: of the page; without one, nobody would know that there is more.
        path: what was listed.

    Raises:
        TooLarge: they do not fit, and no page was asked for.
    """
    size = len("[]")
    for count, item in enumerate(items):
        size += encoded_size(item) + (len(", ") if count else 0)
        if size > RESPONSE_MAXIMUM:
            if limit is None:
                raise too_large(path)
            return items[:count]
    return items


def too_large(path: str) -> TooLarge:
    """Return the error of a listing that does not fit into a response."""
    message = (
        f"this listing does not fit into a response ({RESPONSE_MAXIMUM} bytes): ask for pages, "
        'with "limit": n and then "after": the last path of the page before'
    )
    return TooLarge(message, path=path)
