"""Questions about a server's files and directories: what is at a path, what is in a directory, what is in a file.

Servers answer them in many ways, which are tried one after the other: see each method. Section numbers are those of
draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import posixpath
import stat
import struct
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import (
    EndOfFile,
    IsADirectory,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    TooLarge,
    Unsupported,
)
from iot.sftp.client._base.messages import NO_SUCH_PATH
from iot.sftp.client._base.sftp_statuses import is_plain_refusal
from iot.sftp.client._base.steps import finish
from iot.sftp.client._files.remote_handles import RemoteHandles
from iot.sftp.client._ssh.packets import Attributes, Entry, Kind, OpenFlag, decode_path, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._ssh.requests import Reply

NO_FILES = frozenset({b"", b".", b".."})
LONGEST_NAME = 4096  # bytes: the longest path that Linux takes (PATH_MAX); names have 255 there
MOST_NAMES = 10_000_000  # of one directory: more are taken for a listing without end
# READDIR requests in flight. Most folders need two, for a hundred names and for the end: that is what an empty one
# costs on the wire each time it is looked at. For more names, a round trip is not waited for after each hundred.
LISTING_BEGIN, LISTING_WINDOW = 2, 8
NAMES_LOOKED_THROUGH = 10_000  # of a directory, to find out whether there is one that the server says nothing about


class OwnLook(NamedTuple):
    """The answers to LSTAT and READLINK that are expected."""

    attributes: Future[Reply]
    target: Future[Reply]


class RemoteQueries(RemoteHandles):
    """A server's files to be looked at and read, over one channel and under one deadline."""

    # --- what is at a path ---

    def stat(self, path: str) -> Attributes:
        """Return the attributes of a path, links followed (section 6.8); of a link itself, if the server refuses STAT.

        Raises:
            NotFound: the server says that nothing is there; or shows a directory that does not hold it, after it has
                refused the question without a word on why.
        """
        return finish(self.looking_at(path))

    def looking_at(self, path: str) -> Steps[Attributes]:
        """Return the attributes of a path, in steps: see `stat`."""
        asked = self.begin_stat(path)
        yield asked
        try:
            attributes = self.attributes(asked, path)
        except (PermissionDenied, Unsupported) as refusal:
            return self._attributes_otherwise(Kind.LSTAT, path, refusal)
        if attributes == Attributes():
            # Apache MINA answers so for what cannot be there, since a part of the path is a file.
            with suppress(PermissionDenied, Unsupported):
                return self._attributes_in_listing(path, Unsupported("the server reports nothing of it", path=path))
        return attributes

    def lstat(self, path: str) -> Attributes:
        """Return the attributes of a path (section 6.8), links not followed unless it refuses LSTAT."""
        lacks = self.traits.lacks
        if Kind.LSTAT in lacks:
            return self.stat(path)
        try:
            return self._attributes(Kind.LSTAT, path)
        except (PermissionDenied, Unsupported) as refusal:
            attributes = self._attributes_otherwise(Kind.STAT, path, refusal)
            if attributes.mode is not None:
                lacks.add(Kind.LSTAT)  # a user who may follow a link may look at it
            return attributes

    def _attributes_otherwise(self, kind: Kind, path: str, refusal: SFTPError) -> Attributes:
        """Find out about a path in other ways than the one that was refused; raise that refusal where none works."""
        with suppress(PermissionDenied, Unsupported):
            return self._attributes(kind, path)
        if is_plain_refusal(refusal):
            raise refusal
        try:
            self._begin_to_list(path)
        except NotADirectory:  # of the path, so something else is there, or of one above it, so nothing is
            if self._is_below_a_file(path):
                raise
            return Attributes()
        except (NotFound, PermissionDenied, Unsupported):  # OpenSSH says NO_SUCH_FILE of a file as well
            return self._attributes_in_listing(path, refusal)
        return Attributes(mode=stat.S_IFDIR)

    def _is_below_a_file(self, path: str) -> bool:
        """Return whether the server reports that the nearest path above, of which it reports anything, is a file."""
        above = posixpath.dirname(path)
        while above.strip("/"):
            with suppress(PermissionDenied, Unsupported):
                return stat.S_IFMT(self._attributes(Kind.STAT, above).mode or 0) not in {0, stat.S_IFDIR}
            above = posixpath.dirname(above)
        return False

    def _attributes_in_listing(self, path: str, refusal: SFTPError) -> Attributes:
        """Look a path up in the listing of its directory."""
        directory, name = posixpath.split(path.rstrip("/"))
        if name in {"", ".", ".."}:
            raise refusal
        try:
            for count, entry in enumerate(self.entries(directory or ".")):
                if entry.name == encode_path(name):
                    return entry.attributes
                if count >= NAMES_LOOKED_THROUGH:
                    raise refusal
        except (PermissionDenied, Unsupported, TooLarge):
            raise refusal from None
        raise NotFound(NO_SUCH_PATH, path=path)

    def kind_of(self, path: str) -> int | None:
        """Return the type bits of what is at `path`, 0 if the server does not report it, `None` if nothing is there."""
        try:
            kind = stat.S_IFMT(self.stat(path).mode or 0)
            return kind or self.is_listable(path) * stat.S_IFDIR
        except (NotFound, NotADirectory):
            return None

    def is_listable(self, path: str) -> bool:
        """Return whether a path is that of a directory by listing it, where the server reports no types."""
        try:
            self._begin_to_list(path)
        except (NotFound, NotADirectory, PermissionDenied, Unsupported):
            return False
        return True

    def _begin_to_list(self, path: str) -> None:
        """Raise unless a path can be listed: asyncssh opens any path as a directory, and fails only at reading it."""
        handle = self._open_handle(Kind.OPENDIR, path, waits_for_place=False)
        try:
            with suppress(EndOfFile):
                self._fields(self._begin_read_directory(handle), path, Kind.NAME)
        finally:
            self.begin_close(handle)

    def is_missing(self, path: str) -> bool:
        """Return whether the server says, in one way or another, that nothing is at a path; a refusal does not."""
        try:
            return self.kind_of(path) is None
        except (PermissionDenied, Unsupported):
            return False

    def attributes_of(self, paths: list[str], *, follow_links: bool = True) -> list[Attributes | None]:
        """Return the attributes of each path, asking for all before the first answer; `None` where that is refused."""
        kind = Kind.STAT if follow_links or Kind.LSTAT in self.traits.lacks else Kind.LSTAT
        with self.together():
            futures = [self._send(kind, string(encode_path(path))) for path in paths]
        answers: list[Attributes | None] = []
        for future, path in zip(futures, paths, strict=True):
            try:
                answers.append(self.attributes(future, path))
            except (NotFound, NotADirectory, PathNotAllowed, IsADirectory):
                answers.append(None)
            except PermissionDenied:
                answers.append(self._followed_or_none(path) if kind == Kind.LSTAT else None)
            except Unsupported:
                answers.append(self._attributes_or_none(path))
        return answers

    def _followed_or_none(self, path: str) -> Attributes | None:
        """Return what STAT reports of a path whose LSTAT was refused: else what is there would look like nothing."""
        with suppress(NotFound, NotADirectory, PathNotAllowed, PermissionDenied, IsADirectory, Unsupported):
            attributes = self._attributes(Kind.STAT, path)
            if attributes.mode is not None:
                self.traits.lacks.add(Kind.LSTAT)  # a user who may follow a link may look at it
            return attributes
        return None

    def _attributes_or_none(self, path: str) -> Attributes | None:
        with suppress(NotFound, NotADirectory, PermissionDenied, Unsupported):
            return self.stat(path)
        return None

    def real_path(self, path: str) -> str:
        """Return the server's own form of a path (section 6.11); the cheapest question that there is."""
        return self.path_answered(self.begin_real_path(path), path)

    def path_answered(self, asked: Future[Reply], path: str) -> str:
        """Wait for the answer to `begin_real_path`, and return the path in it."""
        for entry in self._fields(asked, path, Kind.NAME).entries():
            return decode_path(entry.name)
        return path  # an answer without a name is an answer

    def begin_own_look(self, path: str) -> OwnLook:
        """Ask what is at a path itself, by LSTAT and by READLINK (sections 6.8 and 6.10): see `own_look`."""
        return OwnLook(self.begin_lstat(path), self._send(Kind.READLINK, string(encode_path(path))))

    def own_look(self, asked: OwnLook, path: str) -> tuple[Attributes, str | None]:
        """Return the attributes of what is at a path itself, and where it leads if it is a link.

        ProFTPD follows links in LSTAT, and in RMDIR and RENAME as well: only its READLINK shows that there is one.

        Raises:
            NotFound, NotADirectory: nothing is there.
        """
        try:
            attributes = self.attributes(asked.attributes, path)
        except (PermissionDenied, Unsupported):
            attributes = Attributes()
        target = self._target(asked.target, path)
        if target is None and stat.S_ISLNK(attributes.mode or 0):
            target = ""
        return attributes, target

    def _target(self, asked: Future[Reply], path: str) -> str | None:
        try:
            for entry in self._fields(asked, path, Kind.NAME).entries():
                return decode_path(entry.name)
        except (NotFound, NotADirectory, PathNotAllowed, PermissionDenied, IsADirectory, Unsupported):
            pass  # what is no link is refused in many ways: OpenSSH says BAD_MESSAGE, ProFTPD OP_UNSUPPORTED
        return None

    def is_directory(self, asked: Future[Reply], path: str) -> bool:
        """Return whether the answer to STAT is that of a directory, or a path can be listed, where there is none.

        A folder may be written without being looked at.
        """
        try:
            kind = stat.S_IFMT(self.attributes(asked, path).mode or 0)
        except (NotFound, NotADirectory):
            return False
        except (PermissionDenied, Unsupported) as refusal:
            kind = stat.S_IFREG if is_plain_refusal(refusal) else 0
        return stat.S_ISDIR(kind) if kind else self.is_listable(path)

    def _attributes(self, kind: Kind, path: str) -> Attributes:
        return self._ask(kind, path, due=Kind.ATTRS).attributes()

    # --- what is in a file ---

    @contextmanager
    def opened(self, path: str, flags: int, *, wait_for_close: bool = True) -> Iterator[bytes]:
        """Open a file and yield its handle (section 6.3); close it without waiting after a failure."""
        handle = self.open(path, flags)
        try:
            yield handle
        except BaseException:
            self.begin_close(handle)
            raise
        closed = self.begin_close(handle)
        if wait_for_close:
            self.wait(closed, path)

    def open(self, path: str, flags: int, attributes: Attributes | None = None) -> bytes:
        """Open a file and return its handle (section 6.3), once the server has a place for one more."""
        return finish(self.opening(path, flags, attributes))

    def opening(self, path: str, flags: int, attributes: Attributes | None = None) -> Steps[bytes]:
        """Open a file, in steps: see `open`."""
        fields = struct.pack(">I", flags) + (attributes or Attributes()).pack()
        try:
            return (yield from self._opening(Kind.OPEN, path, fields))
        except PermissionDenied:
            needed = posixpath.dirname(path) or "." if flags & OpenFlag.CREATE else path
            with self._clearer_refusal(needed):
                raise

    def read_exactly(self, handle: bytes, offset: int, length: int, path: str) -> bytes:
        """Return a part of an open file, shorter only at its end (section 6.4)."""
        data = b""
        with suppress(EndOfFile):
            while len(data) < length:
                piece = self.data(self.begin_read(handle, offset + len(data), length - len(data)), path)
                data += piece
                if not piece:
                    break
        return data[:length]

    # --- what is in a directory ---

    def entries(self, path: str) -> Generator[Entry, None, None]:
        """Yield what is in a directory, in the server's order, without `.` and `..` (section 6.7).

        Names that hold a `/` or a NUL, or are longer than 4,096 bytes, which no file has, are left out.

        Raises:
            TooLarge: the listing has no end.
        """
        for entries in self.all_entries(path):
            yield from possible_files(entries)

    def all_entries(self, path: str) -> Iterator[list[Entry]]:
        """Yield what the server lists of a directory, some at a time: see `entries`, but with every name.

        Raises:
            TooLarge: the listing has no end.
        """
        with self._clearer_refusal(path):
            handle = self._open_handle(Kind.OPENDIR, path)
        yield from self._listed_under(handle, path)

    def _begin_read_directory(self, handle: bytes) -> Future[Reply]:
        return self._send(Kind.READDIR, string(handle))

    def entries_if_shown(self, path: str) -> Generator[list[Entry], None, None]:
        """Yield what `all_entries` does, for a caller who can do without: a refusal is neither waited out nor named."""
        return self._listed_under(self._open_handle(Kind.OPENDIR, path, waits_for_place=False), path)

    def _listed_under(self, handle: bytes, path: str) -> Generator[list[Entry], None, None]:
        window: deque[Future[Reply]] = deque()
        try:
            more, count, width = True, 0, LISTING_BEGIN
            while more or window:
                if more and len(window) <= width - LISTING_BEGIN:
                    width = LISTING_WINDOW if count else LISTING_BEGIN
                    with self.together():
                        window.extend(self._begin_read_directory(handle) for _ in range(width - len(window)))
                before = count
                with suppress(EndOfFile):
                    for entries in self._fields(window.popleft(), path, Kind.NAME).entries_by_dozens():
                        count += len(entries)
                        yield entries
                more = more and count > before  # some servers end with an answer that holds none
                if count > MOST_NAMES:
                    message = f"the server has given more than {MOST_NAMES} names of this directory, without an end"
                    raise TooLarge(message, path=path)
        finally:
            self.begin_close(handle)

    @contextmanager
    def _clearer_refusal(self, *needed: str) -> Iterator[None]:
        """Look, where the server refuses without a reason, whether what the request needs is there.

        Version 3 has FAILURE for nearly everything (section 7), and servers say it, or PERMISSION_DENIED, of what is
        missing too. A few more questions, of which none is asked after a success, find out.
        """
        try:
            yield
        except PermissionDenied as refusal:
            for path in needed:
                if self.is_missing(path):
                    raise NotFound(NO_SUCH_PATH, path=path) from refusal
            raise


def possible_files(entries: list[Entry]) -> list[Entry]:
    """Return those entries whose names a file in a directory may have."""
    return [
        entry
        for entry in entries
        if (name := entry.name) not in NO_FILES and b"/" not in name and b"\0" not in name and len(name) <= LONGEST_NAME
    ]
