"""Answers of one server, over one channel and under one deadline: waiting for them, and naming refusals.

Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    HandleInUse,
    NotSFTP,
    SFTPError,
    StatusReply,
    Unsupported,
)
from iot.sftp.client._base.sftp_statuses import SSH_FX_OK, from_status
from iot.sftp.client._ssh.packets import Attributes, Kind, Reader, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.channel import SFTPChannel
    from iot.sftp.client._ssh.connection import Connection
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._ssh.server_traits import ServerTraits

logger = logging.getLogger(__name__)


class RemoteAnswers:
    """Answers of a server, over one channel and under one deadline."""

    def __init__(self, connection: Connection, channel: SFTPChannel, deadline: Deadline) -> None:
        """Use this channel of this connection until the deadline."""
        self._connection = connection
        self._channel = channel
        self.deadline = deadline

    @property
    def traits(self) -> ServerTraits:
        """What is known of the server beyond what its protocol promises."""
        return self._connection.traits

    @property
    def is_connected(self) -> bool:
        """Whether the connection has not been seen to break."""
        return self._connection.alive

    def wait_until(self, ready: Callable[[float], bool]) -> None:
        """Wait for what the server owes; `ready` waits for so many seconds at most, and returns whether it is there."""
        self._channel.send_gathered()
        self._connection.wait_until(ready, self.deadline)

    def reason(self, error: SFTPError) -> SFTPError:
        """Return the reason behind an error of a request: the connection knows best what ended it."""
        return self._connection.lost(error) if isinstance(error, ConnectionLost) else error

    def wait(self, future: Future[Reply], path: str) -> None:
        """Wait until a request was carried out, and give a refusal its name."""
        self._fields(future, path)

    def wait_for_any_answer(self, future: Future[Reply]) -> None:
        """Wait until a request was answered, also by a refusal."""
        self._reply(future)

    def attributes(self, future: Future[Reply], path: str) -> Attributes:
        """Wait for attributes, and give a refusal its name."""
        return self._fields(future, path, Kind.ATTRS).attributes()

    def attributes_if_reported(self, future: Future[Reply], path: str) -> Attributes | None:
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
            if status != SSH_FX_OK:
                # Some servers leave out the text, which version 3 demands.
                text = "" if fields.at_end() else fields.string().decode("utf-8", "replace")
                raise from_status(StatusReply(status, text), path)
        if kind != due:
            message = f"the server's answer is not SFTP: packet type {kind} where {due.name} was due"
            raise NotSFTP(message)
        return fields

    def _send(self, kind: Kind, fields: bytes) -> Future[Reply]:
        return self._channel.request(kind, fields)

    def _reply(self, future: Future[Reply]) -> Reply:
        if not future.done():
            self._channel.send_gathered()
        return self._connection.wait(future, self.deadline)

    def _fields(self, future: Future[Reply], path: str, due: Kind = Kind.STATUS) -> Reader:
        return self.accept(self._reply(future), path, due)

    def _ask(self, kind: Kind, path: str, more: bytes = b"", due: Kind = Kind.STATUS) -> Reader:
        return self._fields(self._send(kind, string(encode_path(path)) + more), path, due)

    def _extended(self, name: str, fields: bytes, path: str, due: Kind = Kind.STATUS) -> Reader:
        """Ask for an extension (section 8), and return the fields of the answer."""
        return self._fields(self._send(Kind.EXTENDED, string(name.encode()) + fields), path, due)
