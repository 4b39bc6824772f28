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
     │   ├─ HandleInUse       (never reaches a caller: what was open is opened again, one file at a time)
     │   └─ LocalBusy         (the local system cannot now, and is asked again before a caller is told)
     ├─ Internal              500  internal
     ├─ HostKeyMismatch       502  host_key_mismatch
     ├─ TransferIncomplete    502  transfer_incomplete
     │   └─ EndOfFile         (never reaches a caller: whoever reads knows what to make of it)
     ├─ Unsupported           502  unsupported
     ├─ NotConfigured         503  not_configured
     ├─ Unreachable           503  unreachable
     ├─ ConnectionLost        503  connection_lost
     │   ├─ NotSFTP           (an answer that breaks the protocol: the same request would have the same answer)
     │   ├─ OutcomeUnknown    (a lost answer, and nothing that tells whether the request was carried out)
     │   └─ ServerBusy        (the server turns connections away for now)
     ├─ DeadlineExceeded      504  deadline_exceeded
     │   └─ Cancelled         (the caller itself ended the call)
     └─ NoSpace               507  no_space

`status` is the HTTP status code that says the same (RFC 9110, section 15; 507 from RFC 4918), for callers that
answer requests.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import ClassVar

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


class SFTPError(Exception):
    """Why an operation did not happen.

    Attributes:
        code: the stable name of the reason, for programs.
        status: the HTTP status code that says the same.
        operation: the operation that did not happen (`"download_file"`), or `None`.
        path: the path that it was about, as the caller gave it, or `None`.
        message: what happened and what to do about it, for people. Never holds a secret.
        attempts: how often it was tried; attempts to connect count too.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

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
    """The queue is full, another transfer writes this destination, or other calls take all memory: try again later."""

    code, status = "busy", 429


class HandleInUse(Busy):
    """The server gave out a handle that is in use: what was moved over either of the two files proves nothing."""


class LocalBusy(Busy):
    """The local system cannot serve this at the moment: what often passes, and is tried again for a while."""


class Internal(SFTPError):
    """A defect of this software; the log has the trace."""

    code, status = "internal", 500


class HostKeyMismatch(SFTPError):
    """The server's key is not the pinned or remembered one; nothing was sent to it."""

    code, status = "host_key_mismatch", 502


class TransferIncomplete(SFTPError):
    """Sizes or hashes differ after the transfer; the old destination is intact."""

    code, status = "transfer_incomplete", 502


class EndOfFile(TransferIncomplete):
    """The server has no more bytes, or no more names, where it was asked for some."""


class Unsupported(SFTPError):
    """The server does not offer what was asked for, or no algorithm that this client has."""

    code, status = "unsupported", 502


class NotConfigured(SFTPError):
    """There are no settings yet; the message says what is missing."""

    code, status = "not_configured", 503


class Unreachable(SFTPError):
    """No connection to the server: DNS, refused, reset, no route, no answer."""

    code, status = "unreachable", 503


class ConnectionLost(SFTPError):
    """The session broke during the operation, and retries did not help within the deadline.

    Attributes:
        is_repeated: whether the operation is tried again, over a new connection.
    """

    code, status = "connection_lost", 503
    is_repeated: ClassVar[bool] = True


class NotSFTP(ConnectionLost):
    """The server's answer breaks the protocol. It would do so again: the operation is not repeated."""

    is_repeated = False


class OutcomeUnknown(ConnectionLost):
    """An answer was lost, and what is there now does not tell whether the request was carried out."""

    is_repeated = False


class ServerBusy(ConnectionLost):
    """The server turns new connections away for now, and says so: it is asked again, within the deadline."""


class DeadlineExceeded(SFTPError):
    """The time that the caller gave ran out."""

    code, status = "deadline_exceeded", 504


class Cancelled(DeadlineExceeded):
    """The caller ended the call before its time."""


class NoSpace(SFTPError):
    """Disk or quota full, local or remote."""

    code, status = "no_space", 507


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
