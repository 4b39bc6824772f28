"""What placeholders stand for at the moment: the device's words, and what the document in force adds to them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iot.sftp.module._documents.template import Placeholders

if TYPE_CHECKING:
    from collections.abc import Callable


class CurrentPlaceholders:
    """Holds the placeholders in force; thread-safe.

    Attributes:
        values: replaced as a whole by each desired document.
        clock: gives the moment for dates, in seconds since 1970.
    """

    def __init__(self, values: Placeholders | None = None, clock: Callable[[], float] = time.time) -> None:
        """Begin with what is known before the first document."""
        self.values = values or Placeholders()
        self.clock = clock
