"""The directories that are never deleted or moved: the roots, their ancestors, and whatever leads to them.

The roots are `/`, the directory in which the account starts, and the configured `root`. A path may lead to one of them
by `.`, `..`, links, or another case of its letters. REALPATH (draft-ietf-secsh-filexfer-02, section 6.11) resolves all
that on some servers, and only the text of the path on others (Go's pkg/sftp, paramiko). So each path is resolved twice,
by the server and here, link by link; if either leads to a root or above it, it is refused.
"""

from __future__ import annotations

import posixpath
import unicodedata
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    TooLarge,
    Unsupported,
)
from iot.sftp.client._ssh.packets import decode_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot.sftp.client._files.remote_files import RemoteFiles

MOST_STEPS = 200  # links and `..` of one path: more are taken for a circle

Parts = tuple[str, ...]  # the names of an absolute path


def refuse_protected(remote: RemoteFiles, path: str, root: str | None) -> str:
    """Raise `PathNotAllowed` if a directory is, or may be, a root or above one; return its path, without `..`.

    A path such as `a/b/../../a` leads nowhere any more once a part of `a` is deleted.

    Parameters:
        remote: the server's files.
        path: of the directory, as the server is asked for it.
        root: that is configured, if any.
    """
    configured = [] if root is None else [root]
    home, real, *real_roots = _as_the_server_says(remote, [".", path, *configured])
    protected = {(), *_resolved(remote, [home, *real_roots, *configured])}
    meant = _resolved(remote, [real, _joined(home, path)])
    for parts in meant:
        if any(_is_same_or_above(remote, parts, kept) for kept in protected):
            message = (
                "this is the root of the account or the configured root, or a directory above one: these are never "
                "deleted or moved"
            )
            raise PathNotAllowed(message, path=path)
    if ".." not in path.split("/"):
        return path
    if len(meant) > 1:
        message = "the server and its links do not agree on what this path leads to: give it without '..'"
        raise PathNotAllowed(message, path=path)
    return "/" + "/".join(meant.pop())


def is_inside(remote: RemoteFiles, path: str, directory: str) -> bool:
    """Return whether a path, which need not be there, leads into a directory, or is that directory."""
    home, real, real_directory = _as_the_server_says(remote, [".", path, directory])
    above = _resolved(remote, [real_directory, _joined(home, directory)])
    below = _resolved(remote, [real, _joined(home, path)])
    return any(_is_same_or_above(remote, parts, kept) for parts in above for kept in below)


def _as_the_server_says(remote: RemoteFiles, paths: list[str]) -> list[str]:
    """Return the server's own form of each path, absolute; where it has none, what the text of the path says."""
    with remote.together():
        asked = [remote.begin_real_path(path) for path in paths]
    answers: list[str] = []
    for path, future in zip(paths, asked, strict=True):
        try:
            answer = remote.path_answered(future, path)
        except (NotFound, NotADirectory, PathNotAllowed, PermissionDenied, Unsupported):
            answer = path
        answers.append(_joined(answers[0] if answers else "/", answer))
    return answers


def _joined(home: str, path: str) -> str:
    return posixpath.join("/", home, path)


def _resolved(remote: RemoteFiles, paths: Iterable[str]) -> set[Parts]:
    """Return what paths stand for, each resolved as realpath(3) does it: links followed, one after the other."""
    return {_resolve(remote, path) for path in dict.fromkeys(paths)}


def _resolve(remote: RemoteFiles, path: str) -> Parts:
    """Resolve one path: all directories on it are looked at in one round trip, and again behind each link."""
    parts = _names(path)
    for _ in range(MOST_STEPS):
        end = parts.index("..") if ".." in parts else len(parts)
        link = _first_link(remote, parts[:end])
        if link is not None:
            place, target = link
            parts = [*([] if target.startswith("/") else parts[:place]), *_names(target), *parts[place + 1 :]]
        elif end < len(parts):
            parts = [*parts[: max(end - 1, 0)], *parts[end + 1 :]]
        else:
            return tuple(parts)
    message = "this path leads through too many links: where to is not clear"
    raise PathNotAllowed(message, path=path)


def _first_link(remote: RemoteFiles, parts: list[str]) -> tuple[int, str] | None:
    """Return the place of the first link among the directories of a path, and where it leads."""
    paths = ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
    with remote.together():
        looks = [remote.begin_own_look(path) for path in paths]
    for place, asked in enumerate(looks):
        try:
            _, target = remote.own_look(asked, paths[place])
        except (NotFound, NotADirectory, PathNotAllowed, IsADirectory):
            return None
        if target == "":
            message = f"the server does not say where {paths[place]!r} leads: this may be a root"
            raise PathNotAllowed(message, path=paths[-1])
        if target is not None:
            return place, target
    return None


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _is_same_or_above(remote: RemoteFiles, parts: Parts, kept: Parts) -> bool:
    """Return whether `parts` name the directory `kept`, or one above it, also where the server ignores case."""
    if len(parts) > len(kept):
        return False
    for place, (name, other) in enumerate(zip(parts, kept, strict=False)):
        if name == other:
            continue
        if _folded(name) != _folded(other):
            return False
        return not _are_two(remote, "/" + "/".join(parts[:place]), name, other)
    return True


def _folded(name: str) -> str:
    """Return what file systems that ignore case, and Windows, take a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).rstrip(". ")


def _are_two(remote: RemoteFiles, directory: str, name: str, other: str) -> bool:
    """Return whether a directory holds both names: then they are not two forms of one."""
    missing = {name, other}
    try:
        for entry in remote.entries(directory):
            missing.discard(decode_path(entry.name))
            if not missing:
                return True
    except (NotFound, NotADirectory, PermissionDenied, Unsupported, TooLarge):
        pass  # what cannot be seen is taken for the same
    return False
