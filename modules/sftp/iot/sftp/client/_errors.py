"""Every reason why an operation did not happen: one class each, under one base.

    SFTPError
     ├─ InvalidRequest        400  invalid_request
     ├─ PathNotAllowed        400  path_not_allowed
     ├─ AuthenticationFailed  401  authentication_failed
     ├─ PermissionDenied      403  permission_denied
     ├─ NotFound              404  not_found
     ├─ UnknownMethod         404  unknown_method
     ├─ IsADirectory          409  is_a_directory
     ├─ NotADirectory         409  not_a_directory
     ├─ TooLarge              413  too_large
     ├─ Busy                  429  busy
     ├─ Internal              500  internal
     ├─ HostKeyMismatch       502  host_key_mismatch
     ├─ TransferIncomplete    502  transfer_incomplete
     ├─ Unsupported           502  unsupported
     ├─ NotConfigured         503  not_configured
     ├─ Unreachable           503  unreachable
     ├─ ConnectionLost        503  connection_lost
     ├─ DeadlineExceeded      504  deadline_exceeded
     └─ NoSpace               507  no_space

`status` is the HTTP status code that says the same (RFC 9110, section 15; 507 from RFC 4918), for callers that
answer requests.
"""

from __future__ import annotations

from typing import ClassVar


class SFTPError(Exception):
    """Why an operation did not happen.

    Attributes:
        code: the stable name of the reason, for programs.
        status: the HTTP status code that says the same.
        operation: the operation that did not happen (`"download_file"`), or `None`.
        path: the path that it was about, as the caller gave it, or `None`.
        message: what happened and what to do about it, for people. Never holds a secret.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, operation: str | None = None, path: str | None = None) -> None:
        """Take the message for people, and the operation and path that it is about where they are known."""
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.path = path

    def __str__(self) -> str:
        """Operation, path and message in one line."""
        subject = " ".join(part for part in (self.operation, repr(self.path) if self.path is not None else None) if part)
        return f"{subject}: {self.message}" if subject else self.message


class InvalidRequest(SFTPError):
    """A request that cannot be understood: not an object, a key missing, unknown or of the wrong type."""

    code, status = "invalid_request", 400


class PathNotAllowed(SFTPError):
    """A path outside what may be touched, by `..`, an absolute path or a symbolic link; or a NUL byte in it."""

    code, status = "path_not_allowed", 400


class AuthenticationFailed(SFTPError):
    """The server refused the credential, or a key or passphrase is unusable."""

    code, status = "authentication_failed", 401


class PermissionDenied(SFTPError):
    """The server or the local file system refused."""

    code, status = "permission_denied", 403


class NotFound(SFTPError):
    """The source, the path or its parent is not there."""

    code, status = "not_found", 404


class UnknownMethod(SFTPError):
    """No method has that name; the message lists the methods."""

    code, status = "unknown_method", 404


class IsADirectory(SFTPError):
    """A file was needed, a directory is there."""

    code, status = "is_a_directory", 409


class NotADirectory(SFTPError):
    """A directory was needed, something else is there."""

    code, status = "not_a_directory", 409


class TooLarge(SFTPError):
    """The answer is larger than a response may be: ask for a page of it."""

    code, status = "too_large", 413


class Busy(SFTPError):
    """The queue is full, or another transfer is writing the same destination: try again later."""

    code, status = "busy", 429


class Internal(SFTPError):
    """A defect of this software; the log has the trace."""

    code, status = "internal", 500


class HostKeyMismatch(SFTPError):
    """The server's key is not the pinned or remembered one; nothing was sent to it."""

    code, status = "host_key_mismatch", 502


class TransferIncomplete(SFTPError):
    """Sizes or hashes differ after the transfer; the old destination is intact."""

    code, status = "transfer_incomplete", 502


class Unsupported(SFTPError):
    """The server does not offer what was asked for, or speaks only algorithms that are no longer accepted."""

    code, status = "unsupported", 502


class NotConfigured(SFTPError):
    """There are no settings yet; the message says what is missing."""

    code, status = "not_configured", 503


class Unreachable(SFTPError):
    """No connection to the server: DNS, refused, reset, no route, no answer."""

    code, status = "unreachable", 503


class ConnectionLost(SFTPError):
    """The session broke during the operation, and retries did not help within the deadline."""

    code, status = "connection_lost", 503


class DeadlineExceeded(SFTPError):
    """The time that the caller gave ran out."""

    code, status = "deadline_exceeded", 504


class NoSpace(SFTPError):
    """Disk or quota full, local or remote."""

    code, status = "no_space", 507
