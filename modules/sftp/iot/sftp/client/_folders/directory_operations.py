"""Create, move and delete single directories on a server: the steps of each operation. Paths are the server's.

`directory_deletion` deletes a directory with all that is in it.
"""

from __future__ import annotations

import posixpath
import stat
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    AlreadyExists,
    InvalidRequest,
    NotADirectory,
    NotEmpty,
    NotFound,
    OutcomeUnknown,
    PathNotAllowed,
    PermissionDenied,
    Unsupported,
)
from iot.sftp.client._base.messages import NO_SUCH_DIRECTORY
from iot.sftp.client._base.sftp_statuses import is_plain_refusal
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.listing import entries_of
from iot.sftp.client._files.protected_directories import is_inside, refuse_protected

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Attributes


@dataclass
class RequestedChange:
    """Remembers, over the attempts of one call, that a request was sent whose answer may have been lost.

    Attributes:
        is_sent: whether the request was sent by an earlier attempt of the call.
        version: of the directory, when it was.
    """

    is_sent: bool = False
    version: FileVersion | None = None


def create_directory(remote: RemoteFiles, path: str) -> None:
    """Make a directory and its missing parents, unless it is there already.

    Raises:
        NotADirectory: something else is in its place, or in that of a parent.
    """
    path = without_slashes(path)
    if not _create_at_once(remote, path):
        _create_step_by_step(remote, path)


def _create_at_once(remote: RemoteFiles, path: str) -> bool:
    """Look at all directories on the way in one round trip, and make those that are missing; `False` if that fails."""
    on_the_way, ancestor = [], path
    while ancestor.strip("/"):
        on_the_way.append(ancestor)
        ancestor = posixpath.dirname(ancestor.rstrip("/"))
    with remote.together():
        looks = [(ancestor, remote.begin_stat(ancestor)) for ancestor in on_the_way]
    missing: list[str] = []
    try:
        for ancestor, asked in looks:
            try:
                if not stat.S_ISDIR(remote.attributes(asked, ancestor).mode or 0):
                    return False
                break
            except NotFound:
                missing.insert(0, ancestor)
        if remote.traits.keeps_order:
            with remote.together():
                asked_for = [(ancestor, remote.begin_make_directory(ancestor)) for ancestor in missing]
            for ancestor, asked in asked_for:
                remote.wait(asked, ancestor)
        else:
            for ancestor in missing:
                remote.make_directory(ancestor)
    except (NotFound, NotADirectory, PathNotAllowed, PermissionDenied, Unsupported):
        return False
    return True


def _create_step_by_step(remote: RemoteFiles, path: str) -> None:
    """Make a directory where servers hide or refuse some of those on the way, or others make some at the same time."""
    try:
        remote.make_directory(path)
    except (NotFound, NotADirectory, PermissionDenied, Unsupported) as refusal:
        if _is_there(remote, path) and not is_plain_refusal(refusal):
            message = "this is a file on the server, or a link: no directory can be made in its place"
            raise NotADirectory(message, path=path) from refusal
        parent = posixpath.dirname(path)
        if parent in {"", path}:
            raise
        remote.make_directories(parent)
        remote.make_directory(path)


def delete_empty_directory(remote: RemoteFiles, path: str, root: str | None, requested: RequestedChange) -> bool:
    """Delete a directory that has nothing in it; return `False` if it was gone: an earlier attempt has deleted it.

    Parameters:
        remote: the server's files.
        path: of the directory.
        root: that is configured, if any.
        requested: what earlier attempts of the same call have asked for.

    Raises:
        NotADirectory: a file is there, or a link.
        NotEmpty: there is something in it.
        PathNotAllowed: it is protected.
    """
    path = without_slashes(path)
    try:
        check_directory(remote, path, "delete_file deletes it")
        path = refuse_protected(remote, path, root)
        # Not every server refuses RMDIR for what has something in it.
        refuse_full(remote, path)
        requested.is_sent = True
        remove_directory(remote, path)
    except NotFound:
        if not requested.is_sent:
            raise
        return False
    return True


def move_directory(remote: RemoteFiles, source: str, dest: str, root: str | None, requested: RequestedChange) -> None:
    """Rename a directory, creating the parents of `dest`, which must not be there.

    RENAME is asked for, never `posix-rename`: most servers refuse it where `dest` has appeared meanwhile, and what
    the others can replace, by rename(2), is an empty directory.

    Parameters:
        remote: the server's files.
        source: the directory.
        dest: its new path.
        root: that is configured, if any.
        requested: what earlier attempts of the same call have asked for.

    Raises:
        AlreadyExists: something is at `dest`.
        InvalidRequest: `dest` is in `source`.
        NotADirectory: a file or a link is at `source`, or in the place of a parent of `dest`.
        OutcomeUnknown: the answer to an earlier attempt was lost, and what is there does not show what became of it.
        PathNotAllowed: `source` is protected.
    """
    source, dest = without_slashes(source), without_slashes(dest)
    try:
        version = FileVersion.of_remote(check_directory(remote, source, "move_file moves it"))
    except NotFound:
        if not requested.is_sent:
            raise
        if not _is_directory(remote, dest):
            raise outcome_unknown(source) from None
        return  # an earlier attempt has moved it
    source = refuse_protected(remote, source, root)
    is_there = _is_there(remote, dest)
    if requested.is_sent and (is_there or requested.version is None or not version.is_same_as(requested.version)):
        raise outcome_unknown(source)
    if is_there:
        raise _taken(dest)
    if is_inside(remote, dest, source):
        message = "a directory cannot be moved into itself"
        raise InvalidRequest(message, path=dest)
    requested.is_sent, requested.version = True, version
    try:
        _rename(remote, source, dest)
    except (NotFound, NotADirectory):
        remote.make_directories(posixpath.dirname(dest) or ".")
        _rename(remote, source, dest)


def without_slashes(path: str) -> str:
    """Return a path without `/` and `/.` at its end: behind one, a link would stand for what it leads to."""
    parts = path.split("/")
    while len(parts) > 1 and parts[-1] in {"", "."}:
        parts.pop()
    return "/".join(parts) or path[:1] or "."


def check_directory(remote: RemoteFiles, path: str, what_else: str) -> Attributes:
    """Return the attributes of a directory.

    Raises:
        NotADirectory: a file or a link is there; the message says what else can be done with it.
        NotFound: nothing is there.
    """
    try:
        with remote.together():
            asked = remote.begin_own_look(path)
        attributes, target = remote.own_look(asked, path)
        if not attributes.mode:
            attributes = remote.lstat(path)  # which has other ways to find out
    except NotADirectory as error:  # a part of the path is a file: so nothing is there
        raise NotFound(NO_SUCH_DIRECTORY, path=path) from error
    kind = stat.S_IFMT(attributes.mode or 0) or remote.is_listable(path) * stat.S_IFDIR
    if kind != stat.S_IFDIR or target is not None:
        what = "a file" if target is None else "a link"
        message = f"this is {what} on the server, not a directory: {what_else}"
        raise NotADirectory(message, path=path)
    return attributes


def refuse_full(remote: RemoteFiles, path: str) -> None:
    """Raise `NotEmpty` if there is something in a directory, as far as the server shows it."""
    try:
        with closing(entries_of(remote, path)) as entries:
            is_empty = next(entries, None) is None
    except (PermissionDenied, Unsupported):
        return  # a directory may be deleted without being listed
    if not is_empty:
        message = "the directory is not empty: delete it recursively, or what is in it first"
        raise NotEmpty(message, path=path)


def remove_directory(remote: RemoteFiles, path: str) -> None:
    """Remove an empty directory, and find out why it is refused: servers say FAILURE to all of it."""
    try:
        remote.wait(remote.begin_remove_directory(path), path)
    except PermissionDenied:
        if not _is_there(remote, path):
            raise NotFound(NO_SUCH_DIRECTORY, path=path) from None
        refuse_full(remote, path)
        raise


def _rename(remote: RemoteFiles, source: str, dest: str) -> None:
    try:
        remote.rename(source, dest)
    except (PermissionDenied, Unsupported):
        if _is_there(remote, dest):
            raise _taken(dest) from None
        raise


def outcome_unknown(path: str) -> OutcomeUnknown:
    """Return the error of a request whose answer was lost, where what is there now does not show what became of it."""
    message = (
        "the answer was lost, and whether the server has carried it out is not known: what is there now may be "
        "another directory, and was left alone"
    )
    return OutcomeUnknown(message, path=path)


def _taken(dest: str) -> AlreadyExists:
    message = "something is there already: a directory is moved to a path where nothing is"
    return AlreadyExists(message, path=dest)


def _is_there(remote: RemoteFiles, path: str) -> bool:
    """Return whether anything is at a path, a link that leads nowhere too; what the server does not show is not."""
    try:
        remote.lstat(path)
    except (NotFound, NotADirectory, PermissionDenied, Unsupported):
        return False
    return True


def _is_directory(remote: RemoteFiles, path: str) -> bool:
    try:
        check_directory(remote, path, "")
    except (NotFound, NotADirectory, PermissionDenied, Unsupported):
        return False
    return True
