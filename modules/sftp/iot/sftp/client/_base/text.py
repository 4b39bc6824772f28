"""Text from outside (paths, what servers say, payloads), made fit for messages, log lines and responses."""

from __future__ import annotations

SHOWN_MAXIMUM = 200  # characters of a text from outside that a message or a log line holds


def printable(text: str) -> str:
    """Escape what would break a line or act on a terminal: control and bidirectional characters, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def shortened(text: str, maximum: int = SHOWN_MAXIMUM) -> str:
    """Cut a text that is longer than `maximum` characters, and append how many are missing."""
    return text if len(text) <= maximum else f"{text[:maximum]}… ({len(text) - maximum} more)"


def excerpt(text: str, maximum: int = SHOWN_MAXIMUM) -> str:
    """Return as much of a text as is shown: escaped, and cut to `maximum` characters."""
    return shortened(printable(text), maximum)


def quoted(text: str, maximum: int = SHOWN_MAXIMUM) -> str:
    """Return a text, cut to `maximum` characters, in quotes: with what is not printable escaped, and quotes in it."""
    return repr(shortened(text, maximum))
