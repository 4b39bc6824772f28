"""The session with one server: the public operations, raising `SFTPError`s, thread-safe, reconnecting by itself.

The operations are methods of three classes, by what they are about, each in a file of `_calls`. What an operation does
is below that: `_transfer` and `_folders` move files, `_files` has the server's files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._calls.calls import as_error_of
from iot.sftp.client._calls.directory_calls import DirectoryCalls
from iot.sftp.client._calls.file_calls import FileCalls
from iot.sftp.client._calls.folder_calls import FolderCalls

if TYPE_CHECKING:
    from types import TracebackType

    from iot.sftp.client._ssh.handshake import ServerInfo


class SFTPSession(FolderCalls, FileCalls, DirectoryCalls):
    """The operations of `IoTSFTPClient`, raising `SFTPError`s instead of returning `False`; thread-safe.

    The connection is opened by the first call that needs it, and again after it broke. An idempotent operation is
    retried after a break, with exponential backoff, within its deadline. Every method takes `timeout`: seconds for the
    whole call, `None` for no limit but those of `TimeLimits` for each step. In a `with` block, it is disconnected at
    its end.
    """

    def test_connection(self, *, learn: bool = False, timeout: float | None = None) -> ServerInfo:
        """Open another connection with these settings, beside the session's, and return what the server showed.

        Parameters:
            learn: remember the key that the server shows, in the place of the one that is remembered (never in that of
                a pinned one); that one stays if no key is shown.
            timeout: seconds.
        """
        deadline, factory = Deadline(timeout), self._live.factory
        try:
            connection = factory.open(deadline, factory.policy.learning() if learn else factory.policy)
        except Exception as error:
            raise as_error_of(error, "test_connection", None) from error
        info = connection.info
        connection.close()
        return info

    def __enter__(self) -> SFTPSession:
        """Return the session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.disconnect()
