"""Moving a local file to a path that nothing has: what is put aside replaces nothing."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists, PathNotAllowed, PermissionDenied
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.disk_sync import sync_directory
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.local_files import check_name
from iot.sftp.client._files.numbered_names import numbered_in_parts
from iot.sftp.client._files.set_aside import (
    SentFile,
    VersionChanged,
    copy_file,
    move_without_replacing,
    own_place,
    setting_aside,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._files.local_files import LocalFiles


def put_aside(
    local_files: LocalFiles, path: str, target: str, version: FileVersion, proceed: Callable[[], object]
) -> str:
    """Move a file, or a link to one, to a path that nothing has, numbered if need be, and return that.

    It is taken out of its producer's reach first, as a file that is deleted or moved after its arrival. One that cannot
    even be opened is renamed as it is.

    Parameters:
        local_files: how paths are reached.
        path: the file's.
        target: its new path, whose parents are made.
        version: which one it has to be.
        proceed: called now and then while it is copied to another file system; ends that by raising.

    Raises:
        VersionChanged: it is another version, and is left in its place.
        SFTPError: as `LocalFiles.remove_version`; `AlreadyExists` if all numbers are taken.
    """
    folder, name = os.path.split(path)
    goal, wanted = os.path.split(target)
    directory = local_files.open_directory(folder or ".")
    try:
        end = local_files.open_directory(goal or ".", create=True)
        try:
            if os.path.samestat(os.fstat(directory), os.fstat(end)):
                raise own_place(target)
            mover = _Mover(local_files, SentFile(directory, check_name(name), path, -1, version), proceed)
            given = mover.move(end, check_name(wanted))
            sync_directory(end)
        finally:
            os.close(end)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        os.close(directory)
    return os.path.join(goal, given)


class _Mover:
    """Moves one file."""

    def __init__(self, local_files: LocalFiles, source: SentFile, proceed: Callable[[], object]) -> None:
        self._local_files = local_files
        self._source = source
        self._proceed = proceed

    def move(self, end: int, wanted: str) -> str:
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self._local_files.source(self._source.path))
            except (PermissionDenied, PathNotAllowed):
                return self._move_unread(end, wanted)
            source = self._source._replace(file=descriptor)
            file = stack.enter_context(setting_aside(source, lambda _: None))
            given = _first_free(wanted, lambda each: self._is_moved(source, file.name, end, each))
            file.is_there = False
            return given

    def _move_unread(self, end: int, wanted: str) -> str:
        source = self._source
        own = os.stat(source.name, dir_fd=source.directory, follow_symlinks=False)
        if not stat.S_ISLNK(own.st_mode) and not FileVersion.of_local(own).is_same_as(source.version):
            raise VersionChanged(source.path)
        return _first_free(wanted, lambda each: _is_renamed(source.directory, source.name, end, each))

    def _is_moved(self, source: SentFile, name: str, end: int, each: str) -> bool:
        try:
            return _is_renamed(source.directory, name, end, each)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise

        def put(copy: str, size: int) -> bool:
            source.check_bytes(size)
            return move_without_replacing(end, copy, each)

        if not copy_file(source.file, end, put, self._proceed):
            return False
        os.unlink(name, dir_fd=source.directory)
        return True


def _first_free(wanted: str, is_moved: Callable[[str], bool]) -> str:
    for names in numbered_in_parts(wanted):
        for each in names:
            if is_moved(each):
                return each
    message = "all numbered names are taken in the folder for files that fail"
    raise AlreadyExists(message, path=wanted)


def _is_renamed(directory: int, name: str, end: int, each: str) -> bool:
    """Rename a file, unless something has the new name: then `False`, but for the file itself, which a crash left."""
    if move_without_replacing(directory, name, each, end):
        return True
    there = os.stat(each, dir_fd=end, follow_symlinks=False)
    if not os.path.samestat(there, os.stat(name, dir_fd=directory, follow_symlinks=False)):
        return False
    os.unlink(name, dir_fd=directory)
    return True
