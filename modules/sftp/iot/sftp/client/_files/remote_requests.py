"""SFTP requests to one server, sent without waiting for their answers.

Packets are put together here and in the three files above this one (`remote_handles`, `remote_queries` and
`remote_files`), and nowhere else. `begin_…` sends a request and returns the future of its answer; the methods of
`RemoteAnswers` wait for it. Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import struct
from copy import copy
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    DeadlineExceeded,
    SFTPError,
)
from iot.sftp.client._files.remote_answers import RemoteAnswers
from iot.sftp.client._ssh.packets import Attributes, Kind, encode_path, string
from iot.sftp.client._ssh.requests import Reply

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from iot.sftp.client._ssh.requests import Landing, Source

FSYNC = "fsync@openssh.com"

# What every server of version 3 takes (section 3 demands packets of 34,000 bytes), and the least that is asked for: a
# server that announces less would have a file moved in millions of requests.
SAFE_REQUEST = 32 * 1024
LARGEST_REQUEST = 255 * 1024
MOST_IN_FLIGHT = 1024  # requests on a channel: OpenSSH's client has 64 by default, and 1,024 at most


class RemoteRequests(RemoteAnswers):
    """Requests to a server: one method each, which sends the packet and returns the future of its answer.

    It has many methods because the protocol has many requests; each is a line or two.
    """

    # --- what is known of the server ---

    def offers(self, extension: str) -> bool:
        """Return whether the server announced an extension."""
        return extension in self._channel.extensions

    @property
    def offers_fsync(self) -> bool:
        """Whether the server announced that it syncs a file to its disk on request."""
        return self.offers(FSYNC)

    @property
    def round_trip(self) -> float:
        """The shortest time in which the server has answered a request on this channel, in seconds."""
        return min(self._channel.round_trip, 1.0)

    def has_short_calls(self) -> bool:
        """Return whether other calls are made over this connection, which wait behind what is in flight."""
        return self._connection.has_short_calls

    @property
    def has_room(self) -> bool:
        """Whether a further request may be sent for the sake of speed: no server keeps any number of them."""
        return self.room > 0

    @property
    def room(self) -> int:
        """How many further requests may be sent for the sake of speed; none if it is not positive."""
        return MOST_IN_FLIGHT - self._channel.in_flight

    def request_sizes(self) -> tuple[int, int]:
        """Return the bytes to ask for in a READ and to send in a WRITE (OpenSSH PROTOCOL, section 4.8)."""
        sizes = self._connection.request_sizes
        if sizes is None:
            limits = self._connection.limits()
            if limits is None:
                return SAFE_REQUEST, SAFE_REQUEST
            sizes = self._connection.request_sizes = self._sizes_in(limits)
        return sizes

    def _sizes_in(self, limits: Future[Reply]) -> tuple[int, int]:
        try:
            kind, fields = self._reply(limits)
            fields = self.accept(Reply(kind, copy(fields)), "", Kind.EXTENDED_REPLY)  # other threads may read it too
            packet, read, write = fields.uint64(), fields.uint64(), fields.uint64()
            if not fields.at_end():
                self.traits.files.announce(fields.uint64())
        except DeadlineExceeded:
            raise
        except SFTPError:  # this is about speed only: whatever else is wrong, the next request meets too
            return SAFE_REQUEST, SAFE_REQUEST
        # Behind the header of a WRITE: its kind, number, handle (256 bytes at most), offset and length
        longest = packet - 1024 if packet else LARGEST_REQUEST
        return _request_size(read, longest), _request_size(write, longest)

    def run(self, command: str) -> bytes:
        """Return the output of a command on the server; nothing where it refuses to run any."""
        return self._connection.run(command, self.deadline)

    def together(self) -> AbstractContextManager[None]:
        """Send the requests of a block together: at its end, or before anything is waited for in it."""
        return self._channel.together()

    def send_gathered(self) -> None:
        """Send the requests of such a block now: what follows takes its time."""
        self._channel.send_gathered()

    # --- requests about an open file ---

    def begin_read_into(self, handle: bytes, offset: int, length: int, landing: Landing) -> None:
        """Ask for a part of an open file; its data goes to `landing` as it arrives (section 6.4)."""
        self._channel.read(handle, offset, length, landing)

    def begin_write_from(self, handle: bytes, offset: int, length: int, source: Source) -> Future[Reply]:
        """Send a part of a local file, read when its turn comes, to the same place of an open one (section 6.4)."""
        return self._channel.write(handle, offset, length, source)

    def begin_read(self, handle: bytes, offset: int, length: int) -> Future[Reply]:
        """Ask for a part of an open file (section 6.4)."""
        return self._send(Kind.READ, string(handle) + struct.pack(">QI", offset, length))

    def begin_write(self, handle: bytes, offset: int, data: bytes) -> Future[Reply]:
        """Send a part of an open file (section 6.4)."""
        return self._send(Kind.WRITE, string(handle) + struct.pack(">Q", offset) + string(data))

    def begin_fstat(self, handle: bytes) -> Future[Reply]:
        """Ask for the attributes of an open file (section 6.8)."""
        return self._send(Kind.FSTAT, string(handle))

    def begin_fsetstat(self, handle: bytes, attributes: Attributes) -> Future[Reply]:
        """Set the attributes of an open file (section 6.9)."""
        return self._send(Kind.FSETSTAT, string(handle) + attributes.pack())

    def begin_fsync(self, handle: bytes) -> Future[Reply]:
        """Have an open file synced to the server's disk (OpenSSH PROTOCOL, section 4.5); see `offers_fsync`."""
        return self._send(Kind.EXTENDED, string(FSYNC.encode()) + string(handle))

    def begin_close(self, handle: bytes) -> Future[Reply]:
        """Close a file or directory (section 6.3)."""
        return self._send(Kind.CLOSE, string(handle))

    # --- requests about a path ---

    def begin_stat(self, path: str, *, with_next: bool = False) -> Future[Reply]:
        """Ask for the attributes of a path, links followed (section 6.8); with the next request, if that follows."""
        return self._channel.request(Kind.STAT, string(encode_path(path)), with_next=with_next)

    def begin_lstat(self, path: str) -> Future[Reply]:
        """Ask for the attributes of a path, links not followed (section 6.8)."""
        return self._send(Kind.LSTAT, string(encode_path(path)))

    def begin_real_path(self, path: str) -> Future[Reply]:
        """Ask for the server's own form of a path (section 6.11)."""
        return self._send(Kind.REALPATH, string(encode_path(path)))

    def begin_remove(self, path: str) -> Future[Reply]:
        """Remove a file or a link (section 6.5)."""
        return self._send(Kind.REMOVE, string(encode_path(path)))

    def begin_make_directory(self, path: str) -> Future[Reply]:
        """Make a directory (section 6.6)."""
        return self._send(Kind.MKDIR, string(encode_path(path)) + Attributes().pack())

    def begin_remove_directory(self, path: str) -> Future[Reply]:
        """Remove a directory, which has to be empty (section 6.6)."""
        return self._send(Kind.RMDIR, string(encode_path(path)))

    def begin_setstat(self, path: str, attributes: Attributes) -> Future[Reply]:
        """Set the attributes of a path (section 6.9)."""
        return self._send(Kind.SETSTAT, string(encode_path(path)) + attributes.pack())

    def begin_open(self, path: str, flags: int, attributes: Attributes) -> Future[Reply]:
        """Open a file, whether the server has a place for it or not (section 6.3): see `RemoteFiles.open`."""
        return self._send(Kind.OPEN, string(encode_path(path)) + struct.pack(">I", flags) + attributes.pack())


def _request_size(limit: int, longest: int) -> int:
    return max(SAFE_REQUEST, min(limit, longest, LARGEST_REQUEST)) if limit else SAFE_REQUEST
