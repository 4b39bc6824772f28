"""Keep a local file that is to be replaced: a second name for it, or a copy where there can be none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.disk_sync import sync_directory
from iot.sftp.client._files.local_files import check_name
from iot.sftp.client._files.numbered_names import numbered_in_parts
from iot.sftp.client._files.set_aside import copy_file, move_without_replacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._files.local_files import LocalFiles, LocalName


def keep_backup(
    local_files: LocalFiles,
    place: LocalName,
    backup: str,
    proceed: Callable[[], object] = lambda: None,
    *,
    mode: int | None = None,
) -> None:
    """Give the file at a place another name, which is numbered if something has it; the file stays at its place too.

    So the place is never empty. A process that is killed behind this step leaves a backup that is the file itself:
    the next one finds that out, and makes no second one.

    Parameters:
        local_files: how the backup's path is reached.
        place: of the file; nothing is done if nothing is there.
        backup: the path of the backup, whose parents are made.
        proceed: called now and then while it is copied; ends that by raising.
        mode: the permissions of new directories.

    Raises:
        SFTPError: as `LocalFiles.open_parent`; `AlreadyExists` if all numbers are taken.
    """
    try:
        status = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, place.path) from error
    folder, name = os.path.split(backup)
    directory = local_files.open_directory(folder or ".", create=True, mode=mode)
    try:
        _keep(place, status, directory, check_name(name), proceed)
        sync_directory(directory)
    except OSError as error:
        raise from_os_error(error, backup) from error
    finally:
        os.close(directory)


def _keep(place: LocalName, status: os.stat_result, directory: int, name: str, proceed: Callable[[], object]) -> None:
    for names in numbered_in_parts(name):
        for each in names:
            try:
                os.link(place.name, each, src_dir_fd=place.directory, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                if os.path.samestat(os.stat(each, dir_fd=directory, follow_symlinks=False), status):
                    return
            except OSError:  # another file system, or one without links, or another owner's file
                if _is_copied(place, directory, each, proceed):
                    return
            else:
                return
    message = "all numbered names are taken in the folder for backups: nothing was replaced"
    raise AlreadyExists(message, path=name)


def _is_copied(place: LocalName, directory: int, name: str, proceed: Callable[[], object]) -> bool:
    source = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place.directory)
    try:
        return copy_file(source, directory, lambda copy, _: move_without_replacing(directory, copy, name), proceed)
    finally:
        os.close(source)
