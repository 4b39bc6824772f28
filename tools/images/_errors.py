"""What goes wrong with images, in words that say what to do."""

from __future__ import annotations


class ImagesError(Exception):
    """An image cannot be built or run; the message says why, and what to do."""
