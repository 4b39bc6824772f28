"""A server that says what it was told to, whatever it is asked."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._ssh.channel import Reply
from iot.sftp.client._ssh.packets import Kind, Reader, string
from iot.sftp.client._ssh.server_traits import ServerTraits

if TYPE_CHECKING:
    from iot.sftp.client._ssh.open_files import Place

END = bytes([Kind.STATUS]) + (1).to_bytes(4, "big")  # SSH_FX_EOF, without words
LENGTH = 2  # bytes of the length before each answer


class Script:
    """Takes the place of a connection and its channel.

    Parameters:
        answers: each with its length before it: its type, and its fields without the request's number.
    """

    extensions: dict[str, bytes] = {}  # noqa: RUF012 - the server announces none

    def __init__(self, answers: bytes) -> None:
        """Begin at the first answer; behind the last there is the end of the file, again and again."""
        self._answers = answers
        self.traits = ServerTraits()
        self.quick = self

    def files(self) -> RemoteFiles:
        """Return the server's files."""
        return RemoteFiles(cast("Any", self), cast("Any", self), Deadline(None))

    def request(
        self, kind: Kind, _fields: bytes, place: Place | None = None, *, with_next: bool = False
    ) -> Future[Reply]:
        """Answer a request at once, whatever it is sent with; opening a directory goes well."""
        del with_next
        if place is not None:
            self.traits.files.refused(place)  # nothing that is open counts
        answer = bytes([Kind.HANDLE]) + string(b"handle") if kind == Kind.OPENDIR else self._next()
        future: Future[Reply] = Future()
        future.set_result(Reply(answer[0], Reader(answer[1:])))
        return future

    def together(self) -> AbstractContextManager[None]:
        """Take requests that are sent together like others."""
        return nullcontext()

    def wait(self, future: Future[Reply], _deadline: Deadline) -> Reply:
        """Return the answer."""
        return future.result()

    def _next(self) -> bytes:
        end = LENGTH + int.from_bytes(self._answers[:LENGTH], "big")
        answer, self._answers = self._answers[LENGTH:end], self._answers[end:]
        return answer or END
