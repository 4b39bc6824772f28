"""Whether a remote file has a local one's bytes: by the server's hash where it computes one, else by reading them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections import deque
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    SFTPError,
    TransferIncomplete,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.remote_files import CHECK_FILE
from iot.sftp.client._files.remote_requests import SAFE_REQUEST
from iot.sftp.client._ssh.packets import OpenFlag

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply

BLOCK = 1024 * 1024  # bytes of a local file that are hashed at a time
READS_IN_FLIGHT = 16
PART = 4 * 1024  # bytes that are compared in one place
PARTS_LEAST, PARTS_MOST = 16, 64  # places that are compared, one for each 512 KiB
BYTES_OF_A_PART = 512 * 1024
HASH_AT_MOST = 20.0  # seconds that a hash may take which is not asked for, and a third of the call's time at most

Part = tuple[int, int]  # offset and length


def compare_hashes(remote: RemoteFiles, handle: bytes, path: str, descriptor: int, length: int | None = None) -> str:
    """Compare a local and a remote file, and return how: `check-file`, `sha256sum` or `read back`.

    Parameters:
        remote: the server's files.
        handle: of the remote file, open for reading.
        path: of the remote file.
        descriptor: of the local file.
        length: bytes of the local file that the remote one is to have; `None` for all.

    Raises:
        TransferIncomplete: they differ.
    """
    way = way_to_hash(remote, handle, path, hash_of_local(descriptor, remote.deadline.check, length))
    if not way:
        message = "the SHA-256 of the two files differ: something has changed their bytes on the way"
        raise TransferIncomplete(message, path=path)
    return way


def way_to_hash(remote: RemoteFiles, handle: bytes, path: str, expected: bytes) -> str:
    """Return how a remote file, open for reading, is known to have a hash; empty if it has another one."""
    if remote.hash_of(handle, 0, path) == expected:
        return CHECK_FILE
    # A hash that differs may be that of another file: a shell may see other paths than SFTP does.
    if _hash_by_shell(remote, path) == expected:
        return "sha256sum"
    return "read back" if _hash_of_remote(remote, handle, path) == expected else ""


def remote_files_are_same(remote: RemoteFiles, first: str, second: str, size: int) -> bool:
    """Return whether two remote files of one size have the same bytes: by the server's hashes, else by reading both."""
    with (
        remote.opened(first, OpenFlag.READ, wait_for_close=False) as one,
        remote.opened(second, OpenFlag.READ, wait_for_close=False) as other,
    ):
        hashes = [remote.hash_of(handle, 0, path) for handle, path in ((one, first), (other, second))]
        if None not in hashes:
            return hashes[0] == hashes[1]
        parts = all_parts(size)
        for start in range(0, len(parts), READS_IN_FLIGHT):
            window = parts[start : start + READS_IN_FLIGHT]
            asked = [(remote.begin_read(one, *part), remote.begin_read(other, *part)) for part in window]
            for part, futures in zip(window, asked, strict=True):
                pieces = zip(futures, (one, other), (first, second), strict=True)
                whole = [_whole_part(remote, future, handle, path, part) for future, handle, path in pieces]
                if whole[0] != whole[1]:
                    return False
    return True


def _whole_part(remote: RemoteFiles, asked: Future[Reply], handle: bytes, path: str, part: Part) -> bytes:
    """Return a part of a remote file, asked for already; shorter only at its end."""
    try:
        there = remote.data_if_readable(asked, path)
    except EndOfFile:
        return b""
    offset, length = part
    if len(there) < length:  # a short answer is not the end of the file
        there += remote.read_exactly(handle, offset + len(there), length - len(there), path)
    return there


def spread(length: int) -> list[Part]:
    """Return parts that are spread over the first `length` bytes of a file, first and last ones among them."""
    most = min(PARTS_MOST, max(PARTS_LEAST, length // BYTES_OF_A_PART))
    if length <= most * PART:
        return all_parts(length)
    return [(number * (length - PART) // (most - 1), PART) for number in range(most)]


def all_parts(length: int) -> list[Part]:
    """Return the parts that are all of the first `length` bytes."""
    return [(start, min(SAFE_REQUEST, length - start)) for start in range(0, length, SAFE_REQUEST)]


def parts_are_same(remote: RemoteFiles, handle: bytes, path: str, descriptor: int, parts: list[Part]) -> bool:
    """Return whether parts of a remote file, open for reading, are those of a local one; one round trip for all."""
    asked = [remote.begin_read(handle, offset, length) for offset, length in parts]
    for (offset, length), future in zip(parts, asked, strict=True):
        there = _whole_part(remote, future, handle, path, (offset, length))
        try:
            if not there or there != os.pread(descriptor, length, offset):
                return False
        except OSError as error:
            raise from_os_error(error) from error
    return True


def beginning_is_same(remote: RemoteFiles, handle: bytes, path: str, descriptor: int, length: int) -> bool:
    """Return whether both files begin with the same `length` bytes: by the server's hash, or by parts of them.

    Parts that are spread over all of them, first and last ones among them, prove nothing about the rest; where a
    server computes no hash, that is what can be known without moving all bytes again.
    """
    if length <= PARTS_LEAST * PART:
        return parts_are_same(remote, handle, path, descriptor, all_parts(length))
    known = _hash_if_cheap(remote, handle, path, length)
    if known is None:
        return parts_are_same(remote, handle, path, descriptor, spread(length))
    return known == hash_of_local(descriptor, remote.deadline.check, length)


def all_is_same(remote: RemoteFiles, handle: bytes, path: str, descriptor: int, length: int) -> bool:
    """Return whether both files begin with the same `length` bytes: by the server's hash, else by reading all of them.

    The remote one is open for reading, and may be longer.
    """
    known = _hash_if_cheap(remote, handle, path, length)
    if known is not None:
        return known == hash_of_local(descriptor, remote.deadline.check, length)
    parts = all_parts(length)
    for start in range(0, len(parts), READS_IN_FLIGHT):
        remote.deadline.check()
        if not parts_are_same(remote, handle, path, descriptor, parts[start : start + READS_IN_FLIGHT]):
            return False
    return True


def _hash_if_cheap(remote: RemoteFiles, handle: bytes, path: str, length: int) -> bytes | None:
    """Return the hash of the beginning of a remote file, if the server computes one.

    A hash of a large file has a time limit: a call that has little time left must not spend it here.
    """
    brief = remote.within(min(HASH_AT_MOST, remote.deadline.remaining() / 3))
    try:
        known = brief.hash_of(handle, length, path)
        if known is None and remote.traits.takes_commands:
            known = _hash_by_shell(brief, path, length)
    except DeadlineExceeded:
        remote.deadline.check()
        return None
    return known


def hash_of_local(descriptor: int, proceed: Callable[[], object], length: int | None = None) -> bytes:
    """Return the SHA-256 of a local file, or of its first `length` bytes; `proceed` ends that by raising."""
    digest, offset = hashlib.sha256(), 0
    end = float("inf") if length is None else length
    try:
        while data := os.pread(descriptor, int(min(BLOCK, end - offset)), offset):
            digest.update(data)
            offset += len(data)
            proceed()
    except OSError as error:
        raise from_os_error(error) from error
    return digest.digest()


def _hash_by_shell(remote: RemoteFiles, path: str, length: int | None = None) -> bytes | None:
    try:
        path = remote.real_path(path)  # relative paths begin elsewhere for a shell
    except (DeadlineExceeded, ConnectionLost):
        raise
    except SFTPError:
        return None
    if not path.isprintable() or not path.startswith("/"):
        return None
    name = shlex.quote(path)
    said = remote.run(f"sha256sum -b -- {name}" if length is None else f"head -c {length} -- {name} | sha256sum -b")
    found = re.match(rb"\\?([0-9a-f]{64}) ", said)
    return bytes.fromhex(found[1].decode()) if found else None


def _hash_of_remote(remote: RemoteFiles, handle: bytes, path: str) -> bytes:
    """Read the remote file to its end, in order."""
    digest, size = hashlib.sha256(), remote.request_sizes()[0]
    window: deque[tuple[int, Future[Reply]]] = deque()
    asked = offset = 0
    while True:
        while len(window) < READS_IN_FLIGHT:
            window.append((asked, remote.begin_read(handle, asked, size)))
            asked += size
        start, future = window.popleft()
        if start != offset:  # an answer was short: what was asked for behind it is asked for again
            window.clear()
            asked = offset
            continue
        try:
            data = remote.data(future, path)
        except EndOfFile:
            return digest.digest()
        if not data:
            message = "the server answered a READ with nothing"
            raise TransferIncomplete(message, path=path)
        digest.update(data)
        offset += len(data)
        size = min(size, len(data))  # a server that gives less than it is asked for does so again
