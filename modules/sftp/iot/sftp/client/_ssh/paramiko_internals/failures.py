"""Exceptions that carry a reason through paramiko's thread, which treats an `SSHException` as expected."""

from __future__ import annotations

from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.errors import HostKeyMismatch, SFTPError
from iot.sftp.client._base.lower_layers import from_lower_layer


class ReasonError(SSHException):
    """Carries one of our errors."""

    def __init__(self, reason: SFTPError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class RefusedKeyError(ReasonError):
    """The server's host key is not accepted."""

    reason: HostKeyMismatch


class UnreadableError(SSHException):
    """The server sent something that is not SSH, in a way for which paramiko has no exception of its own."""


def reason_of(error: BaseException, ended_by: BaseException | None = None) -> SFTPError:
    """Return why a connection failed: a reason from paramiko's thread comes before what other threads saw of it.

    Parameters:
        error: what was seen.
        ended_by: what ended paramiko's thread, if it has ended.
    """
    for cause in (error, ended_by, error.__context__):
        if isinstance(cause, ReasonError):
            return cause.reason
    return from_lower_layer(error)
