"""From the stream of a channel to SFTP packets; the data of a READ passes by without being collected."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NotSFTP, TooLarge, Unsupported
from iot.sftp.client._base.memory import Budget, most_kept
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.packets import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._ssh.requests import Landing

# Bytes of a packet from a server, at most: OpenSSH's own limit is 256 KiB (SFTP_MAX_MSG_LENGTH), and no answer to a
# request of ours has a reason to be longer, except a listing: wolfSSH and Erlang send a directory as one packet. Those
# are bounded by the memory budget for listings.
LONGEST_PACKET = 256 * 1024 + 1024
LISTING_SHARE = 4  # one packet may hold this part of the memory budget: until it is complete, it is there twice
DATA_HEADER = struct.Struct(">IBII")  # a packet's length and type, the number of its request, the length of the data


class ReplyParser:
    """Cuts a stream into SFTP packets."""

    def __init__(
        self,
        landing_of: Callable[[int], Landing | None],
        on_landed: Callable[[int], None],
        on_packet: Callable[..., None],
    ) -> None:
        """Report packets.

        Parameters:
            landing_of: returns where the data for a request goes, if it is a READ with a landing.
            on_landed: called with a request's number when all of its data has been passed on.
            on_packet: called with any other packet, and with the memory budget that it uses, if it is a long listing.
        """
        self._landing_of = landing_of
        self._on_landed = on_landed
        self._on_packet = on_packet
        self._has_begun = False
        self._partial = bytearray()  # a packet of which a part is missing
        self._budget: Budget | None = None  # for a long one
        self._landing: Landing | None = None  # of the data that is passing by
        self._number = self._missing = 0  # of its request; bytes that are still to come

    @property
    def is_amid_a_packet(self) -> bool:
        """Whether a packet has begun and not ended."""
        return bool(self._partial) or self._landing is not None

    @property
    def kept(self) -> int:
        """Bytes that are kept of a packet of which a part is missing."""
        return len(self._partial)

    @property
    def is_amid_a_listing(self) -> bool:
        """Whether a long listing is being collected, which the memory budget bounds."""
        return self._budget is not None

    def take(self, data: memoryview) -> None:
        """Take the next bytes of the stream.

        Raises:
            NotSFTP, Unsupported: they are not SFTP.
            TooLarge: a listing is longer than the memory budget allows.
        """
        while data:
            if self._landing is not None:
                data = self._pass_on(self._landing, data)
                continue
            needed = self._needed(self._partial or data)
            if not self._partial and needed <= len(data):
                self._act(data[:needed])
                data = data[needed:]
                continue
            wanted = max(0, needed - len(self._partial))
            if self._budget is not None:
                self._budget.take(2 * min(wanted, len(data)))
            self._partial += data[:wanted]
            data = data[wanted:]
            if self._needed(self._partial) == len(self._partial):
                start, self._partial = self._partial, bytearray()
                self._act(memoryview(start))

    def _needed(self, start: bytes | memoryview | bytearray) -> int:
        """Return how many bytes of a packet are needed to go on: its header if it has a landing, otherwise all."""
        if len(start) < 5:  # noqa: PLR2004 - length and type
            return 5
        length, kind = struct.unpack_from(">IB", start)
        if not self._has_begun and kind != Kind.VERSION:
            raise _not_sftp(bytes(start))
        if kind == Kind.NAME and length > LONGEST_PACKET:
            if self._budget is None:
                self._expect_long_listing(length)
        elif not 5 <= length <= LONGEST_PACKET:  # noqa: PLR2004 - type and number
            message = f"the server announced a packet of {length} bytes, which no SFTP answer has"
            raise NotSFTP(message)
        if kind != Kind.DATA:
            return int(4 + length)
        if len(start) < DATA_HEADER.size:
            return int(min(DATA_HEADER.size, 4 + length))
        _, _, number, size = DATA_HEADER.unpack_from(start)
        has_landing = 4 + length == DATA_HEADER.size + size and self._landing_of(number) is not None
        return DATA_HEADER.size if has_landing else int(4 + length)

    def _expect_long_listing(self, length: int) -> None:
        """Let a long listing take memory from the budget, as it arrives.

        Raises:
            TooLarge: it is longer than its share.
        """
        longest = most_kept() // LISTING_SHARE
        if length > longest:
            message = (
                f"the server sends names in a packet of {length} bytes: more than {longest} are not kept at a time"
            )
            raise TooLarge(message)
        self._budget = Budget(is_of_call=False)

    def _act(self, start: memoryview) -> None:
        self._has_begun = True
        if start[4] == Kind.DATA and len(start) == DATA_HEADER.size:
            length, _, number, size = DATA_HEADER.unpack_from(start)
            landing = self._landing_of(number) if 4 + length == len(start) + size else None
            if landing is not None:
                self._landing, self._number, self._missing = landing, number, size
                landing.announce(size)
                self._pass_on(landing, start[:0])  # there may be no data at all
                return
        if self._budget is None:
            self._on_packet(bytes(start[4:]))
            return
        budget, self._budget = self._budget, None
        self._on_packet(bytes(start[4:]), budget)
        budget.keep_only(len(start))

    def _pass_on(self, landing: Landing, data: memoryview) -> memoryview:
        piece = data[: self._missing]
        self._missing -= len(piece)
        if piece:
            landing.take(piece)
        if not self._missing:
            self._landing = None
            self._on_landed(self._number)
        return data[len(piece) :]


def _not_sftp(start: bytes) -> Unsupported:
    text = excerpt(start[:80].decode("utf-8", "replace"), 80)
    return Unsupported(
        f"the server does not speak SFTP, it began with {text!r}: "
        "an SSH account for SFTP must not run a shell that prints",
    )
