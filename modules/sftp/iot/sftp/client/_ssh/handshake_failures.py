"""Why a handshake ended before there were keys, in words: no greeting, or no algorithm in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, ServerBusy, SFTPError, Unreachable, Unsupported
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.algorithms import OUTDATED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST_WORDS = 200  # characters of a server's text that are quoted in a message
OTHER_PROTOCOLS = {"HTTP/": "a web server", "220 ": "a mail or FTP server", "RFB ": "a VNC server"}


def no_greeting(lines: Sequence[bytes], error: Exception) -> SFTPError:
    """Return an error that says why there is no greeting.

    Parameters:
        lines: what the server sent in its place; what is not text is left out of the message.
        error: what ended the wait for it; a `TimeoutError` if the server was silent.
    """
    shown = readable(lines)
    other = next((kind for start, kind in OTHER_PROTOCOLS.items() if shown.startswith(start)), None)
    if other is not None:
        return ConnectionLost(f"this is {other}, not an SSH server (it said {shown!r}): check host and port")
    if isinstance(error, TimeoutError):
        message = "the server sent no SSH greeting in time"
        return Unreachable(f"{message} (it said {shown!r})" if shown else message)
    if shown:
        return ServerBusy(f"the server hung up before its SSH greeting and said: {shown}")
    if lines:
        return ConnectionLost("what the server sent in place of an SSH greeting is no text: is this an SSH server?")
    return ConnectionLost("the server hung up before its SSH greeting: is this an SSH server, and does it let us in?")


def too_old(version: str) -> Unsupported:
    """Return the error for a server that speaks SSH 1 only."""
    return Unsupported(f"the server speaks an SSH that is too old: {excerpt(version, LONGEST_WORDS)}")


def readable(lines: Sequence[bytes]) -> str:
    """Return the lines that are text, cut to what a message may hold."""
    texts = (line.decode("utf-8", "replace").replace("\t", " ").strip() for line in lines)
    said = (text for text in texts if text and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text)
    return excerpt(" ".join(said), LONGEST_WORDS)


def incompatible(what: str, offered: Iterable[str], spoken: Iterable[str]) -> str:
    """Return a message with both sides' algorithms; it calls the server's outdated only if all of them are."""
    theirs = [name for name in offered if name and not name.startswith(("ext-info-", "kex-strict-"))]
    are_outdated = bool(theirs) and all(any(part in name for part in OUTDATED) for name in theirs)
    only = f"the server offers only {'old ones, which are no longer accepted' if are_outdated else 'others'}"
    return (
        f"no {what} in common: {only}: {excerpt(', '.join(theirs), 2 * LONGEST_WORDS) or 'none'}. "
        f"This client has {', '.join(spoken)}"
    )
