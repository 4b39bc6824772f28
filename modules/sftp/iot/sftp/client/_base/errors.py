"""The errors: one class for each reason why an operation failed, and what each reason implies.

    SFTPError
     ├─ RequestError                    the call cannot be carried out as it is
     │   ├─ InvalidRequest              invalid_request
     │   ├─ UnknownMethod               unknown_method
     │   ├─ PathNotAllowed              path_not_allowed
     │   └─ TooLarge                    too_large
     ├─ DeadlineExceeded                deadline_exceeded
     │   └─ Cancelled
     ├─ FileError                       one file or directory, local or remote
     │   ├─ NotFound                    not_found
     │   ├─ PermissionDenied            permission_denied
     │   ├─ IsADirectory                is_a_directory
     │   ├─ NotADirectory               not_a_directory
     │   ├─ NotEmpty                    not_empty
     │   ├─ AlreadyExists               already_exists
     │   └─ TransferIncomplete          transfer_incomplete
     │       └─ EndOfFile
     ├─ TransportError                  there is no connection to the server
     │   ├─ NotConfigured               not_configured
     │   ├─ Unreachable                 unreachable
     │   ├─ CredentialError             one side does not accept who the other one is
     │   │   ├─ AuthenticationFailed    authentication_failed
     │   │   └─ HostKeyMismatch         host_key_mismatch
     │   └─ ConnectionLost              connection_lost
     │       ├─ NotSFTP
     │       ├─ OutcomeUnknown
     │       └─ ServerBusy
     ├─ Unsupported                     unsupported
     ├─ ResourceError                   something is used up or in use
     │   ├─ NoSpace                     no_space
     │   └─ Busy                        busy
     │       ├─ HandleInUse
     │       └─ LocalBusy
     └─ Internal                        internal

A class with a code is a reason that callers see; `error_for_code` finds it again from the code. The classes below it
have the same code and tell this package more. The classes above it have no code of their own: they are there to be
caught, and are never raised themselves.

What an error implies is asked of its class, never looked up in lists of classes: `fault` (where the cause is),
`retry` (whether and when to try again), `scope` (what else fails for the same reason) and `leaves_doubt` (whether the
operation may have been carried out all the same). Upper layers add what is theirs: the module has the HTTP statuses.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fault(Enum):
    """Where the cause of an error is, and so who can do something about it.

    Attributes:
        FILE: in one file or directory, local or remote.
        CALL: in what the caller asked for, or in the time that the caller allowed.
        CONNECTION: on the way to the server: the network, the address, the credential, the host key, the settings.
        SERVER: in the server, or the file system, which does not offer what is needed.
        DEVICE: in this device: memory, queues, disks (those of the server as well), or a bug in this software.
    """

    FILE = "file"
    CALL = "call"
    CONNECTION = "connection"
    SERVER = "server"
    DEVICE = "device"


class Retry(Enum):
    """Whether and when the same operation is tried again.

    Attributes:
        NEVER: it would fail again: something has to be changed first.
        BY_CALLER: not by itself; the caller may call again, and resumes what can be resumed.
        LATER: by a task or a rule after a pause (exponential backoff), not within the call.
        WHEN_REACHABLE: by a task or a rule as soon as the server can be reached; until then everything waits.
        AFTER_PAUSE: within the call after a pause, over the same connection; then as `LATER`.
        AFTER_RECONNECT: within the call after a pause, over a new connection; then as `LATER`.
        AT_ONCE: within the call, without a pause: its cause is avoided from then on.
    """

    NEVER = "never"
    BY_CALLER = "by the caller"
    LATER = "later"
    WHEN_REACHABLE = "when the server is reachable"
    AFTER_PAUSE = "after a pause"
    AFTER_RECONNECT = "after a reconnect"
    AT_ONCE = "at once"

    @property
    def is_automatic(self) -> bool:
        """Whether a task or a rule retries without being asked to."""
        return self not in {Retry.NEVER, Retry.BY_CALLER}

    @property
    def is_within_call(self) -> bool:
        """Whether the same call retries, as long as its deadline allows."""
        return self in {Retry.AFTER_PAUSE, Retry.AFTER_RECONNECT, Retry.AT_ONCE}


class Scope(Enum):
    """What else fails for the same reason, where a call is about many files.

    Attributes:
        FILE: nothing: the other files go on.
        FOLDER: everything that is listed or written in the same place.
        CALL: everything that is left of the call.
    """

    FILE = "file"
    FOLDER = "folder"
    CALL = "call"


class StatusReply(NamedTuple):
    """A status that is not OK (draft-ietf-secsh-filexfer-02, section 7).

    Attributes:
        status: the server's code.
        words: the server's text.
    """

    status: int
    words: str


class SFTPError(Exception):
    """Report why an operation failed.

    Attributes:
        code: the stable name of the reason, for programs.
        fault: where the cause is.
        retry: whether and when to try again.
        scope: what else fails for the same reason.
        leaves_doubt: whether the operation, or a part of it, may have been carried out all the same.
        operation: the operation that failed (`"download_file"`), or `None`.
        path: the path that it was about, as the caller gave it, or `None`.
        message: what happened and what to do about it, for people. Never holds a secret.
        attempts: how often it was tried; attempts to connect count too.
    """

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = Fault.DEVICE
    retry: ClassVar[Retry] = Retry.NEVER
    scope: ClassVar[Scope] = Scope.FILE
    leaves_doubt: ClassVar[bool] = False

    reply: StatusReply | None = None  # the refusal of the server that it was made of, for the layers just above

    def __init__(self, message: str, *, operation: str | None = None, path: str | None = None) -> None:
        """Store the message for people, and the operation and the path where they are known."""
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.path = path
        self.attempts = 1

    def __str__(self) -> str:
        """Return operation, path and message in one line."""
        subject = " ".join(
            part for part in (self.operation, repr(self.path) if self.path is not None else None) if part
        )
        return f"{subject}: {self.message}" if subject else self.message


def error_classes(base: type[SFTPError] = SFTPError) -> Iterator[type[SFTPError]]:
    """Give a class and all classes below it, in the order of the tree."""
    yield base
    for child in base.__subclasses__():
        yield from error_classes(child)


def error_for_code(code: str) -> type[SFTPError]:
    """Return the class that a code names, to ask it what it implies; `Internal` for a code of another version."""
    named = (error for error in error_classes() if error is not SFTPError and vars(error).get("code", "") == code)
    return next(named, Internal)


# --- the call --------------------------------------------------------------------------------------------------------


class RequestError(SFTPError):
    """The call cannot be carried out as it is: change it."""

    fault = Fault.CALL


class InvalidRequest(RequestError):
    """A request that cannot be understood: not an object, a key missing, unknown or of the wrong type."""

    code = "invalid_request"


class UnknownMethod(RequestError):
    """No method has that name; the message lists the methods."""

    code = "unknown_method"


class PathNotAllowed(RequestError):
    """A path outside what may be touched, by `..`, an absolute path or a symbolic link; or a NUL byte in it."""

    code = "path_not_allowed"


class TooLarge(RequestError):
    """The answer is larger than a response may be: ask for a page of a listing, download a file."""

    code = "too_large"
    scope = Scope.FOLDER


class DeadlineExceeded(SFTPError):
    """The time limit of the call ran out."""

    code = "deadline_exceeded"
    fault, retry, scope, leaves_doubt = Fault.CALL, Retry.BY_CALLER, Scope.CALL, True


class Cancelled(DeadlineExceeded):
    """The caller ended the call before its time."""


# --- one file --------------------------------------------------------------------------------------------------------


class FileError(SFTPError):
    """One file or directory cannot be read, written or found, local or remote; others are not affected."""

    fault = Fault.FILE


class NotFound(FileError):
    """The source, the path or its parent is not there."""

    code = "not_found"


class PermissionDenied(FileError):
    """The server or the local file system refused."""

    code = "permission_denied"


class IsADirectory(FileError):
    """A file was needed, a directory is there."""

    code = "is_a_directory"


class NotADirectory(FileError):
    """A directory was needed, something else is there."""

    code = "not_a_directory"


class NotEmpty(FileError):
    """The directory was to be deleted as an empty one, and there is something in it."""

    code = "not_empty"


class AlreadyExists(FileError):
    """The destination must not be there, and something is: nothing was replaced."""

    code = "already_exists"


class TransferIncomplete(FileError):
    """Sizes or hashes differ after the transfer; the old destination is intact."""

    code = "transfer_incomplete"
    retry, leaves_doubt = Retry.LATER, True


class EndOfFile(TransferIncomplete):
    """The server has no more bytes, or no more names. Never reaches a caller: the reader knows what it means."""


# --- the way to the server -------------------------------------------------------------------------------------------


class TransportError(SFTPError):
    """There is no connection to the server, or no longer: whatever needs one fails until there is one again."""

    fault, retry, scope = Fault.CONNECTION, Retry.WHEN_REACHABLE, Scope.CALL


class NotConfigured(TransportError):
    """There are no settings yet; the message says what is missing."""

    code = "not_configured"


class Unreachable(TransportError):
    """No connection to the server: DNS, refused, reset, no route, no answer."""

    code = "unreachable"


class CredentialError(TransportError):
    """One side does not accept who the other one is: somebody has to look at the credential or the host key."""


class AuthenticationFailed(CredentialError):
    """The server refused the credential, or a key or passphrase is unusable."""

    code = "authentication_failed"


class HostKeyMismatch(CredentialError):
    """The server's key is not the pinned or remembered one; nothing was sent to it."""

    code = "host_key_mismatch"


class ConnectionLost(TransportError):
    """The session broke during the operation, and retries did not help within the deadline."""

    code = "connection_lost"
    retry, leaves_doubt = Retry.AFTER_RECONNECT, True


class NotSFTP(ConnectionLost):
    """The server's answer breaks the protocol. The same request would get the same answer: it is not repeated."""

    retry = Retry.NEVER


class OutcomeUnknown(ConnectionLost):
    """An answer was lost, and what is on the server does not show whether the request was carried out."""

    retry = Retry.NEVER


class ServerBusy(ConnectionLost):
    """The server rejects new connections for now, and says so: retried within the deadline."""


# --- the server ------------------------------------------------------------------------------------------------------


class Unsupported(SFTPError):
    """The server does not offer what was asked for, or no algorithm that this client has."""

    code = "unsupported"
    fault = Fault.SERVER


# --- the device ------------------------------------------------------------------------------------------------------


class ResourceError(SFTPError):
    """Something that the operation needs is used up or in use."""

    fault = Fault.DEVICE


class NoSpace(ResourceError):
    """A disk or a quota is full, local or remote."""

    code = "no_space"
    scope = Scope.FOLDER


class Busy(ResourceError):
    """The queue is full, another transfer writes this destination, or other calls take all memory: try again later."""

    code = "busy"
    retry = Retry.LATER


class HandleInUse(Busy):
    """The server returned a handle that is in use: the bytes of either of the two files prove nothing.

    Never reaches a caller: what was open is opened again, one file at a time.
    """

    retry = Retry.AT_ONCE


class LocalBusy(Busy):
    """The local system cannot do this at the moment: often transient, and retried for a while."""

    retry = Retry.AFTER_PAUSE


class Internal(SFTPError):
    """A bug in this software; the log has the trace."""

    code = "internal"
    fault, scope, leaves_doubt = Fault.DEVICE, Scope.CALL, True
