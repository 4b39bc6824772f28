"""What goes wrong with templates, in words that say what to do."""

from __future__ import annotations


class ManifestError(Exception):
    """A template cannot be expanded; the message names the place, and says what to do."""
