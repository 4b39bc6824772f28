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

import errno
import socket
import struct
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

import paramiko
from cryptography import exceptions as cryptography_exceptions
from paramiko.ber import BERException
from paramiko.buffered_pipe import PipeTimeout
from paramiko.hostkeys import InvalidHostKey
from paramiko.packet import NeedRekeyException
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    BadHostKeyException,
    ConfigParseError,
    CouldNotCanonicalize,
    IncompatiblePeer,
    MessageOrderError,
    NoValidConnectionsError,
    PartialAuthentication,
    PasswordRequiredException,
    UnableToAuthenticate,
)

from iot.sftp.client._base.pysftp import pysftp

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
        """Whether a task or a rule tries again without being asked to."""
        return self not in {Retry.NEVER, Retry.BY_CALLER}

    @property
    def is_within_call(self) -> bool:
        """Whether the same call tries again, as long as its deadline allows."""
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

    reply: StatusReply | None = None  # the server's refusal that it was made of, where it is fresh

    def __init__(self, message: str, *, operation: str | None = None, path: str | None = None) -> None:
        """Take the message for people, and the operation and path that it is about where they are known."""
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.path = path
        self.attempts = 1

    def __str__(self) -> str:
        """Operation, path and message in one line."""
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
    named = (error for error in error_classes() if error is not SFTPError and vars(error).get("code") == code)
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
    """The answer is larger than a response may be: ask for a page of it."""

    code = "too_large"
    scope = Scope.FOLDER


class DeadlineExceeded(SFTPError):
    """The time that the caller gave ran out."""

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
    """An answer was lost, and what is there now does not tell whether the request was carried out."""

    retry = Retry.NEVER


class ServerBusy(ConnectionLost):
    """The server turns new connections away for now, and says so: it is asked again, within the deadline."""


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
    """Disk or quota full, local or remote."""

    code = "no_space"
    scope = Scope.FOLDER


class Busy(ResourceError):
    """The queue is full, another transfer writes this destination, or other calls take all memory: try again later."""

    code = "busy"
    retry = Retry.LATER


class HandleInUse(Busy):
    """The server gave out a handle that is in use: what was moved over either of the two files proves nothing.

    Never reaches a caller: what was open is opened again, one file at a time.
    """

    retry = Retry.AT_ONCE


class LocalBusy(Busy):
    """The local system cannot serve this at the moment: what often passes, and is tried again for a while."""

    retry = Retry.AFTER_PAUSE


class Internal(SFTPError):
    """A bug in this software; the log has the trace."""

    code = "internal"
    fault, scope, leaves_doubt = Fault.DEVICE, Scope.CALL, True


# --- local file system -----------------------------------------------------------------------------------------------

_REFUSED = (PermissionDenied, "the local file system refused: check the owner and the permissions")
_NO_DEVICE = (NotFound, "the local disk or the network mount is not there: check that it is connected and mounted")
_BAD_NAME = (PathNotAllowed, "the local file system does not take a name like this")
_NOT_OFFERED = (Unsupported, "the local file system does not offer this operation")
_TOO_FEW = (LocalBusy, "this process or the system has too few resources free at the moment")
_NETWORK_MOUNT = (LocalBusy, "the local path is on a network mount that does not answer: check its server")

# By the words of errno(3); `errno` lacks some names on some systems. `tests/client/base/test_errors.py` walks all
# numbers that the system knows. What is `LocalBusy` often passes by itself, and is tried again before it is told.
_LOCAL_REASONS_BY_NAME: dict[str, tuple[type[SFTPError], str]] = {
    "ENOENT": (NotFound, "there is no such local file or directory"),
    "EACCES": _REFUSED,
    "EPERM": _REFUSED,
    "EROFS": (PermissionDenied, "the local file system is read-only"),
    "EISDIR": (IsADirectory, "this is a local directory: name a file in it"),
    "ENOTEMPTY": (IsADirectory, "this is a local directory that is not empty"),
    "ENOTDIR": (NotADirectory, "a part of this local path is a file, not a directory"),
    "EEXIST": (NotADirectory, "a part of this local path is a file, not a directory"),
    # What has to be given up, or given more room
    "ENOSPC": (NoSpace, "the local disk is full"),
    "EDQUOT": (NoSpace, "the local disk quota is used up"),
    "EFBIG": (NoSpace, "the file is larger than the local file system, or the limit of this process, allows"),
    "EMLINK": (NoSpace, "the local directory, or the file, has as many links as the file system takes"),
    "EXFULL": (NoSpace, "the local disk is full"),
    # Names and paths
    "ELOOP": (PathNotAllowed, "the local path leads through a symbolic link that may not be followed"),
    "ENAMETOOLONG": (PathNotAllowed, "the local path or a name in it is too long"),
    "EILSEQ": _BAD_NAME,
    "EINVAL": (Unsupported, "the local file system does not take this: the name may hold a character that it forbids"),
    # What passes
    "EMFILE": (LocalBusy, "this process has too many files open: allow it more (ulimit -n), or less concurrency"),
    "ENFILE": (LocalBusy, "the system has too many files open"),
    "ENOMEM": (LocalBusy, "the system is out of memory at the moment"),
    "ENOBUFS": _TOO_FEW,
    "EAGAIN": _TOO_FEW,
    "ENOLCK": _TOO_FEW,
    "EUSERS": _TOO_FEW,
    "EINTR": (LocalBusy, "the local file system was interrupted"),
    "EBUSY": (LocalBusy, "the local file or directory is in use: it may be a mount point"),
    "ETXTBSY": (LocalBusy, "the local file is a program that is running"),
    "EDEADLK": (LocalBusy, "the local file is locked by another process"),
    "EIO": (LocalBusy, "the local disk could not read or write: if that stays, check the disk and the kernel's log"),
    "ESTALE": (LocalBusy, "the network mount has lost the local file or directory (stale file handle)"),
    "EREMOTEIO": _NETWORK_MOUNT,
    "ENOTCONN": (LocalBusy, "the local path is on a mount that has lost its connection: mount it anew"),
    "ENOLINK": _NETWORK_MOUNT,
    "ECOMM": _NETWORK_MOUNT,
    "EHOSTDOWN": _NETWORK_MOUNT,
    "ETIMEDOUT": _NETWORK_MOUNT,
    # What is not there, or is damaged
    "ENODEV": _NO_DEVICE,
    "ENXIO": _NO_DEVICE,
    "ENOMEDIUM": _NO_DEVICE,
    "EMEDIUMTYPE": _NO_DEVICE,
    "EUCLEAN": (Unsupported, "the local file system is damaged: check it (fsck)"),
    "EBADMSG": (Unsupported, "the local file system is damaged: check it (fsck)"),
    # What cannot be
    "EXDEV": (Unsupported, "the two local paths are on different file systems or mounts"),
    "ENOTSUP": _NOT_OFFERED,
    "EOPNOTSUPP": _NOT_OFFERED,
    "ENOSYS": _NOT_OFFERED,
    "ENOTTY": _NOT_OFFERED,
    "EOVERFLOW": (Unsupported, "the size or the time of the local file is too large for this system"),
    "ERANGE": (Unsupported, "the size or the time of the local file is out of range for the file system"),
    "ENOKEY": (Unsupported, "the local directory is encrypted, and its key is not loaded"),
    "EKEYEXPIRED": (Unsupported, "the local directory is encrypted, and its key has expired"),
    "EKEYREVOKED": (Unsupported, "the local directory is encrypted, and its key was revoked"),
    "EKEYREJECTED": (Unsupported, "the local directory is encrypted, and its key was refused"),
}
LOCAL_REASONS: dict[int, tuple[type[SFTPError], str]] = {
    getattr(errno, name): reason for name, reason in _LOCAL_REASONS_BY_NAME.items() if hasattr(errno, name)
}


def from_os_error(error: OSError, path: str | None = None) -> SFTPError:
    """Give a failure of the local file system its name."""
    if error.errno in LOCAL_REASONS:
        reason, message = LOCAL_REASONS[error.errno]
        return reason(message, path=path)
    return Unsupported(f"the local file system failed ({error.strerror or 'no reason given'})", path=path)


# --- the server's answers --------------------------------------------------------------------------------------------

# Status codes 2 to 8 are those of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 7). Servers of later versions
# send their own codes to clients of version 3 as well (draft-ietf-secsh-filexfer-13, section 9.1).
SSH_FX_OK, SSH_FX_EOF, SSH_FX_NO_SUCH_FILE, SSH_FX_PERMISSION_DENIED, SSH_FX_FAILURE = range(5)
SSH_FX_OP_UNSUPPORTED = 8

STATUS_REASONS: dict[int, tuple[type[SFTPError], str]] = {
    SSH_FX_EOF: (EndOfFile, "the server ended the answer too early"),
    SSH_FX_NO_SUCH_FILE: (NotFound, "there is no such file or directory on the server"),
    SSH_FX_PERMISSION_DENIED: (PermissionDenied, "the server refused: ask its administrator for the permission"),
    SSH_FX_FAILURE: (PermissionDenied, "the server refused without a reason that we know"),
    5: (PermissionDenied, "the server refused the request as malformed: the name may be too long for it"),
    6: (ConnectionLost, "the server has no connection to its storage"),
    7: (ConnectionLost, "the server lost the connection to its storage"),
    SSH_FX_OP_UNSUPPORTED: (Unsupported, "the server does not offer this operation"),
    10: (NotFound, "there is no such directory on the server"),
    11: (PermissionDenied, "the server refused: the name is taken"),
    12: (PermissionDenied, "the server's storage is write-protected"),
    13: (PermissionDenied, "the server's storage holds no medium"),
    14: (NoSpace, "the server's disk is full"),
    15: (NoSpace, "the quota on the server is used up"),
    17: (PermissionDenied, "the server refused: somebody else holds a lock on the file"),
    19: (NotADirectory, "a part of this path is a file on the server, not a directory"),
    20: (PathNotAllowed, "the server does not accept this file name"),
    24: (IsADirectory, "this is a directory on the server: name a file in it"),
}

_NOT_THERE = (NotFound, "there is no such file or directory on the server")
_NO_DIRECTORY = (NotADirectory, "a part of this path is a file on the server, not a directory")
_A_DIRECTORY = (IsADirectory, "this is a directory on the server: name a file in it")
_DISK_FULL = (NoSpace, "the server's disk is full")
_QUOTA = (NoSpace, "the quota on the server is used up")

# What servers say with FAILURE, the only status of version 3 for all of these: POSIX's texts (strerror) and names
# (errno.h), Windows' texts, and those of object stores. The first that fits counts.
WORDS_REASONS: tuple[tuple[str, tuple[type[SFTPError], str]], ...] = (
    ("no space", _DISK_FULL),
    ("disk full", _DISK_FULL),
    ("disk is full", _DISK_FULL),
    ("enough space", _DISK_FULL),  # "There is not enough space on the disk", ERROR_DISK_FULL
    ("insufficient space", _DISK_FULL),
    ("insufficient storage", _DISK_FULL),
    ("enospc", _DISK_FULL),
    ("quota", _QUOTA),
    ("edquot", _QUOTA),
    ("not a directory", _NO_DIRECTORY),
    ("enotdir", _NO_DIRECTORY),
    ("directory name is invalid", _NO_DIRECTORY),  # ERROR_DIRECTORY
    ("is a directory", _A_DIRECTORY),
    ("eisdir", _A_DIRECTORY),
    ("no such file", _NOT_THERE),
    ("no such dir", _NOT_THERE),
    ("no such path", _NOT_THERE),
    ("no such object", _NOT_THERE),
    ("no such key", _NOT_THERE),
    ("nosuch", _NOT_THERE),
    ("enoent", _NOT_THERE),
    ("errno 2]", _NOT_THERE),
    ("cannot find the", _NOT_THERE),  # "The system cannot find the file specified", ERROR_FILE_NOT_FOUND
    ("could not find", _NOT_THERE),
    ("not found", _NOT_THERE),
    ("notfound", _NOT_THERE),
    ("not exist", _NOT_THERE),
    ("doesn't exist", _NOT_THERE),
    ("nonexistent", _NOT_THERE),
)
# Statuses that say nothing beside their words; and words that are believed with a status that says something else:
# some object stores refuse what is not there as if it were secret, and servers refuse to STAT it as unsupported.
VAGUE_STATUSES = frozenset({SSH_FX_FAILURE, 5})
CONTRADICTED_STATUSES = frozenset({SSH_FX_PERMISSION_DENIED, SSH_FX_OP_UNSUPPORTED})
PLAIN_WORDS = frozenset({"no such file", "enoent", "cannot find the"})

# What servers say to an OPEN when too many files are open already.
LIMIT_WORDS = (
    "too many",
    "maximum",
    "limit",
    "exceed",
    "concurrent",
    "emfile",
    "enfile",
    "no more handles",
    "resource",
)


class StatusReply(Exception):
    """A status that is not OK: the server's code and words (draft-ietf-secsh-filexfer-02, section 7)."""

    def __init__(self, status: int, words: str) -> None:
        """Take the code and the words."""
        super().__init__(f"status {status}: {words}")
        self.status = status
        self.words = words


def from_status(reply: StatusReply, path: str | None = None) -> SFTPError:
    """Give a server's refusal its name: by its status, or by its words where the status says little."""
    reason, message = STATUS_REASONS.get(reply.status, STATUS_REASONS[SSH_FX_FAILURE])
    words = reply.words.casefold()
    is_vague = reply.status in VAGUE_STATUSES or reply.status not in STATUS_REASONS
    if is_vague or reply.status in CONTRADICTED_STATUSES:
        known = (named for text, named in WORDS_REASONS if text in words and (is_vague or text in PLAIN_WORDS))
        reason, message = next(known, (reason, message))
    said = printable(reply.words, 200)
    error = reason(f"{message} (it said {said!r})" if said else message, path=path)
    error.reply = reply
    return error


def is_plain_refusal(error: SFTPError) -> bool:
    """Tell whether a server has refused in clear words, so that there is nothing to find out."""
    reply = error.reply
    if reply is None or reply.status != SSH_FX_PERMISSION_DENIED:
        return False
    words = reply.words.casefold()
    return any(text in words for text in ("denied", "permission", "permitted", "forbidden", "eacces", "eperm"))


def is_of_a_limit(error: SFTPError) -> bool:
    """Tell whether a refusal to open a file says that too many are open."""
    words = "" if error.reply is None else error.reply.words.casefold()
    return any(text in words for text in LIMIT_WORDS)


def printable(text: str, longest: int) -> str:
    """Cut a text from outside to `longest` characters, with what could disturb a terminal or a log replaced."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)


# --- everything below: paramiko, pysftp, sockets ---------------------------------------------------------------------

# The most specific class first. `from_lower_layer` takes the first that fits.
LOWER_LAYER_REASONS: tuple[tuple[type[BaseException], type[SFTPError], str], ...] = (
    (PasswordRequiredException, AuthenticationFailed, "the private key is encrypted: give its passphrase"),
    (paramiko.BadAuthenticationType, AuthenticationFailed, "the server does not accept this kind of credential"),
    (PartialAuthentication, AuthenticationFailed, "the server wants a further credential after this one"),
    (UnableToAuthenticate, AuthenticationFailed, "the server refused the credential"),
    (paramiko.AuthenticationException, AuthenticationFailed, "the server refused the credential"),
    (UnknownKeyType, AuthenticationFailed, "the private key is of a type that cannot be used"),
    (BadHostKeyException, HostKeyMismatch, "the server's key is not the known one"),
    (BERException, AuthenticationFailed, "the private key is not readable"),
    (InvalidHostKey, HostKeyMismatch, "a host key is not readable"),
    (IncompatiblePeer, Unsupported, "the server and this client have no algorithm in common"),
    (paramiko.ChannelException, Unsupported, "the server refused to open a channel for SFTP"),
    (MessageOrderError, ConnectionLost, "the server broke the order of the key exchange"),
    (paramiko.ProxyCommandFailure, Unreachable, "the proxy command failed"),
    (CouldNotCanonicalize, Unreachable, "the host's name is not known"),
    (ConfigParseError, InvalidRequest, "an SSH configuration file is not readable"),
    (pysftp.ConnectionException, Unreachable, "there is no connection to the server"),
    (pysftp.CredentialException, AuthenticationFailed, "the credential is not usable"),
    (pysftp.HostKeysException, HostKeyMismatch, "the known host keys are not readable"),
    (paramiko.SFTPError, ConnectionLost, "the server's answer was not SFTP"),
    (NeedRekeyException, ConnectionLost, "the session ended in a key exchange"),
    (paramiko.SSHException, ConnectionLost, "the SSH session broke"),
    (cryptography_exceptions.InvalidTag, ConnectionLost, "a packet was damaged on its way"),
    (cryptography_exceptions.InvalidSignature, ConnectionLost, "the server's signature is wrong"),
    (cryptography_exceptions.UnsupportedAlgorithm, Unsupported, "an algorithm is not available on this machine"),
    (cryptography_exceptions.InvalidKey, AuthenticationFailed, "the private key is not usable"),
    (cryptography_exceptions.AlreadyFinalized, Internal, "the encryption was used after its end"),
    (cryptography_exceptions.NotYetFinalized, Internal, "the encryption was used before its end"),
    (cryptography_exceptions.AlreadyUpdated, Internal, "the encryption was used twice"),
    (cryptography_exceptions.InternalError, Internal, "the cryptography library failed"),
    (socket.gaierror, Unreachable, "the host's name is not known: check the name and the DNS servers"),
    (socket.herror, Unreachable, "the host's address is not known"),
    (NoValidConnectionsError, Unreachable, "no address of the host accepts connections"),
    (PipeTimeout, Unreachable, "the server did not answer in time"),
    (TimeoutError, Unreachable, "the server did not answer in time"),
    (ConnectionRefusedError, Unreachable, "nothing accepts connections there: check host and port"),
    (ConnectionResetError, ConnectionLost, "the server or a firewall reset the connection"),
    (ConnectionAbortedError, ConnectionLost, "the connection was aborted"),
    (BrokenPipeError, ConnectionLost, "the server closed the connection"),
    (EOFError, ConnectionLost, "the server closed the connection"),
    (struct.error, ConnectionLost, "the server's answer was not SFTP"),
)

NETWORK_ERRORS = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL, errno.ETIMEDOUT},
)


def from_lower_layer(error: BaseException, path: str | None = None) -> SFTPError:
    """Give any exception of paramiko, pysftp, a socket or the local file system its name.

    What is not known here is a defect of ours: `Internal`.
    """
    if isinstance(error, SFTPError):
        return error
    for lower, reason, message in LOWER_LAYER_REASONS:
        if isinstance(error, lower):
            return reason(_with_words(message, error), path=path)
    if isinstance(error, OSError):
        if error.errno in NETWORK_ERRORS:
            return Unreachable(_with_words("there is no way to the host", error), path=path)
        return from_os_error(error, path)
    return Internal(f"a defect in this software ({type(error).__name__}): please report it with the log", path=path)


def _with_words(message: str, error: BaseException) -> str:
    """Add the lower layer's own words, which never hold a credential, where they say more than the class does."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{message} ({printable(words, 200)})" if words and not isinstance(error, struct.error) else message
