"""How many bytes per second transfers may move: in both directions together, and in each of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from iot.sftp.client._transfer.file_order import Direction


@dataclass(frozen=True)
class Bandwidth:
    """Whole numbers of bytes per second; `None` is unlimited.

    Attributes:
        total: uploads and downloads together.
        upload: uploads, within that.
        download: downloads, within that.
    """

    total: int | None = None
    upload: int | None = None
    download: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: one is not a whole number, or smaller than 1.
        """
        for field in fields(self):
            rate = getattr(self, field.name)
            if rate is not None and (type(rate) is not int or rate < 1):
                message = f"a limit is a whole number of bytes per second, at least 1, or None, not {rate!r}"
                raise ValueError(message)

    def of(self, direction: Direction | None) -> dict[Direction | None, int]:
        """Return the limits that count for a direction; `None` is the one of both together."""
        limits = {None: self.total, Direction.UPLOAD: self.upload, Direction.DOWNLOAD: self.download}
        return {key: rate for key, rate in limits.items() if key in (None, direction) and rate is not None}
