"""Map what a server refuses to an error: by the SFTP status, and by the server's words where the status is vague."""

from __future__ import annotations

from iot.sftp.client._base.errors import (
    ConnectionLost,
    EndOfFile,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    StatusReply,
    Unsupported,
)
from iot.sftp.client._base.messages import (
    IS_A_REMOTE_DIRECTORY,
    NO_SUCH_DIRECTORY,
    NO_SUCH_PATH,
    PARENT_IS_A_REMOTE_FILE,
    REMOTE_DISK_FULL,
    REMOTE_QUOTA_EXCEEDED,
)
from iot.sftp.client._base.text import quoted

# Status codes 2 to 8 are those of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 7). Servers of later versions
# send their own codes to clients of version 3 as well (draft-ietf-secsh-filexfer-13, section 9.1).
SSH_FX_OK, SSH_FX_EOF, SSH_FX_NO_SUCH_FILE, SSH_FX_PERMISSION_DENIED, SSH_FX_FAILURE = range(5)
SSH_FX_OP_UNSUPPORTED = 8

STATUS_REASONS: dict[int, tuple[type[SFTPError], str]] = {
    SSH_FX_EOF: (EndOfFile, "the server ended the answer too early"),
    SSH_FX_NO_SUCH_FILE: (NotFound, NO_SUCH_PATH),
    SSH_FX_PERMISSION_DENIED: (PermissionDenied, "the server refused: ask its administrator for the permission"),
    SSH_FX_FAILURE: (PermissionDenied, "the server refused without a reason that we know"),
    5: (PermissionDenied, "the server refused the request as malformed: the name may be too long for it"),
    6: (ConnectionLost, "the server has no connection to its storage"),
    7: (ConnectionLost, "the server lost the connection to its storage"),
    SSH_FX_OP_UNSUPPORTED: (Unsupported, "the server does not offer this operation"),
    10: (NotFound, NO_SUCH_DIRECTORY),
    11: (PermissionDenied, "the server refused: the name is taken"),
    12: (PermissionDenied, "the server's storage is write-protected"),
    13: (PermissionDenied, "the server's storage holds no medium"),
    14: (NoSpace, REMOTE_DISK_FULL),
    15: (NoSpace, REMOTE_QUOTA_EXCEEDED),
    17: (PermissionDenied, "the server refused: somebody else holds a lock on the file"),
    19: (NotADirectory, PARENT_IS_A_REMOTE_FILE),
    20: (PathNotAllowed, "the server does not accept this file name"),
    24: (IsADirectory, IS_A_REMOTE_DIRECTORY),
}

_NOT_THERE = (NotFound, NO_SUCH_PATH)
_NO_DIRECTORY = (NotADirectory, PARENT_IS_A_REMOTE_FILE)
_A_DIRECTORY = (IsADirectory, IS_A_REMOTE_DIRECTORY)
_DISK_FULL = (NoSpace, REMOTE_DISK_FULL)
_QUOTA = (NoSpace, REMOTE_QUOTA_EXCEEDED)

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
# Statuses that say nothing without their words; and words that overrule a status that says something else: some object
# stores answer PERMISSION_DENIED for a missing file, and some servers OP_UNSUPPORTED for its STAT.
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


def from_status(reply: StatusReply, path: str | None = None) -> SFTPError:
    """Return the error for a server's refusal: by its status, or by its words where the status says little."""
    reason, message = STATUS_REASONS.get(reply.status, STATUS_REASONS[SSH_FX_FAILURE])
    words = reply.words.casefold()
    is_vague = reply.status in VAGUE_STATUSES or reply.status not in STATUS_REASONS
    if is_vague or reply.status in CONTRADICTED_STATUSES:
        known = (named for text, named in WORDS_REASONS if text in words and (is_vague or text in PLAIN_WORDS))
        reason, message = next(known, (reason, message))
    error = reason(f"{message} (it said {quoted(reply.words)})" if reply.words else message, path=path)
    error.reply = reply
    return error


def is_plain_refusal(error: SFTPError) -> bool:
    """Return whether a server refused in clear words, so that no further request is needed to find the cause."""
    reply = error.reply
    if reply is None or reply.status != SSH_FX_PERMISSION_DENIED:
        return False
    words = reply.words.casefold()
    return any(text in words for text in ("denied", "permission", "permitted", "forbidden", "eacces", "eperm"))


def is_of_a_limit(error: SFTPError) -> bool:
    """Return whether a refusal to open a file says that too many are open."""
    words = "" if error.reply is None else error.reply.words.casefold()
    return any(text in words for text in LIMIT_WORDS)
