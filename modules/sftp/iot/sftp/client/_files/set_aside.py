"""Set a local file aside, out of its producer's reach, so that what is deleted or moved is what was sent.

A producer may write a file again, or put another one in its place, at any moment, also between a look at it and its
removal. So the file is first renamed, in its own directory: `.iot-sftp-taken-`, 8 hexadecimal digits, `-` and its name.
There no process opens it by its name any more. If it is what was sent by then, it is deleted or moved; if not, it is
restored, without replacing what its producer has put there meanwhile.

The file is locked (flock) as long as it has that name. A process that is killed in between releases the lock: the next
listing of the folder restores the file.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import Busy, InvalidRequest, TransferIncomplete
from iot.sftp.client._files.disk_sync import sync_directory, sync_file
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.leases import is_open_for_writing
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

PREFIX = f"{TEMPORARY_PREFIX}taken-"
COPY_PREFIX = f"{TEMPORARY_PREFIX}copy-"  # of a file that is moved to another file system, and 16 hexadecimal digits
NAME_PATTERN = re.compile(re.escape(PREFIX) + "[0-9a-f]{8}-(.+)", re.DOTALL)
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG})  # in the directory, for a longer name
ABANDONED_AFTER = 600.0  # seconds; where a file system has no locks
LONGEST_NAME = 255  # bytes, NAME_MAX of nearly all file systems
TRIES = 100
COPIED_AT_ONCE = 1024 * 1024  # bytes

_looked_at: set[tuple[int, int]] = set()  # directories that were searched for abandoned copies
_restored: deque[FileVersion] = deque(maxlen=1024)  # what was put back last, as it is since then


class VersionChanged(TransferIncomplete):
    """A file is not the version any more that was sent."""

    def __init__(self, path: str) -> None:
        """Take the file's path."""
        super().__init__(
            "it was transferred, and changed meanwhile: what is there now was left alone, and is for the next time",
            path=path,
        )


def own_place(path: str) -> InvalidRequest:
    """Return the error of a file that is to be moved to where it is: it would be found and sent again, each time."""
    message = "the folder to move into leads to the folder that the file is in: name another one"
    return InvalidRequest(message, path=path)


class SentFile(NamedTuple):
    """A file that was sent: where it is, a descriptor of it, and which version it has to be.

    Attributes:
        directory: a descriptor of the directory that holds it.
        name: its name there; that of a link stands for the link.
        path: the caller's words for it.
        file: a descriptor of the file itself, opened for reading.
        version: what was sent.
    """

    directory: int
    name: str
    path: str
    file: int
    version: FileVersion

    def check(self) -> None:
        """Raise `VersionChanged` if it is another version by now."""
        now = FileVersion.of_local(os.fstat(self.file))
        if not now.is_same_as(self.version):
            raise VersionChanged(self.path)

    def check_bytes(self, size: int | None = None) -> None:
        """Raise `VersionChanged` if it was written to, or has another size.

        Its change time is left out, which is another one since it was renamed.
        """
        now = FileVersion.of_local(os.fstat(self.file))._replace(changed=None)
        if not now.is_same_as(self.version) or size not in {None, now.size}:
            raise VersionChanged(self.path)


class SetAsideFile:
    """A file that is out of its producer's reach, to be removed or moved; it is put back if neither is done.

    Attributes:
        name: the name that it has now.
        is_there: whether it has that still.
    """

    def __init__(self, source: SentFile, name: str) -> None:
        """Take the source, and the name that it has now."""
        self._source = source
        self.name = name
        self.is_there = True

    def remove(self) -> None:
        """Remove it."""
        os.unlink(self.name, dir_fd=self._source.directory)
        self.is_there = False

    def move(self, directory: int, name: str, proceed: Callable[[], object] = lambda: None) -> None:
        """Move it into a directory, where it replaces what has its name there, atomically.

        Parameters:
            directory: a descriptor.
            name: its name there.
            proceed: called now and then while it is copied to another file system; ends that by raising.
        """
        try:
            os.replace(self.name, name, src_dir_fd=self._source.directory, dst_dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EXDEV:  # two bind mounts of one file system count as two as well
                raise
            self._copy(directory, name, proceed)
            self.remove()
        else:
            self.is_there = False
            with suppress(FileNotFoundError):  # rename(2) leaves both names of one file alone
                self.remove()

    def _copy(self, directory: int, name: str, proceed: Callable[[], object]) -> None:
        def replace(copy: str, size: int) -> bool:
            self._source.check_bytes(size)
            os.replace(copy, name, src_dir_fd=directory, dst_dir_fd=directory)
            return True

        copy_file(self._source.file, directory, replace, proceed)


def copy_file(source: int, directory: int, put: Callable[[str, int], bool], proceed: Callable[[], object]) -> bool:
    """Copy a file into a directory under a name of our own, and put the copy where it belongs; return what `put` does.

    Parameters:
        source: a descriptor of the file.
        directory: a descriptor.
        put: receives the copy's name and its size; returns whether the copy has another name now: else it is removed.
        proceed: called now and then; ends the copy by raising.
    """
    _remove_abandoned_copies(directory)
    temporary, copy = _open_copy(directory)
    is_put = False
    try:
        _copy_bytes(source, copy, proceed)
        _keep_attributes(copy, os.fstat(source))
        sync_file(copy)
        is_put = put(temporary, os.fstat(copy).st_size)
        sync_directory(directory)  # before the original is removed, on another disk
    finally:
        os.close(copy)
        if not is_put:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
    return is_put


def _open_copy(directory: int) -> tuple[str, int]:
    """Make a file for a copy, locked as long as it is open, so that no process takes it for abandoned."""
    while True:
        name = f"{COPY_PREFIX}{secrets.token_hex(8)}"
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
        _lock(copy, fcntl.LOCK_EX)
        if _is_at(directory, name, os.fstat(copy)):
            return name, copy
        os.close(copy)  # another process has found it before it was locked


def _remove_abandoned_copies(directory: int) -> None:
    """Remove what processes that were killed have left of their copies, once for each directory of this process."""
    status = os.fstat(directory)
    place = status.st_dev, status.st_ino
    if place in _looked_at:
        return
    _looked_at.add(place)
    with suppress(OSError), os.scandir(directory) as names:
        for name in [found.name for found in names if found.name.startswith(COPY_PREFIX)]:
            with suppress(OSError):
                if _is_abandoned(directory, name):
                    os.unlink(name, dir_fd=directory)
                    logger.info("removed %r, the copy of a process that ended while it moved a file", name)


@contextmanager
def setting_aside(source: SentFile, on_restored: Callable[[FileVersion], object]) -> Iterator[SetAsideFile]:
    """Take a file out of its producer's reach, and put it back if it was neither removed nor moved.

    Where its name is too long for that, or the directory has no room for it, it stays where it is.

    Parameters:
        source: the file.
        on_restored: receives its version when it is back in its place: its change time is another one then.

    Raises:
        VersionChanged: it is not what was sent; it is where it was.
        Busy: it is still being written.
        OSError: it cannot be taken.
    """
    source.check()
    if is_open_for_writing(source.file, source.directory):
        message = "another process has the file open for writing: it is seen to when that has closed it"
        raise Busy(message, path=source.path)
    own = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
    if not stat.S_ISLNK(own.st_mode) and not os.path.samestat(own, os.fstat(source.file)):
        raise VersionChanged(source.path)
    aside = f"{PREFIX}{secrets.token_hex(4)}-{source.name}"
    try:
        os.rename(source.name, aside, src_dir_fd=source.directory, dst_dir_fd=source.directory)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        yield SetAsideFile(source, source.name)
        return
    file = SetAsideFile(source, aside)
    try:
        # Who has listed the folder in between may have put it back already, or holds the lock to do so
        if _lock(source.file, fcntl.LOCK_SH) is False or not _is_at(source.directory, aside, own):
            raise VersionChanged(source.path)
        source.check_bytes()
        yield file
    finally:
        if file.is_there:
            with suppress(FileNotFoundError):
                restore(source.directory, aside, source.name)
            on_restored(FileVersion.of_local(os.fstat(source.file)))


def _is_at(directory: int, name: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, kind: int) -> bool | None:
    """Lock a file; `False` if another process has locked it, `None` if the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_set_aside(name: str) -> bool:
    """Return whether this is the name of a file that was taken."""
    return name.startswith(PREFIX) and NAME_PATTERN.fullmatch(name) is not None


def restore_abandoned(directory: int, aside: str) -> str | None:
    """Put back what a process that was killed had taken, and return the name that it has got.

    Parameters:
        directory: a descriptor of the folder.
        aside: a name in it for which `is_set_aside` holds; a file that is just being removed or moved is left alone.
    """
    name = NAME_PATTERN.fullmatch(aside)
    try:
        if name is None or not _is_abandoned(directory, aside):
            return None
        back = restore(directory, aside, name[1])
    except FileNotFoundError:
        return None  # it has just been removed, or put back
    except OSError as error:
        logger.warning("%r cannot be put back: %s", aside, error)
        return None
    logger.info("a process ended while it deleted or moved %r: it was put back", back)
    return back


def _is_abandoned(directory: int, aside: str) -> bool:
    status = os.stat(aside, dir_fd=directory, follow_symlinks=False)
    locked = None
    if stat.S_ISREG(status.st_mode):
        with suppress(PermissionError):
            descriptor = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            try:
                locked = _lock(descriptor, fcntl.LOCK_EX)
            finally:
                os.close(descriptor)
    elif not stat.S_ISLNK(status.st_mode):
        return False
    return locked or (locked is None and abs(time.time() - status.st_ctime) > ABANDONED_AFTER)


def restore(directory: int, aside: str, name: str) -> str:
    """Put a file back in its place, or under a numbered name where there is another one by now; return the name."""
    before = FileVersion.of_local(os.stat(aside, dir_fd=directory, follow_symlinks=False))
    _restored.append(before._replace(changed=None))  # before anybody can see it there
    for number in range(TRIES):
        back = _numbered(name, number)
        if move_without_replacing(directory, aside, back):
            after = FileVersion.of_local(os.stat(back, dir_fd=directory, follow_symlinks=False))
            _restored.append(after)
            with suppress(ValueError):
                _restored.remove(before._replace(changed=None))
            if back != name:
                logger.warning("%r was written again meanwhile: the earlier file is kept as %r", name, back)
            return back
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))


def was_restored(path: str) -> bool:
    """Return whether what is at a path was put there by `restore`, and is unchanged since."""
    try:
        now = FileVersion.of_local(os.lstat(path))
    except OSError:
        return False
    return any(known.is_same_as(now) for known in list(_restored))


def _numbered(name: str, number: int) -> str:
    ending = b".%d" % number if number else b""
    return os.fsdecode(os.fsencode(name)[: LONGEST_NAME - len(ending)] + ending)


def move_without_replacing(directory: int, aside: str, back: str, end: int | None = None) -> bool:
    """Rename a file in its directory, or into the directory `end`, unless something has the new name.

    Returns:
        Whether that was done.
    """
    end = directory if end is None else end
    try:
        # Unlike rename(2), link(2) never replaces anything
        os.link(aside, back, src_dir_fd=directory, dst_dir_fd=end, follow_symlinks=False)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except OSError:  # FAT has no hard links, and others' files may not be linked to (fs.protected_hardlinks)
        try:
            os.stat(back, dir_fd=end, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(aside, back, src_dir_fd=directory, dst_dir_fd=end)
            return True
        return False
    os.unlink(aside, dir_fd=directory)
    return True


def _copy_bytes(source: int, copy: int, proceed: Callable[[], object]) -> None:
    offset = 0
    while data := os.pread(source, COPIED_AT_ONCE, offset):
        proceed()
        offset += len(data)
        while data:
            data = data[os.write(copy, data) :]


def _keep_attributes(copy: int, status: os.stat_result) -> None:
    """Give a copy the permissions and the times of the file, as far as its file system takes them."""
    with suppress(OSError):
        os.fchmod(copy, stat.S_IMODE(status.st_mode))
    with suppress(OSError, OverflowError):
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
