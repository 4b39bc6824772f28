"""Whether any process has a local file open for writing: leases (fcntl(2), F_SETLEASE) show that, on Linux."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal

from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX

F_SETSIG = 10  # of Linux (fcntl.h), which Python 3.10 does not name


def is_open_for_writing(file: int, directory: int) -> bool:
    """Return whether any process has a file open for writing, where the system reports it.

    It gives a lease for reading (fcntl(2)) to the file's owner only while no process has. A process that opens the file
    in that moment waits until the lease is given back, at once; the signal about it does nothing by default.
    Network file systems refuse leases with the same error: a refusal counts only where a new file is given one.

    Parameters:
        file: a descriptor of the file, opened for reading.
        directory: a descriptor of the directory that holds it.
    """
    try:
        _take_lease(file)
    except BlockingIOError:
        return _gives_leases(directory)
    except OSError:  # another owner's file, or a file system without leases
        return False
    return False


def _take_lease(descriptor: int) -> None:
    fcntl.fcntl(descriptor, F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _gives_leases(directory: int) -> bool:
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory))
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                _take_lease(descriptor)
            finally:
                os.close(descriptor)
        finally:
            os.unlink(name, dir_fd=directory)
    except OSError:
        return False
    return True
