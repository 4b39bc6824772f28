"""Map what the local file system refuses to an error: from `errno` to the class and its message."""

from __future__ import annotations

import errno

from iot.sftp.client._base.errors import (
    IsADirectory,
    LocalBusy,
    NoSpace,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._base.messages import (
    IS_A_LOCAL_DIRECTORY,
    LOCAL_DISK_FULL,
    LOCAL_FILE_SYSTEM_DAMAGED,
    PARENT_IS_A_LOCAL_FILE,
)

_REFUSED = (PermissionDenied, "the local file system refused: check the owner and the permissions")
_NO_DEVICE = (NotFound, "the local disk or the network mount is not there: check that it is connected and mounted")
_BAD_NAME = (PathNotAllowed, "the local file system does not take a name like this")
_NOT_OFFERED = (Unsupported, "the local file system does not offer this operation")
_TOO_FEW = (LocalBusy, "this process or the system has too few resources free at the moment")
_NETWORK_MOUNT = (LocalBusy, "the local path is on a network mount that does not answer: check its server")

# By the words of errno(3); `errno` lacks some names on some systems. `tests/client/base/test_os_errors.py` walks all
# numbers that the system knows. What is `LocalBusy` often passes by itself: it is retried before it is
# reported.
_LOCAL_REASONS_BY_NAME: dict[str, tuple[type[SFTPError], str]] = {
    "ENOENT": (NotFound, "there is no such local file or directory"),
    "EACCES": _REFUSED,
    "EPERM": _REFUSED,
    "EROFS": (PermissionDenied, "the local file system is read-only"),
    "EISDIR": (IsADirectory, IS_A_LOCAL_DIRECTORY),
    "ENOTEMPTY": (IsADirectory, "this is a local directory that is not empty"),
    "ENOTDIR": (NotADirectory, PARENT_IS_A_LOCAL_FILE),
    "EEXIST": (NotADirectory, PARENT_IS_A_LOCAL_FILE),
    # Limits that somebody has to raise
    "ENOSPC": (NoSpace, LOCAL_DISK_FULL),
    "EDQUOT": (NoSpace, "the local disk quota is used up"),
    "EFBIG": (NoSpace, "the file is larger than the local file system, or the limit of this process, allows"),
    "EMLINK": (NoSpace, "the local directory, or the file, has as many links as the file system takes"),
    "EXFULL": (NoSpace, LOCAL_DISK_FULL),
    # Names and paths
    "ELOOP": (PathNotAllowed, "the local path leads through a symbolic link that may not be followed"),
    "ENAMETOOLONG": (PathNotAllowed, "the local path or a name in it is too long"),
    "EILSEQ": _BAD_NAME,
    "EINVAL": (Unsupported, "the local file system does not take this: the name may hold a character that it forbids"),
    # Transient
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
    "ENOTCONN": (LocalBusy, "the local path is on a mount that has lost its connection: mount it again"),
    "ENOLINK": _NETWORK_MOUNT,
    "ECOMM": _NETWORK_MOUNT,
    "EHOSTDOWN": _NETWORK_MOUNT,
    "ETIMEDOUT": _NETWORK_MOUNT,
    # Missing or damaged
    "ENODEV": _NO_DEVICE,
    "ENXIO": _NO_DEVICE,
    "ENOMEDIUM": _NO_DEVICE,
    "EMEDIUMTYPE": _NO_DEVICE,
    "EUCLEAN": (Unsupported, LOCAL_FILE_SYSTEM_DAMAGED),
    "EBADMSG": (Unsupported, LOCAL_FILE_SYSTEM_DAMAGED),
    # Not supported
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
    """Return the error for a failure of the local file system."""
    if error.errno in LOCAL_REASONS:
        reason, message = LOCAL_REASONS[error.errno]
        return reason(message, path=path)
    return Unsupported(f"the local file system failed ({error.strerror or 'no reason given'})", path=path)
