"""Why a server and this client do not come to an agreement, in words: no greeting, or no algorithm in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, ServerBusy, SFTPError, Unreachable
from iot.sftp.client._base.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST_WORDS = 200  # characters of what a server says that reach a message
ON_OTHER_PORTS = {"HTTP/": "a web server", "220 ": "a mail or FTP server", "RFB ": "a VNC server"}

# Algorithms that are not spoken for their age; whatever else we lack is no less safe than what we have.
OLD_ALGORITHMS = (
    "cbc", "3des", "arcfour", "blowfish", "cast128", "ssh-rsa", "ssh-dss", "-sha1", "-md5", "hmac-ripemd",
)  # fmt: skip


def no_greeting(words: Sequence[bytes], error: Exception) -> SFTPError:
    """Name why there is no greeting, with what the server said in its place. What is no text is left out."""
    shown = readable(words)
    other = next((kind for start, kind in ON_OTHER_PORTS.items() if shown.startswith(start)), None)
    if other is not None:
        return ConnectionLost(f"this is {other}, not an SSH server (it said {shown!r}): check host and port")
    if isinstance(error, TimeoutError):
        message = "the server sent no SSH greeting in time"
        return Unreachable(f"{message} (it said {shown!r})" if shown else message)
    if shown:
        return ServerBusy(f"the server hung up before its SSH greeting and said: {shown}")
    if words:
        return ConnectionLost("what the server sent in place of an SSH greeting is no text: is this an SSH server?")
    return ConnectionLost("the server hung up before its SSH greeting: is this an SSH server, and does it let us in?")


def readable(words: Sequence[bytes]) -> str:
    """Return the lines that are text, cut to what a message may hold."""
    texts = (word.decode("utf-8", "replace").replace("\t", " ").strip() for word in words)
    said = (text for text in texts if text and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text)
    return excerpt(" ".join(said), LONGEST_WORDS)


def incompatible(what: str, offered: Iterable[str], spoken: Iterable[str]) -> str:
    """Say that nothing is in common: old algorithms are called so, those of servers that are newer than we are not."""
    theirs = [name for name in offered if name and not name.startswith(("ext-info-", "kex-strict-"))]
    old = bool(theirs) and all(any(part in name for part in OLD_ALGORITHMS) for name in theirs)
    only = f"the server offers only {'old ones, which are no longer accepted' if old else 'others'}"
    return (
        f"no {what} in common: {only}: {excerpt(', '.join(theirs), 2 * LONGEST_WORDS) or 'none'}. "
        f"This client has {', '.join(spoken)}"
    )
