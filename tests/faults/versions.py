"""Contents that prove themselves: a file is one of the versions that were made, or it is a mixture."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

DIGEST = 32  # bytes, of SHA-256
SIZES = (0, 1, 5_000, 300_000, 4_000_000)  # bytes; partial files of more than 1 MiB are kept to go on with


class Mixture(Exception):  # noqa: N818 - what was found, no failure of the test
    """A file that is none of the versions that were ever written."""


def make(size: int, chance: random.Random) -> bytes:
    """Return content with a hash of its own in front."""
    body = chance.randbytes(size)
    return hashlib.sha256(body).digest() + body


def version_in(content: bytes) -> str:
    """Name the version that some content is.

    Raises:
        Mixture: it is none.
    """
    if len(content) < DIGEST or hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        message = f"{len(content)} bytes that are no version"
        raise Mixture(message)
    return f"{len(content)} bytes {content[:4].hex()}"


def version_at(path: Path) -> str | None:
    """Name the version that is in a file; `None` if there is no file."""
    try:
        return version_in(path.read_bytes())
    except FileNotFoundError:
        return None
