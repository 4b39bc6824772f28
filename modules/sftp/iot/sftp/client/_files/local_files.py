"""The local side of a transfer: every file is reached through a directory that is held open.

Nothing is done by path twice: a path is walked once, to a descriptor of the directory that holds the file and the
file's name in it, and all further calls (`openat`, `renameat`, `unlinkat`) go through that descriptor. So what was
checked is what is used, whatever directories are renamed or symbolic links planted meanwhile.

A file is deleted or moved only as the version that was sent (`remove_version`, `move_version`): it is first taken out
of its producer's reach, see `set_aside`.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import IsADirectory, NotADirectory, NotFound, PathNotAllowed, SFTPError
from iot.sftp.client._base.messages import EMPTY_PATH, IS_A_LOCAL_DIRECTORY, NUL_IN_PATH
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.disk_sync import sync_directory
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.local_directories import open_directory_of
from iot.sftp.client._files.set_aside import (
    SentFile,
    SetAsideFile,
    is_set_aside,
    own_place,
    restore_abandoned,
    setting_aside,
    was_restored,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNKNOWN = FileVersion(None)
NAMES_AT_ONCE = 64  # of a directory, before it is looked whether to go on


@dataclass(frozen=True)
class LocalName:
    """A file's place: a descriptor of the directory that holds it, its name there, and the caller's own words for it.

    An empty `name` is the directory itself.
    """

    directory: int
    name: str
    path: str


@dataclass(frozen=True)
class LocalEntry:
    """One name in a directory: a directory, or a file with its size in bytes and its time in seconds since 1970.

    `version` is all that is known of which version of the file it is. `was_taken` is true if a process that was killed
    had set the file aside, and it has just been restored: its change time is that of now.
    """

    name: str
    is_directory: bool
    size: int = 0
    modified: float = 0.0
    version: FileVersion = UNKNOWN
    was_taken: bool = False


class LocalFiles:
    """The whole local file system, relative paths from the current directory, symbolic links followed.

    A subclass that overrides `open_parent` confines it (the module's local root does).
    """

    def open_parent(self, path: str, *, create: bool, mode: int | None = None) -> LocalName:
        """Open the directory that holds `path`; the caller closes `directory`.

        The name that comes back is not a symbolic link at the time of the call, and is opened without following one.

        Parameters:
            path: a local path; with a trailing `/`, or for `.` and the like, the directory itself is opened and the
                name is empty.
            create: make the missing directories.
            mode: the permissions of those; `None` leaves them to the umask.

        Raises:
            SFTPError: `NotFound`, `NotADirectory`, `PermissionDenied`, `PathNotAllowed` or `NoSpace`.
        """
        check_text(path)
        try:
            return LocalName(*open_directory_of(path, create=create, mode=mode), path)
        except OSError as error:
            raise from_os_error(error, path) from error

    def open_directory(self, path: str, *, create: bool = False, mode: int | None = None) -> int:
        """Open a directory and return its descriptor, which the caller closes.

        Parameters:
            path: a local directory; a symbolic link to one is followed as `open_parent` does.
            create: make it, and its missing parents.
            mode: their permissions: see `open_parent`.

        Raises:
            SFTPError: as `open_parent`.
        """
        check_text(path)
        try:
            return self.open_parent(path if path.endswith("/") else f"{path}/", create=create, mode=mode).directory
        except SFTPError as error:
            error.path = path
            raise

    def entries(self, path: str, proceed: Callable[[], object] = lambda: None) -> Iterator[LocalEntry]:
        """Yield the directories, the files and the links to files in a directory, in no order.

        A link to a directory, a link to nothing, and what is neither file nor directory are left out. A link that may
        not be followed is a file of 0 bytes here: opening it gives the reason.

        What a process that was killed had taken out of the producers' reach is put back first.

        Parameters:
            path: of the directory.
            proceed: called every few names, and for each link, what is left out included; ends it by raising.

        Raises:
            SFTPError: `NotFound`, `NotADirectory`, `PermissionDenied` or `PathNotAllowed`.
        """
        directory = self.open_directory(path)
        abandoned = list[str]()
        try:
            with os.scandir(directory) as names:
                for number, found in enumerate(names):
                    is_link = found.is_symlink()
                    if number % NAMES_AT_ONCE == 0 or is_link:  # which is opened, to know what it leads to
                        proceed()
                    if is_set_aside(found.name):
                        abandoned.append(found.name)
                        continue
                    entry = self._linked(path, found.name) if is_link else _entry_if_there(found)
                    if entry is not None:
                        yield entry
            for name in filter(None, (restore_abandoned(directory, name) for name in abandoned)):
                entry = _entry_of(name, os.stat(name, dir_fd=directory, follow_symlinks=False), was_taken=True)
                if entry is not None:
                    yield entry
        except OSError as error:
            raise from_os_error(error, path) from error
        finally:
            os.close(directory)

    def _linked(self, directory: str, name: str) -> LocalEntry | None:
        """Return what a link stands for, found in the way in which it would be opened."""
        try:
            with self.source(os.path.join(directory, name)) as descriptor:
                return _entry_of(name, os.fstat(descriptor))
        except (IsADirectory, NotFound, NotADirectory):
            return None
        except SFTPError:
            return LocalEntry(name, is_directory=False)

    @staticmethod
    def was_put_back(path: str) -> bool:
        """Return whether a file is at its path because it had been taken from there, and was not removed or moved.

        That is no news of its producer, though the file system reports a new file.
        """
        return was_restored(path)

    def remove(self, path: str) -> None:
        """Remove a file; of a symbolic link the link, not what it leads to.

        Raises:
            SFTPError: `NotFound`, `IsADirectory`, `PermissionDenied` or `PathNotAllowed`.
        """
        directory, name = self._place_of(path, create=False)
        try:
            os.unlink(name, dir_fd=directory)
        except OSError as error:
            raise from_os_error(error, path) from error
        finally:
            os.close(directory)

    def remove_version(
        self, path: str, version: FileVersion, on_put_back: Callable[[FileVersion], object] = lambda _: None
    ) -> None:
        """Remove a file, or a link to one, if it still is this version.

        Parameters:
            path: the file's.
            version: what it has to be.
            on_put_back: receives its version by then, if it could not be removed when it had been set aside.

        Raises:
            VersionChanged: it is another version, and is left in its place.
            SFTPError: as `remove`.
        """
        with self._setting_aside(path, version, on_put_back) as file:
            file.remove()

    def move_version(
        self,
        path: str,
        dest: str,
        version: FileVersion,
        on_put_back: Callable[[FileVersion], object] = lambda _: None,
        proceed: Callable[[], object] = lambda: None,
    ) -> None:
        """Move a file if it still is this version, replacing `dest` atomically and making its parents.

        To another file system, or another mount, it is copied, and deleted afterwards.

        Parameters:
            path: the file's.
            dest: its new path.
            version: what it has to be.
            on_put_back: see `remove_version`.
            proceed: called now and then while it is copied; ends that by raising.

        Raises:
            VersionChanged, SFTPError: as `remove_version`.
        """
        end, name = self._place_of(dest, create=True)
        try:
            if self._is_in(end, path) and name == os.path.basename(path):
                raise own_place(dest)
            with self._setting_aside(path, version, on_put_back) as file:
                file.move(end, name, proceed)
            sync_directory(end)
        finally:
            os.close(end)

    @contextmanager
    def _setting_aside(
        self, path: str, version: FileVersion, on_put_back: Callable[[FileVersion], object]
    ) -> Iterator[SetAsideFile]:
        directory, name = self._place_of(path, create=False)
        try:
            with self.source(path) as descriptor:
                sent = SentFile(directory, name, path, descriptor, version)
                with setting_aside(sent, on_put_back) as file:
                    yield file
        except OSError as error:
            raise from_os_error(error, path) from error
        finally:
            os.close(directory)

    def _is_in(self, directory: int, path: str) -> bool:
        """Return whether a path's name is in the directory of a descriptor, by whatever links or mounts."""
        parent, _ = self._place_of(path, create=False)
        try:
            return os.path.samestat(os.fstat(parent), os.fstat(directory))
        finally:
            os.close(parent)

    def _place_of(self, path: str, *, create: bool) -> tuple[int, str]:
        """Open the directory that holds a name, which is not resolved if it is a link."""
        directory, name = os.path.split(path)
        return self.open_directory(directory or ".", create=create), check_name(name)

    @contextmanager
    def source(self, path: str) -> Iterator[int]:
        """Open a regular file for reading, and close it.

        Raises:
            SFTPError: `NotFound`, `IsADirectory`, `NotADirectory`, `PermissionDenied` or `PathNotAllowed`.
        """
        place = self.open_parent(path, create=False)
        try:
            descriptor = _open_regular(place)
        finally:
            os.close(place.directory)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def destination(self, path: str, keep_name: str, mode: int | None = None) -> Iterator[LocalName]:
        """Open the directory that a file is to be written in, made if it is missing, and close it.

        Parameters:
            path: where the file goes; an existing directory, or a path that ends with `/`, keeps the source's name.
            keep_name: the source's own name.
            mode: the permissions of new directories: see `open_parent`.

        Raises:
            SFTPError: as `open_parent`; `PathNotAllowed` if something is there that is not a regular file.
        """
        place = self.open_parent(path, create=True, mode=mode)
        try:
            if not place.name:
                place = LocalName(place.directory, check_name(keep_name), path)
            _refuse_irregular(place)
            yield place
        finally:
            os.close(place.directory)


def check_text(path: str) -> None:
    """Refuse a path that no file system takes."""
    if "\0" in path:
        raise PathNotAllowed(NUL_IN_PATH, path=path)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        message = "the path holds a character that no local file name can hold"
        raise PathNotAllowed(message, path=path) from None
    if not path:
        raise NotFound(EMPTY_PATH, path=path)


def check_name(name: str) -> str:
    """Refuse a name that leads elsewhere: a server may send any."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        message = f"{name!r} cannot be the name of a local file: give one in dest"
        raise PathNotAllowed(message, path=name)
    return name


def _entry_if_there(found: os.DirEntry[str]) -> LocalEntry | None:
    try:
        return _entry_of(found.name, found.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None  # it has just gone


def _entry_of(name: str, status: os.stat_result, *, was_taken: bool = False) -> LocalEntry | None:
    if stat.S_ISDIR(status.st_mode):
        return LocalEntry(name, is_directory=True)
    if not stat.S_ISREG(status.st_mode):
        return None
    version = FileVersion.of_local(status)
    return LocalEntry(name, False, status.st_size, status.st_mtime, version, was_taken)  # noqa: FBT003 - is_directory


def _open_regular(place: LocalName) -> int:
    if not place.name:
        raise IsADirectory(IS_A_LOCAL_DIRECTORY, path=place.path)
    # O_NONBLOCK: opening a named pipe would wait for a writer
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(place.name, flags, dir_fd=place.directory)
    except OSError as error:
        raise from_os_error(error, place.path) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise _irregular(mode, place.path)


def _refuse_irregular(place: LocalName) -> None:
    try:
        mode = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, place.path) from error
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise _irregular(mode, place.path)


def _irregular(mode: int, path: str) -> SFTPError:
    if stat.S_ISDIR(mode):
        return IsADirectory(IS_A_LOCAL_DIRECTORY, path=path)
    return PathNotAllowed("this is neither a file nor a directory, and is left alone", path=path)
