"""The messages of failures that are found in more than one place: the same failure has the same words everywhere.

A message that only one place uses is written there; those of tables are in `sftp_statuses`, `os_errors` and
`lower_layers`.
"""

from __future__ import annotations

# --- on the server ---
NO_SUCH_PATH = "there is no such file or directory on the server"
NO_SUCH_DIRECTORY = "there is no such directory on the server"
IS_A_REMOTE_DIRECTORY = "this is a directory on the server: name a file in it"
PARENT_IS_A_REMOTE_FILE = "a part of this path is a file on the server, not a directory"
REMOTE_DISK_FULL = "the server's disk is full"
REMOTE_QUOTA_EXCEEDED = "the quota on the server is used up"

# --- on the local system ---
IS_A_LOCAL_DIRECTORY = "this is a local directory: name a file in it"
PARENT_IS_A_LOCAL_FILE = "a part of this local path is a file, not a directory"
LOCAL_DISK_FULL = "the local disk is full"
NO_THREAD_LEFT = "the system gives this process no further thread: allow it more (pids limit, ulimit -u)"
LOCAL_FILE_SYSTEM_DAMAGED = "the local file system is damaged: check it (fsck)"

# --- on both ---
NUL_IN_PATH = "a path must not contain a NUL character"
EMPTY_PATH = "an empty path names no file; for the directory itself write '.'"

# --- the login and the session ---
KEY_IS_ENCRYPTED = "the private key is encrypted: give its passphrase"
DISCONNECTED = "disconnect was called while this was under way"


def size_differs(moved: int, expected: int | None) -> str:
    """Return the message for a transfer that moved another number of bytes than the file has."""
    return f"{moved} bytes were moved, but the file has {expected}: it changed meanwhile, or the server cut it short"
