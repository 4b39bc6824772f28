"""A server with a tree of directories, files and links in memory, which can be as odd as servers are."""

from __future__ import annotations

import posixpath
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.faulty_servers import (
    DIRECTORY,
    EOF,
    FAILURE,
    FILE,
    NO_SUCH_FILE,
    OK,
    PASSWORD,
    UNSUPPORTED,
    FaultyServer,
    attributes,
    attrs,
    names,
    packet,
    status,
)

from iot.sftp.client import Secret, ServerSettings, SFTPSession, TimeLimits
from iot.sftp.client._ssh.packets import Kind, Reader, string

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = 0o120777
HOME = "/home/device"
PER_ANSWER = 100  # names
WRITTEN = 1_600_000_000  # seconds since 1970
CHANGING = frozenset({Kind.REMOVE, Kind.RMDIR, Kind.MKDIR, Kind.RENAME})


class HasTree(FaultyServer):
    """Has directories, files and links, as a POSIX file system has them.

    Parameters:
        tree: what is below the home: a path that ends with `/` is a directory, one with ` -> ` a link; others files.

    Attributes:
        nodes: what is where: the path's type and permissions, and where a link leads.
        follows_links: LSTAT, RMDIR and RENAME follow links, as ProFTPD's do.
        resolves: REALPATH follows links; else it looks at the text only.
        knows_read_link, shows_types: whether READLINK is known, and types are told.
        lists_targets: listings show what links lead to.
        ignores_case: names that differ in case only are the same.
        only_fails: every refusal is FAILURE, without words.
        refused: paths that are not removed.
        cut_at: the number of the answer, counted from 0, in whose place the connection ends; what was asked is done.
        changes: the paths that were removed, made or renamed.
    """

    follows_links = False
    resolves = True
    knows_read_link = True
    shows_types = True
    lists_targets = False
    ignores_case = False
    only_fails = False
    answers_at_once = True

    def __init__(self, *tree: str) -> None:
        super().__init__()
        self.nodes: dict[str, tuple[int, str]] = {"/": (DIRECTORY, "")}
        self.refused: set[str] = set()
        self.cut_at: int | None = None
        self.answered = 0
        self.changes: list[tuple[int, str]] = []
        self.listings: dict[bytes, Iterator[bytes]] = {}
        self.grow(f"{HOME}/", *(f"{HOME}/{path}" for path in tree))

    def grow(self, *tree: str) -> None:
        """Add what is not there yet, with its parents."""
        for path in tree:
            place, arrow, target = path.partition(" -> ")
            mode = LINK if arrow else DIRECTORY if path.endswith("/") else FILE
            place = place.rstrip("/")
            parents = place.split("/")[1:-1]
            for count in range(len(parents)):
                self.nodes.setdefault("/" + "/".join(parents[: count + 1]), (DIRECTORY, ""))
            self.nodes[place] = (mode, target)

    def below(self, path: str) -> list[str]:
        """Return the paths below one, relative to it and sorted."""
        return sorted(node[len(path) + 1 :] for node in self.nodes if node.startswith(f"{path}/"))

    def inside(self, path: str) -> list[str]:
        """Return the names directly in a directory."""
        return [posixpath.basename(node) for node in self.nodes if node != "/" and posixpath.dirname(node) == path]

    def real(self, path: str, *, follow: bool = True, depth: int = 0) -> str | None:
        """Resolve a path as POSIX does; `None` if a directory on it is missing."""
        here = HOME
        if path.startswith("/"):
            here = "/"
        parts = [part for part in path.split("/") if part not in {"", "."}]
        for place, part in enumerate(parts):
            if here not in self.nodes or self.nodes[here][0] != DIRECTORY or depth > 20:
                return None
            if part == "..":
                here = posixpath.dirname(here)
                continue
            child = posixpath.join(here, self._name_in(here, part))
            mode, target = self.nodes.get(child, (0, ""))
            if mode == LINK and (follow or place < len(parts) - 1 or path.endswith("/")):
                resolved = self.real(posixpath.join(here, target), depth=depth + 1)
                if resolved is None:
                    return None
                here = resolved
            else:
                here = child
        return here

    def _name_in(self, directory: str, name: str) -> str:
        if self.ignores_case:
            return next((other for other in self.inside(directory) if other.casefold() == name.casefold()), name)
        return name

    def reply(self, request: bytes) -> bytes:
        reply = super().reply(request)
        self.answered += 1
        if self.cut_at is not None and self.answered > self.cut_at:
            self.cut_at = None
            self.cut()
            return b""
        if self.only_fails and reply[4] == Kind.STATUS and reply[9:13] not in {b"\0\0\0\0", b"\0\0\0\1"}:
            return packet(int.from_bytes(request[1:5], "big"), status(FAILURE))
        return reply

    def truth(self, kind: int | str, fields: Reader) -> bytes:  # noqa: C901, PLR0911, PLR0912 - one case for each request
        first = fields.string()
        path = first.decode("utf-8", "surrogateescape")
        own = self.real(path, follow=self.follows_links)
        mode, target = self.nodes.get(own or "", (0, ""))
        match kind:
            case Kind.READDIR:
                return next(self.listings[first], status(EOF))
            case Kind.CLOSE:
                self.listings.pop(first, None)
                return status(OK)
            case Kind.REALPATH:
                lexical = posixpath.normpath(posixpath.join(HOME, path))
                return names((self.real(path) or lexical if self.resolves else lexical).encode())
            case Kind.STAT | Kind.LSTAT:
                real = self.real(path, follow=kind == Kind.STAT or self.follows_links)
                mode, _ = self.nodes.get(real or "", (0, ""))
                return attrs(1, self._told(mode), WRITTEN) if mode else status(NO_SUCH_FILE)
            case Kind.READLINK:
                if not self.knows_read_link:
                    return status(UNSUPPORTED)
                _, target = self.nodes.get(self.real(path, follow=False) or "", (0, ""))
                return names(target.encode()) if target else status(FAILURE)
            case Kind.OPENDIR:
                return self._list(self.real(path) or "")
            case Kind.MKDIR if own and not mode and self.nodes.get(posixpath.dirname(own), (0, ""))[0] == DIRECTORY:
                self.nodes[own] = (DIRECTORY, "")
            case Kind.REMOVE:
                own = self.real(path, follow=False) or ""
                if own not in self.nodes:
                    return status(NO_SUCH_FILE)
                if self.nodes[own][0] == DIRECTORY or own in self.refused:
                    return status(FAILURE)
                del self.nodes[own]
            case Kind.RMDIR if mode == DIRECTORY and not self.inside(own or "") and own not in self.refused:
                del self.nodes[own or ""]
            case Kind.RENAME if mode:
                dest = self.real(fields.string().decode(), follow=False)
                if dest is None or dest in self.nodes or posixpath.dirname(dest) not in self.nodes:
                    return status(NO_SUCH_FILE if dest not in self.nodes else FAILURE)
                for node in [node for node in self.nodes if node == own or node.startswith(f"{own}/")]:
                    self.nodes[dest + node[len(own or "") :]] = self.nodes.pop(node)
            case _:
                missing = kind in {Kind.RMDIR, Kind.RENAME, Kind.MKDIR} and not mode
                return status(NO_SUCH_FILE if missing else FAILURE if kind in CHANGING else UNSUPPORTED)
        self.changes.append((int(kind), path))
        return status(OK)

    def _told(self, mode: int) -> int | None:
        return mode if self.shows_types else None

    def _list(self, path: str) -> bytes:
        if self.nodes.get(path, (0, ""))[0] != DIRECTORY:
            return status(NO_SUCH_FILE)
        handle = b"listing %d" % len(self.requests)
        self.listings[handle] = self._pages(path)
        return bytes([Kind.HANDLE]) + string(handle)

    def _pages(self, path: str) -> Iterator[bytes]:
        entries = [(".", DIRECTORY), ("..", DIRECTORY)]
        for name in self.inside(path):
            mode, _ = self.nodes[posixpath.join(path, name)]
            if mode == LINK and self.lists_targets:
                mode, _ = self.nodes.get(self.real(posixpath.join(path, name)) or "", (LINK, ""))
            entries.append((name, mode))
        for start in range(0, len(entries), PER_ANSWER):
            some = entries[start : start + PER_ANSWER]
            packed = b"".join(
                string(name.encode("utf-8", "surrogateescape")) + string(b"") + attributes(1, self._told(mode), WRITTEN)
                for name, mode in some
            )
            yield struct.pack(">BI", Kind.NAME, len(some)) + packed


@contextmanager
def session_with(server: FaultyServer, root: str | None = None) -> Iterator[SFTPSession]:
    """Give a session with a running server, both ended afterwards."""
    with server.running() as port:
        limits = TimeLimits(connect=20, stall=20)
        credential = Secret(PASSWORD)
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", credential, root=root, time_limits=limits))
        try:
            yield session
        finally:
            session.disconnect()
