"""Handles of a server's files and directories: opened once the server has a place for one more.

Servers limit how many files are open at a time, and most report that only by refusing one OPEN too many: see
`_ssh/open_files.py`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    Busy,
    ConnectionLost,
    PermissionDenied,
    SFTPError,
)
from iot.sftp.client._base.sftp_statuses import is_of_a_limit
from iot.sftp.client._base.steps import ALONE, finish
from iot.sftp.client._files.remote_requests import RemoteRequests
from iot.sftp.client._ssh.packets import Kind, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._ssh.open_files import Place
    from iot.sftp.client._ssh.requests import Reply

# Seconds for which an OPEN that was refused waits to be tried without any other file open: of a quick call, a transfer
ALONE_WITHIN = 3.0, 30.0
# Seconds of backoff while others, who are not of this session, have all places
LIMIT_PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 5.0, 5.0)


class RemoteHandles(RemoteRequests):
    """Opens what is at a path, and waits where the server has no place for it."""

    def _open_handle(self, kind: Kind, path: str, more: bytes = b"", *, waits_for_place: bool = True) -> bytes:
        """Open what is at a path; where the server has no place for it, wait until it has: see `_opening`."""
        return finish(self._opening(kind, path, more, waits_for_place=waits_for_place))

    def _opening(self, kind: Kind, path: str, more: bytes = b"", *, waits_for_place: bool = True) -> Steps[bytes]:
        """Open what is at a path, in steps; where the server has no place for it, wait until it has.

        Parameters:
            kind: OPEN or OPENDIR.
            path: of what is opened.
            more: fields behind the path.
            waits_for_place: wait after a refusal that may be because of other open files.
        """
        files, fields = self.traits.files, string(encode_path(path)) + more
        pauses, crowd = iter(LIMIT_PAUSES), 0
        place = files.take_free_place(self._channel, is_directory=kind == Kind.OPENDIR, is_quick=self._is_quick)
        if place is None:
            yield ALONE
            place = self._take_place(is_directory=kind == Kind.OPENDIR)
        while True:
            try:
                handle = yield from self._opening_in(place, kind, fields, path)
            except PermissionDenied as refusal:
                may_be_own = place.is_crowded or is_of_a_limit(refusal)
                if waits_for_place and may_be_own and (yield ALONE):
                    place.is_own_crowd = False  # what this thread had open beside it is closed by now
                if not waits_for_place or not files.may_be_of_limit(place, refusal):
                    raise
                crowd = place.others or crowd
                place = self._take_another_place(place, refusal, pauses)
            else:
                if place.is_alone:
                    files.learn(crowd)
                return handle

    def _take_place(self, *, is_directory: bool) -> Place:
        files = self.traits.files
        return files.take_place(self._channel, self.deadline, is_directory=is_directory, is_quick=self._is_quick)

    @property
    def _is_quick(self) -> bool:
        return self._channel is self._connection.quick

    def _take_another_place(self, refused: Place, refusal: SFTPError, pauses: Iterator[float]) -> Place:
        """Take the place that is needed to open a file, after the server has refused it beside others, as it seems.

        Raises:
            Busy: there is none to be had.
        """
        files = self.traits.files
        if not refused.others + refused.unclear:  # others than this session have what there is
            seconds = next(pauses, None)
            if seconds is None:
                message = f"others have as many files open as the server allows: {refusal.message}"
                raise Busy(message, path=refusal.path) from refusal
            self.deadline.pause(seconds)
            self.deadline.check()
        elif refused.is_own_crowd:
            message = f"the server does not let a further file be open beside this one: {refusal.message}"
            raise Busy(message, path=refusal.path) from refusal
        elif is_of_a_limit(refusal) and refused.others:
            files.learn(refused.others)
        else:
            seconds = ALONE_WITHIN[not self._is_quick]
            place = files.take_place_alone(refused, self.deadline, seconds)
            if place is not None:
                return place
        return self._take_place(is_directory=refused.is_directory)

    def _opening_in(self, place: Place, kind: Kind, fields: bytes, path: str) -> Steps[bytes]:
        future = self._channel.request(kind, fields, place)
        try:
            yield future
            return self.handle(future, path)
        except BaseException:
            # A handle that comes too late for its caller is closed.
            future.add_done_callback(self._close_late_handle)
            raise

    def _close_late_handle(self, future: Future[Reply]) -> None:
        if future.exception() is None and future.result().kind == Kind.HANDLE:
            with suppress(ConnectionLost):
                self.begin_close(future.result().fields.string())
