"""Text from outside, made fit to be shown."""

from __future__ import annotations


def printable(text: str, longest: int) -> str:
    """Cut a text from outside to `longest` characters, with what could disturb a terminal or a log replaced."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
