"""SFTP requests to one server, over one channel and under one deadline: asking, waiting, and naming refusals.

Packets are put together here and in the three files above this one (`remote_handles`, `remote_queries` and
`remote_files`), and nowhere else. `begin_…` sends a request and returns the future of its answer; `wait`, `attributes`,
`data` and their relatives wait for it. Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import logging
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    HandleInUse,
    NotSFTP,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._base.sftp_statuses import SSH_FX_OK, StatusReply, from_status
from iot.sftp.client._ssh.packets import Attributes, Kind, Reader, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.channel import Landing, Reply, SFTPChannel, Source
    from iot.sftp.client._ssh.connection import Connection
    from iot.sftp.client._ssh.server_traits import ServerTraits

logger = logging.getLogger(__name__)

FSYNC = "fsync@openssh.com"
LIMITS = "limits@openssh.com"

# What every server of version 3 takes (section 3 demands packets of 34,000 bytes), and the least that is asked for: a
# server that announces less would have a file moved in millions of requests.
SAFE_REQUEST = 32 * 1024
LARGEST_REQUEST = 255 * 1024
MOST_IN_FLIGHT = 1024  # requests on a channel: OpenSSH's client has 64 by default, and 1,024 at most


class RemoteRequests:
    """Requests to a server, over one channel and under one deadline. Paths are as the server takes them."""

    def __init__(self, connection: Connection, channel: SFTPChannel, deadline: Deadline) -> None:
        """Use this channel of this connection until the deadline."""
        self._connection = connection
        self._channel = channel
        self.deadline = deadline

    # --- what is known of the server ---

    @property
    def traits(self) -> ServerTraits:
        """What is known of the server beyond what its protocol promises."""
        return self._connection.traits

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

    @property
    def has_room(self) -> bool:
        """Whether a further request may be sent for the sake of speed: no server keeps any number of them."""
        return self._channel.in_flight < MOST_IN_FLIGHT

    def request_sizes(self) -> tuple[int, int]:
        """Return the bytes to ask for in a READ and to send in a WRITE (OpenSSH PROTOCOL, section 4.8)."""
        if not self.offers(LIMITS):
            return SAFE_REQUEST, SAFE_REQUEST
        if self._channel.request_sizes is None:
            try:
                fields = self._extended(LIMITS, b"", "", Kind.EXTENDED_REPLY)
                packet, read, write = fields.uint64(), fields.uint64(), fields.uint64()
                # Behind the header of a WRITE: its kind, number, handle (256 bytes at most), offset and length
                longest = packet - 1024 if packet else LARGEST_REQUEST
                self._channel.request_sizes = _request_size(read, longest), _request_size(write, longest)
                if not fields.at_end():
                    self.traits.files.announce(fields.uint64())
            except DeadlineExceeded:
                raise
            except SFTPError:  # this is about speed only: whatever else is wrong, the next request meets too
                self._channel.request_sizes = SAFE_REQUEST, SAFE_REQUEST
        return self._channel.request_sizes

    def run(self, command: str) -> bytes:
        """Return the output of a command on the server; nothing where it refuses to run any."""
        return self._connection.run(command, self.deadline)

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

    def begin_stat(self, path: str) -> Future[Reply]:
        """Ask for the attributes of a path, links followed (section 6.8)."""
        return self._send(Kind.STAT, string(encode_path(path)))

    def begin_lstat(self, path: str) -> Future[Reply]:
        """Ask for the attributes of a path, links not followed (section 6.8)."""
        return self._send(Kind.LSTAT, string(encode_path(path)))

    def begin_setstat(self, path: str, attributes: Attributes) -> Future[Reply]:
        """Set the attributes of a path (section 6.9)."""
        return self._send(Kind.SETSTAT, string(encode_path(path)) + attributes.pack())

    def begin_open(self, path: str, flags: int, attributes: Attributes) -> Future[Reply]:
        """Open a file, whether the server has a place for it or not (section 6.3): see `RemoteFiles.open`."""
        return self._send(Kind.OPEN, string(encode_path(path)) + struct.pack(">I", flags) + attributes.pack())

    # --- answers ---

    def wait_until(self, ready: Callable[[float], bool]) -> None:
        """Wait for what the server owes; `ready` waits for so many seconds at most, and returns whether it is there."""
        self._connection.wait_until(ready, self.deadline)

    def reason(self, error: SFTPError) -> SFTPError:
        """Return the reason behind an error of a request: the connection knows best what ended it."""
        return self._connection.lost(error) if isinstance(error, ConnectionLost) else error

    def wait(self, future: Future[Reply], path: str) -> None:
        """Wait until a request was carried out, and give a refusal its name."""
        self._fields(future, path)

    def attributes(self, future: Future[Reply], path: str) -> Attributes:
        """Wait for attributes, and give a refusal its name."""
        return self._fields(future, path, Kind.ATTRS).attributes()

    def attributes_if_told(self, future: Future[Reply], path: str) -> Attributes | None:
        """Wait for attributes; `None` where the server refuses them, with whatever status."""
        try:
            return self.attributes(future, path)
        except (ConnectionLost, DeadlineExceeded, HandleInUse):
            raise
        except SFTPError as error:
            logger.debug("The server does not report the attributes of %r: %s", path, error.message)
            return None

    def handle(self, future: Future[Reply], path: str) -> bytes:
        """Wait for the handle of an opened file, and give a refusal its name."""
        return self._fields(future, path, Kind.HANDLE).string()

    def data(self, future: Future[Reply], path: str) -> bytes:
        """Wait for the data of a READ, and give a refusal its name.

        Raises:
            EndOfFile: there is no more.
        """
        return self._fields(future, path, Kind.DATA).string()

    def data_if_readable(self, future: Future[Reply], path: str) -> bytes:
        """Wait for data as `data` does; OK in its place is a refusal: rclone's, of a file that is open for both."""
        reply = self._reply(future)
        if reply.kind != Kind.STATUS:
            return self.accept(reply, path, Kind.DATA).string()
        self.accept(reply, path)  # raises every status but OK
        message = "the server lets nobody read this file back"
        raise Unsupported(message, path=path)

    def raise_without_data(self, reply: Reply, path: str, *, may_end: bool) -> None:
        """Raise what an answer to READ means that brought no data; return if it is the end of the file.

        Parameters:
            reply: the answer.
            path: of the file.
            may_end: whether the file is known to end there: then OK means the end as well as EOF does.
        """
        with suppress(EndOfFile):
            if reply.kind == Kind.STATUS and may_end:
                self.accept(reply, path)
                return
            self.accept(reply, path, Kind.DATA)
            message = "the server's answer to a READ is not SFTP: its lengths contradict each other"
            raise ConnectionLost(message)

    def accept(self, reply: Reply, path: str, due: Kind = Kind.STATUS) -> Reader:
        """Return the fields of an answer of the kind that is due, and give a refusal its name."""
        kind, fields = reply
        if kind == Kind.STATUS:
            status = fields.uint32()
            # Some servers leave out the text, which version 3 demands.
            text = "" if fields.at_end() else fields.string().decode("utf-8", "replace")
            if status != SSH_FX_OK:
                raise from_status(StatusReply(status, text), path)
        if kind != due:
            message = f"the server's answer is not SFTP: packet type {kind} where {due.name} was due"
            raise NotSFTP(message)
        return fields

    def _send(self, kind: Kind, fields: bytes) -> Future[Reply]:
        return self._channel.request(kind, fields)

    def _reply(self, future: Future[Reply]) -> Reply:
        return self._connection.wait(future, self.deadline)

    def _fields(self, future: Future[Reply], path: str, due: Kind = Kind.STATUS) -> Reader:
        return self.accept(self._reply(future), path, due)

    def _ask(self, kind: Kind, path: str, more: bytes = b"", due: Kind = Kind.STATUS) -> Reader:
        return self._fields(self._send(kind, string(encode_path(path)) + more), path, due)

    def _extended(self, name: str, fields: bytes, path: str, due: Kind = Kind.STATUS) -> Reader:
        """Ask for an extension (section 8), and return the fields of the answer."""
        return self._fields(self._send(Kind.EXTENDED, string(name.encode()) + fields), path, due)


def _request_size(limit: int, longest: int) -> int:
    return max(SAFE_REQUEST, min(limit, longest, LARGEST_REQUEST)) if limit else SAFE_REQUEST
