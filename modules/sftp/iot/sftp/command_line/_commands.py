"""The commands: each works on a session, and prints the result."""

from __future__ import annotations

import os
import posixpath
import stat
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from iot.sftp.client import FileInfo, IsADirectory, NotADirectory, NotFound, PermissionDenied, SFTPError
from iot.sftp.client._base.messages import NO_SUCH_PATH
from iot.sftp.client._base.text import printable
from iot.sftp.command_line._output import ProgressBar, document, document_of_many, failed, size_in_words

if TYPE_CHECKING:
    import argparse
    import threading
    from collections.abc import Callable, Iterator

    from iot.sftp.client import SFTPSession, Transfer

LETTERS = {"file": "-", "directory": "d", "link": "l"}


def ls(session: SFTPSession, arguments: argparse.Namespace, _cancelled: threading.Event) -> None:
    """List a directory, or the one file that is there, entry by entry: memory does not grow with their number."""
    entries = _entries(session, arguments.path, arguments.timeout)
    if arguments.json:
        failure = document_of_many("entries", (asdict(entry) for entry in entries))
        if failure is not None:
            raise AlreadyShownError from failure
        return
    for entry in entries:
        print(_line(entry) if arguments.long else printable(entry.path) + ("/" if entry.kind == "directory" else ""))


class AlreadyShownError(Exception):
    """The failure that caused this is in the document that was printed."""


def _entries(session: SFTPSession, path: str, timeout: float | None) -> Iterator[FileInfo]:
    try:
        yield from session.scan(path, timeout=timeout)
    except SFTPError as error:
        error.operation = "ls"  # `scan` is nothing that a user of the command line knows
        if not isinstance(error, (NotFound, NotADirectory, PermissionDenied)):
            raise
        # Servers do not report "not a directory", but "no such file" or a plain failure.
        entry = session.stat(path, timeout=timeout)
        if entry is None or entry.kind == "directory":
            raise
        yield entry


def _line(entry: FileInfo) -> str:
    permissions = stat.filemode(entry.mode)[1:] if entry.mode is not None else "?" * 9
    size = "?" if entry.size is None else str(entry.size)
    moment = "?" if entry.modified is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.modified))
    return f"{LETTERS.get(entry.kind or '', '?')}{permissions} {size:>14} {moment:>19} {printable(entry.path)}"


def get(session: SFTPSession, arguments: argparse.Namespace, cancelled: threading.Event) -> None:
    """Download a file."""
    _transfer(session.download_file, arguments, arguments.dest, cancelled)


def put(session: SFTPSession, arguments: argparse.Namespace, cancelled: threading.Event) -> None:
    """Upload a file."""
    _transfer(session.upload_file, arguments, arguments.dest or os.path.basename(arguments.source), cancelled)


def _transfer(
    move: Callable[..., Transfer], arguments: argparse.Namespace, dest: str, cancelled: threading.Event
) -> None:
    bar = ProgressBar(arguments.source, wanted=not arguments.json)
    try:
        transfer = move(
            arguments.source,
            dest,
            timeout=arguments.timeout,
            verify=arguments.verify,
            progress=bar.update,
            cancelled=cancelled,
        )
    finally:
        bar.close()
    if arguments.json:
        document(ok=True, source=arguments.source, dest=dest, **asdict(transfer))
        return
    rate = size_in_words((transfer.bytes - transfer.resumed) / max(transfer.seconds, 0.001))
    how = "" if transfer.atomic else "; the server could not replace the old file atomically"
    print(f"{printable(arguments.source)}: {size_in_words(transfer.bytes)} in {transfer.seconds:.1f} s, {rate}/s{how}")


def mv(session: SFTPSession, arguments: argparse.Namespace, _cancelled: threading.Event) -> None:
    """Move a file or a directory on the server; nothing but a file is replaced."""
    source, dest, timeout = arguments.source, arguments.dest, arguments.timeout
    try:
        atomic = session.move_file(source, dest, timeout=timeout)
    except IsADirectory as error:
        if error.path != source:
            raise
        dest, atomic = _into_directory(session, dest, source, timeout), True
        session.move_directory(source, dest, timeout=timeout)
    _done(arguments, f"moved: {source} -> {dest}", atomic=atomic)


def _into_directory(session: SFTPSession, dest: str, source: str, timeout: float | None) -> str:
    """Return where a directory goes: into `dest` under its own name where that is a directory, as a file does."""
    there = session.stat(dest, timeout=timeout)
    is_directory = there is not None and there.kind == "directory"
    if not is_directory and not dest.endswith("/"):
        return dest
    return posixpath.join(dest, posixpath.basename(source.rstrip("/")))


def rm(session: SFTPSession, arguments: argparse.Namespace, _cancelled: threading.Event) -> None:
    """Delete files on the server; stop at the first failure."""
    _each(arguments, "deleted", lambda path: session.delete_file(path, timeout=arguments.timeout))


def mkdir(session: SFTPSession, arguments: argparse.Namespace, _cancelled: threading.Event) -> None:
    """Make directories on the server; stop at the first failure."""
    _each(arguments, "made", lambda path: session.create_directory(path, timeout=arguments.timeout))


def rmdir(session: SFTPSession, arguments: argparse.Namespace, cancelled: threading.Event) -> None:
    """Delete directories on the server; stop at the first failure."""

    def delete(path: str) -> None:
        session.delete_directory(path, recursive=arguments.recursive, timeout=arguments.timeout, cancelled=cancelled)

    _each(arguments, "deleted", delete)


def _each(arguments: argparse.Namespace, what: str, work: Callable[[str], object]) -> None:
    """Do something with each path; stop at the first failure, and show what was done before."""
    done: list[str] = []
    try:
        for path in arguments.paths:
            work(path)
            done.append(path)
    except SFTPError as error:
        if not arguments.json:
            raise
        document(**{what: done}, **failed(error))
        raise AlreadyShownError from error
    _done(arguments, f"{what}: {', '.join(done)}", **{what: done})


def describe(session: SFTPSession, arguments: argparse.Namespace, _cancelled: threading.Event) -> None:
    """Describe a file or directory."""
    entry = session.stat(arguments.path, timeout=arguments.timeout)
    if entry is None:
        raise NotFound(NO_SUCH_PATH, operation="stat", path=arguments.path)
    _done(arguments, _line(entry), **asdict(entry))


def _done(arguments: argparse.Namespace, words: str, **content: Any) -> None:
    if arguments.json:
        document(ok=True, **content)
    else:
        print(printable(words))


COMMANDS: dict[str, Callable[[SFTPSession, argparse.Namespace, threading.Event], None]] = {
    "ls": ls,
    "get": get,
    "put": put,
    "mv": mv,
    "rm": rm,
    "mkdir": mkdir,
    "rmdir": rmdir,
    "stat": describe,
}
