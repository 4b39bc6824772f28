"""The checks of the matrix: each is one thing that a user does, and its name is the sentence that is reported.

What arrived is compared on the disk of the server, or as another client reads it. Beside most stands how OpenSSH's
`sftp` does the same: it is asked only where we fail, to separate our failures from what cannot be done with a server.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
from tests.clients import client_of, settings_of
from tests.faulty_links import Break, BreakingRelay
from tests.interop.kinds import Kind
from tests.interop.peers import OpenSSH, PeerFailed, read_with_asyncssh
from tests.servers import Server

from iot.sftp.client import SFTPError, SFTPSession, TimeLimits, error_for_code

KIB, MIB = 1024, 1024 * 1024
LIMIT = 45.0  # seconds for one call
BROKEN_LINK = 12 * MIB  # bytes of a file that a link breaks in the middle of
MANY = 500
MODIFIED = 1_700_000_001
OTHER_BYTES = "OTHER BYTES"  # the worst there is: a success with bytes that are not the source's
SIZES = {"0 B": 0, "1 B": 1, "10 kB": 10_000, "32 KiB": 32 * KIB, "255 KiB": 255 * KIB, "5 MiB": 5 * MIB}
BEYOND_ASCII = ["grüße.txt", "日本語.txt"]
ODD_NAMES = [
    "two words.txt",
    "-rf",
    'it\'s "quoted".txt',
    "back\\slash",
    "*?[a].txt",
    "#hash;semi&and$dollar",
    " leading and trailing ",
    "x" * 200,
]


class Skipped(Exception):  # noqa: N818 - it says what happened
    """The check cannot be made on this machine; the text says why."""


@dataclass
class Target:
    """A running server, and a place for what one check does with it."""

    kind: Kind
    server: Server
    scratch: Path
    many: int = MANY
    folder: str = ""
    notes: list[str] = field(default_factory=list)

    def begin(self, name: str) -> None:
        """Make an empty folder on either side for the next check."""
        self.folder = f"{name[:40]}-{secrets.token_hex(3)}"
        self.on_disk("").mkdir(mode=0o755)
        self.notes.clear()
        self.local("").mkdir()

    def on_disk(self, name: str) -> Path:
        """Return where a file of the folder is on the server's disk."""
        return self.server.directory / self.folder / name

    def remote(self, name: str) -> str:
        """Return the path of a file of the folder, as a client names it."""
        return f"{self.folder}/{name}" if name else self.folder

    def local(self, name: str) -> Path:
        """Return a place on this side."""
        return self.scratch / self.folder / name

    def write(self, path: Path, size: int) -> Path:
        """Write a file with bytes that no other file has."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        return path

    @contextmanager
    def session(self, port: int | None = None) -> Iterator[SFTPSession]:
        """Give a session with the server."""
        limits = TimeLimits(connect=10, stall=15)
        more = {"port": port} if port else {}
        session = SFTPSession(settings_of(self.server, time_limits=limits, state=self.scratch / "state", **more))
        try:
            yield session
        finally:
            session.disconnect()

    @property
    def openssh(self) -> OpenSSH:
        """OpenSSH's `sftp`."""
        return OpenSSH(self.server, self.scratch)

    def same(self, remote: Path, local: Path) -> None:
        """Fail unless both files have the same bytes; a server that writes late is given the time it says it takes."""
        wanted = digest(local)
        give_up = time.monotonic() + self.kind.settles
        while digest(remote) != wanted and time.monotonic() < give_up:
            threading.Event().wait(0.2)
        found = digest(remote)
        assert found is not None, f"{remote.name} is not there"
        if found != wanted:
            raise AssertionError(
                f"{OTHER_BYTES}: {remote.name} has {remote.stat().st_size} bytes, {local.name} {local.stat().st_size}"
            )

    def nothing_left(self, directory: Path) -> None:
        """Fail if a temporary file of ours was left in a directory, unless the server lets nobody remove one."""
        left = sorted(name for name in os.listdir(directory) if ".iot-sftp" in name)
        assert not left or self.kind.refusing, f"left behind: {', '.join(left)}"


@dataclass(frozen=True)
class Check:
    """One row of the matrix.

    Attributes:
        name: the sentence, with underscores.
        ours: makes the check.
        theirs: does the same with OpenSSH's `sftp`.
        slow: it takes seconds, and is left to `make interop`.
        strict: other clients than `sftp` can do it everywhere (lftp, rclone): that `sftp` cannot is no excuse.
    """

    name: str
    ours: Callable[[Target], None]
    theirs: Callable[[Target], None] | None
    slow: bool = False
    strict: bool = False

    @property
    def sentence(self) -> str:
        """The name as it is reported."""
        return self.name.replace("_", " ")


CHECKS: list[Check] = []


def check(
    theirs: Callable[[Target], None] | None = None, *, name: str | None = None, slow: bool = False, strict: bool = False
) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    """Add a function to the matrix, beside what OpenSSH's `sftp` does in its place."""

    def add(ours: Callable[[Target], None]) -> Callable[[Target], None]:
        CHECKS.append(Check(name or ours.__name__, ours, theirs, slow, strict))
        return ours

    return add


def digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, `None` if it is not there."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while part := file.read(MIB):
                found.update(part)
    except FileNotFoundError:
        return None
    return found.hexdigest()


def quoted(path: object) -> str:
    """Return a path as a batch of `sftp` wants it."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def refused(code: str | tuple[str, ...], call: Callable[[], object]) -> None:
    """Fail unless a call raises the error of this code."""
    codes = (code,) if isinstance(code, str) else code
    error = failure(call)
    assert error, f"no failure instead of {' or '.join(codes)}"
    assert error.code in codes, f"{error.code} ({error}) instead of {' or '.join(codes)}"


def failure(call: Callable[[], object]) -> SFTPError | None:
    """Return how a call failed, `None` if it did not."""
    try:
        call()
    except SFTPError as error:
        return error
    return None


# Connecting and looking


def _sftp_connects(target: Target) -> None:
    target.openssh.run("pwd")


@check(_sftp_connects)
def connects_and_identifies_the_server(target: Target) -> None:
    with target.session() as session:
        info = session.connect()
        assert session.is_connected()
        assert info.host_key.startswith("SHA256:"), info
        target.notes.append(f"{info.cipher}, {', '.join(info.extensions) or 'no extensions'}")


def _sftp_sees(target: Target) -> None:
    target.on_disk("seen").touch()
    target.openssh.run(f"ls -l {target.remote('seen')}")


@check(_sftp_sees)
def reports_what_exists_and_what_does_not(target: Target) -> None:
    target.write(target.on_disk("file"), 5)
    target.on_disk("folder").mkdir()
    with target.session() as session:
        assert session.exists(target.remote("file"))
        assert session.exists(target.remote("folder"))
        assert session.exists(target.remote("missing")) is False
        assert session.exists(target.remote("missing/too")) is False


def sftp_lists(target: Target) -> None:
    for name in ("b", "a"):
        target.on_disk(name).touch()
    said = target.openssh.run(f"ls -1 {target.folder}")
    if f"{target.folder}/a" not in said:
        raise PeerFailed(f"it lists {said!r}")


@check(sftp_lists)
def lists_the_files_of_a_folder_sorted_and_without_folders(target: Target) -> None:
    for name in ("b.csv", "a.txt", "c.csv"):
        target.write(target.on_disk(name), 5)
    target.on_disk("folder").mkdir()
    target.on_disk("empty").mkdir()
    with target.session() as session:
        assert session.list_files(target.folder) == [target.remote(name) for name in ("a.txt", "b.csv", "c.csv")]
        assert session.list_files(target.folder, ".csv") == [target.remote(name) for name in ("b.csv", "c.csv")]
        assert session.list_files(target.remote("empty")) == []


@check(sftp_lists)
def describes_what_is_in_a_folder(target: Target) -> None:
    target.write(target.on_disk("file"), 1234)
    os.utime(target.on_disk("file"), (MODIFIED, MODIFIED))
    target.on_disk("folder").mkdir()
    with target.session() as session:
        found = {entry.path: entry for entry in session.scan(target.folder)}
    file, folder = found[target.remote("file")], found[target.remote("folder")]
    assert (file.kind, file.size, file.modified) == ("file", 1234, MODIFIED), file
    assert folder.kind == "directory", folder


def _sftp_lists_many(target: Target) -> None:
    _many_names(target)
    seen = target.openssh.run(f"ls -1 {target.folder}").count("\n")
    if seen < 3000:
        raise PeerFailed(f"it lists {seen} of 3000 names")


def _many_names(target: Target) -> None:
    for number in range(3000):
        target.on_disk(f"measurement-of-a-machine-{number:05}.csv").touch()


@check(_sftp_lists_many, slow=True, strict=True)
def lists_three_thousand_names(target: Target) -> None:
    _many_names(target)
    with target.session() as session:
        listed = session.list_files(target.folder, timeout=LIMIT)
    assert len(listed) == 3000, f"{len(listed)} of 3000"


def _sftp_names(names: list[str]) -> Callable[[Target], None]:
    def put_and_list(target: Target) -> None:
        source = target.write(target.local("source"), 100)
        for name in names:
            target.openssh.run(f"put {quoted(source)} {quoted(target.remote(name))}")
            if digest(target.on_disk(name)) != digest(source):
                raise PeerFailed(f"{name!r} did not arrive")
        target.openssh.run(f"ls -1 {target.folder}")

    return put_and_list


@check(_sftp_names(ODD_NAMES))
def moves_files_with_odd_names_both_ways(target: Target) -> None:
    _names_both_ways(target, ODD_NAMES)


@check(_sftp_names(BEYOND_ASCII))
def moves_files_with_names_beyond_ASCII_both_ways(target: Target) -> None:  # noqa: N802 - a sentence
    _names_both_ways(target, BEYOND_ASCII)


def _names_both_ways(target: Target, names: list[str]) -> None:
    with target.session() as session:
        for number, name in enumerate(names):
            source = target.write(target.local(f"source-{number}"), 100)
            session.upload_file(str(source), target.remote(name), timeout=LIMIT)
            target.same(target.on_disk(name), source)
        assert sorted(session.list_files(target.folder)) == sorted(target.remote(name) for name in names)
        for number, name in enumerate(names):
            copy = target.local(f"copy-{number}")
            session.download_file(target.remote(name), str(copy), timeout=LIMIT)
            assert digest(copy) == digest(target.local(f"source-{number}")), f"{OTHER_BYTES}: {name!r}"
            session.delete_file(target.remote(name), timeout=LIMIT)
            assert not target.on_disk(name).exists(), name


# One file


def sftp_of_size(size: int) -> Callable[[Target], None]:
    def there_and_back(target: Target) -> None:
        source, copy = target.write(target.local("source"), size), target.local("copy")
        target.openssh.run(f"put {source} {target.remote('file')}", f"get {target.remote('file')} {copy}")
        if digest(copy) != digest(source):
            raise PeerFailed("it has other bytes afterwards")

    return there_and_back


def _there_and_back(target: Target, size: int) -> None:
    source, copy = target.write(target.local("source"), size), target.local("copy")
    with target.session() as session:
        done = session.upload_file(str(source), target.remote("file"), timeout=LIMIT)
        assert done.bytes == size
        target.same(target.on_disk("file"), source)
        done = session.download_file(target.remote("file"), str(copy), timeout=LIMIT)
        assert done.bytes == size
    assert digest(copy) == digest(source), f"{OTHER_BYTES} in the download"
    target.nothing_left(target.on_disk(""))
    target.nothing_left(target.local(""))


def _add_sizes() -> None:
    for words, size in (SIZES | {"40 MiB": 40 * MIB}).items():

        def of_this_size(target: Target, size: int = size) -> None:
            _there_and_back(target, size)

        name = f"moves_{words.replace(' ', '_')}_there_and_back"
        check(sftp_of_size(size), name=name, slow=size > 5 * MIB)(of_this_size)


_add_sizes()


def _sftp_puts(target: Target) -> None:
    target.openssh.run(f"put {target.write(target.local('source'), 10_000)} {target.remote('file')}")


@check(_sftp_puts)
def uploads_new_files_without_reading_them_back(target: Target) -> None:
    with target.session() as session:
        for size in (0, 1, 255 * KIB, 5 * MIB):
            source = target.write(target.local(f"source-{size}"), size)
            done = session.upload_file(str(source), target.remote(f"file-{size}"), timeout=LIMIT)
            target.same(target.on_disk(f"file-{size}"), source)
            assert done.bytes == size
            target.notes[:] = ["atomic" if done.atomic else "not atomic"]


def _sftp_keeps(target: Target) -> None:
    source = _dated(target.write(target.local("source"), 100))
    target.openssh.run(f"put -p {source} {target.remote('file')}", check=False)
    if not target.on_disk("file").exists() or _attributes(target.on_disk("file")) != _attributes(source):
        raise PeerFailed("`put -p` sets no mode and time either")


def _dated(path: Path) -> Path:
    path.chmod(0o640)
    os.utime(path, (MODIFIED, MODIFIED))
    return path


def _attributes(path: Path) -> tuple[int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), int(found.st_mtime)


@check(_sftp_keeps)
def keeps_the_time_of_an_upload(target: Target) -> None:
    source = _dated(target.write(target.local("source"), 100))
    with target.session() as session:
        session.upload_file(str(source), target.remote("file"), timeout=LIMIT)
    target.same(target.on_disk("file"), source)
    mode, modified = _attributes(target.on_disk("file"))
    target.notes.append(f"mode {mode:04o} of 0640")
    assert modified == MODIFIED, f"its time is {modified - MODIFIED} s later"


def _sftp_gets(target: Target) -> None:
    source = _dated(target.write(target.on_disk("file"), 100))
    copy = target.local("copy")
    target.openssh.run(f"get -p {target.remote('file')} {copy}")
    if _attributes(copy)[1] != _attributes(source)[1]:
        raise PeerFailed("`get -p` keeps no time either")


@check(_sftp_gets)
def keeps_the_time_of_a_download(target: Target) -> None:
    source = _dated(target.write(target.on_disk("file"), 100))
    with target.session() as session:
        session.download_file(target.remote("file"), str(target.local("copy")), timeout=LIMIT)
    target.same(source, target.local("copy"))
    assert _attributes(target.local("copy"))[1] == MODIFIED


def _sftp_replaces(target: Target) -> None:
    source = target.write(target.local("new"), 300)
    target.write(target.on_disk("file"), 200)
    target.openssh.run(f"put {source} {target.remote('file')}")
    if digest(target.on_disk("file")) != digest(source):
        raise PeerFailed("the old file is still there")


@check(_sftp_replaces)
def replaces_a_file_that_is_there(target: Target) -> None:
    target.write(target.on_disk("file"), 70_000)
    source = target.write(target.local("new"), 30_000)
    with target.session() as session:
        done = session.upload_file(str(source), target.remote("file"), timeout=LIMIT)
        target.same(target.on_disk("file"), source)
        target.notes.append("replaced atomically" if done.atomic else "replaced, not atomically")
        copy = target.write(target.local("copy"), 10)
        session.download_file(target.remote("file"), str(copy), timeout=LIMIT)
    assert digest(copy) == digest(source)
    target.nothing_left(target.on_disk(""))


def _sftp_moves(target: Target) -> None:
    target.write(target.on_disk("from"), 100)
    target.openssh.run(f"rename {target.remote('from')} {target.remote('to')}")
    if not target.on_disk("to").exists():
        raise PeerFailed("`rename` did nothing")


@check(_sftp_moves)
def moves_a_file_into_a_new_folder_and_over_another(target: Target) -> None:
    first, second = target.write(target.on_disk("first"), 100), target.write(target.on_disk("second"), 200)
    wanted, other = digest(first), digest(second)
    with target.session() as session:
        session.move_file(target.remote("first"), target.remote("new/folder/file"), timeout=LIMIT)
        assert not first.exists()
        assert digest(target.on_disk("new/folder/file")) == wanted
        session.move_file(target.remote("second"), target.remote("new/folder/file"), timeout=LIMIT)
        assert not second.exists()
        assert digest(target.on_disk("new/folder/file")) == other


@check(_sftp_moves)
def keeps_the_old_file_in_the_backup_before_it_is_replaced(target: Target) -> None:
    target.local("out").mkdir(exist_ok=True)
    old = digest(target.write(target.on_disk("file"), 70_000))
    source = target.write(target.local("out/file"), 30_000)
    with target.session() as session:
        done = session.upload_files(
            str(target.local("out")),
            target.folder,
            if_exists="backup",
            backup_to=target.remote("old"),
            timeout=LIMIT,
        )
    if done.failures:
        assert digest(target.on_disk("file")) == old, "the old file is lost"
        raise error_for_code(done.failures[0].code)(done.failures[0].message)
    target.same(target.on_disk("file"), source)
    assert digest(target.on_disk("old/file")) == old, "the old file is lost"


def _sftp_deletes(target: Target) -> None:
    target.write(target.on_disk("file"), 100)
    target.openssh.run(f"rm {target.remote('file')}")
    if target.on_disk("file").exists():
        raise PeerFailed("`rm` did nothing")


@check(_sftp_deletes)
def deletes_a_file_and_refuses_a_folder(target: Target) -> None:
    target.write(target.on_disk("file"), 100)
    target.on_disk("folder").mkdir()
    with target.session() as session:
        session.delete_file(target.remote("file"), timeout=LIMIT)
        assert not target.on_disk("file").exists()
        refused("is_a_directory", lambda: session.delete_file(target.remote("folder"), timeout=LIMIT))
        refused("not_found", lambda: session.delete_file(target.remote("file"), timeout=LIMIT))
        assert target.on_disk("folder").is_dir()


def _sftp_makes_folders(target: Target) -> None:
    source = target.write(target.local("source"), 100)
    target.openssh.run(
        f"mkdir {target.remote('a')}", f"mkdir {target.remote('a/b')}", f"put {source} {target.remote('a/b/c')}"
    )


@check(_sftp_makes_folders)
def makes_the_folders_that_are_missing(target: Target) -> None:
    source = target.write(target.local("source"), 100)
    with target.session() as session:
        session.upload_file(str(source), target.remote("a/b/c/file"), timeout=LIMIT)
        target.same(target.on_disk("a/b/c/file"), source)
        session.upload_file(str(source), target.remote("a/b/"), timeout=LIMIT)
        target.same(target.on_disk("a/b/source"), source)
        if not target.kind.refusing:
            session.download_file(target.remote("a/b/c/file"), str(target.local("x/y/file")), timeout=LIMIT)
            target.same(target.local("x/y/file"), source)


@check()
def names_what_is_missing(target: Target) -> None:
    with target.session() as session:
        session.connect()
        there = target.local("copy")
        refused("not_found", lambda: session.download_file(target.remote("missing"), str(there), timeout=LIMIT))
        refused("not_found", lambda: session.download_file(target.remote("no/such/file"), str(there), timeout=LIMIT))
        refused("not_found", lambda: session.move_file(target.remote("missing"), target.remote("x"), timeout=LIMIT))
        refused(
            "not_found", lambda: session.upload_file(str(target.local("missing")), target.remote("x"), timeout=LIMIT)
        )
    assert not there.exists()


def _sftp_follows(target: Target) -> None:
    _link(target)
    target.openssh.run(
        f"get {target.remote('link')} {target.local('copy')}",
        f"get {target.remote('link-to-folder/inside')} {target.local('inside')}",
        f"rm {target.remote('link')}",
    )


def _link(target: Target) -> None:
    target.write(target.on_disk("file"), 100)
    target.on_disk("link").symlink_to("file")
    target.on_disk("folder").mkdir()
    target.write(target.on_disk("folder/inside"), 50)
    target.on_disk("link-to-folder").symlink_to("folder")


@check(_sftp_follows)
def follows_links_when_reading_and_deletes_only_the_link(target: Target) -> None:
    _link(target)
    with target.session() as session:
        session.download_file(target.remote("link"), str(target.local("copy")), timeout=LIMIT)
        target.same(target.local("copy"), target.on_disk("file"))
        session.download_file(target.remote("link-to-folder/inside"), str(target.local("inside")), timeout=LIMIT)
        target.same(target.local("inside"), target.on_disk("folder/inside"))
        assert session.exists(target.remote("link"))
        session.delete_file(target.remote("link"), timeout=LIMIT)
    assert not os.path.lexists(target.on_disk("link"))
    assert target.on_disk("file").exists(), "the link's target is gone"


# What breaks


@contextmanager
def _breaking(target: Target) -> Iterator[tuple[SFTPSession, BreakingRelay]]:
    relay = BreakingRelay((target.server.host, target.server.port))
    with relay.running() as port, target.session(port) as session:
        session.connect()
        yield session, relay


@check(sftp_of_size(5 * MIB))
def finishes_an_upload_whose_link_broke(target: Target) -> None:
    source = target.write(target.local("source"), BROKEN_LINK)
    target.write(target.on_disk("file"), 1000)
    with _breaking(target) as (session, relay):
        relay.break_at(Break(BROKEN_LINK // 2, down=False))
        done = session.upload_file(str(source), target.remote("file"), timeout=LIMIT)
    assert relay.broken.is_set()
    target.same(target.on_disk("file"), source)
    target.nothing_left(target.on_disk(""))
    target.notes.append(f"resumed at {done.resumed / MIB:.1f} of {BROKEN_LINK / MIB:.0f} MiB")


@check(sftp_of_size(5 * MIB))
def finishes_a_download_whose_link_broke(target: Target) -> None:
    source = target.write(target.on_disk("file"), BROKEN_LINK)
    copy = target.write(target.local("copy"), 1000)
    with _breaking(target) as (session, relay):
        relay.break_at(Break(BROKEN_LINK // 2, down=True))
        done = session.download_file(target.remote("file"), str(copy), timeout=LIMIT)
    assert relay.broken.is_set()
    assert digest(copy) == digest(source), f"{OTHER_BYTES} in the download"
    target.nothing_left(target.local(""))
    target.notes.append(f"resumed at {done.resumed / MIB:.1f} of {BROKEN_LINK / MIB:.0f} MiB")


def _kill(server: Server) -> None:
    """Kill a server, and the processes of its sessions; where one is started for each connection, kill those."""
    if server.process:
        root = psutil.Process(server.process.pid)
        victims = [root, *root.children(recursive=True)]
    else:
        mine = psutil.Process().children(recursive=True)
        victims = [process for process in mine if process.name() == "tinysshd"]
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)


def _kill_and_cut(server: Server, relay: BreakingRelay) -> None:
    _kill(server)
    relay.cut()


@check(sftp_of_size(5 * MIB), slow=True)
def keeps_the_old_file_when_the_server_is_killed(target: Target) -> None:
    base = target.scratch / f"{target.folder}-server"
    base.mkdir()
    source = target.write(target.local("source"), BROKEN_LINK)
    with target.kind.start(base) as server:
        victim = Target(target.kind, server, target.scratch)
        victim.begin("killed")
        old = digest(victim.write(victim.on_disk("file"), 5000))
        place, name = victim.on_disk("file"), victim.remote("file")
        with _breaking(victim) as (session, relay):
            relay.break_at(Break(BROKEN_LINK // 2, down=False, how=partial(_kill_and_cut, server, relay)))
            if server.process:
                refused(
                    ("connection_lost", "unreachable", "deadline_exceeded"),
                    lambda: session.upload_file(str(source), name, timeout=5),
                )
                assert relay.broken.is_set()
                assert digest(place) == old, "the old file has changed"
            else:
                session.upload_file(str(source), name, timeout=LIMIT)
                assert digest(place) == digest(source)
    if not place.parent.exists():
        target.notes.append("its directory ends with it")
        return
    with target.kind.start(base) as server:
        again = Target(target.kind, server, target.scratch)
        with again.session() as session:
            session.upload_file(str(source), name, timeout=LIMIT)
        again.same(place, source)


# Many


@check(sftp_of_size(255 * KIB))
def does_many_things_at_once(target: Target) -> None:
    sources = [target.write(target.local(f"source-{number}"), 300_000 + number) for number in range(12)]

    def work(session: SFTPSession, number: int) -> None:
        name = target.remote(f"file-{number}")
        session.upload_file(str(sources[number]), name, timeout=LIMIT)
        assert session.exists(name)
        session.download_file(name, str(target.local(f"copy-{number}")), timeout=LIMIT)

    with target.session() as session, ThreadPoolExecutor(6) as pool:
        session.connect()
        for done in [pool.submit(work, session, number) for number in range(12)]:
            done.result()
    for number, source in enumerate(sources):
        target.same(target.on_disk(f"file-{number}"), source)
        target.same(target.local(f"copy-{number}"), source)


def _folder(target: Target, place: Path) -> list[str]:
    names = [f"part-{number % 5}/file-{number:03}.bin" for number in range(target.many)]
    for number, name in enumerate(names):
        target.write(place / name, 300_000 if number % 50 == 49 else 1000 + number)
    return names


def _sftp_puts_folder(target: Target) -> None:
    names = _folder(target, target.local("tree"))
    target.on_disk("tree").mkdir()  # or `sftp` asks for the real path of what is not there, which not every server has
    target.openssh.run(f"put -r {target.local('tree')} {target.folder}")
    wrong = [name for name in names if digest(target.on_disk("tree") / name) != digest(target.local("tree") / name)]
    if wrong:
        raise PeerFailed(f"{len(wrong)} of {len(names)} files have other bytes or are missing")


@check(_sftp_puts_folder, strict=True)
def uploads_a_folder_of_500_files(target: Target) -> None:
    names = _folder(target, target.local("tree"))
    with target.session() as session:
        done = session.upload_files(str(target.local("tree")), target.remote("tree"), recursive=True, timeout=2 * LIMIT)
    _all_arrived(target, names, done.files, done.failed, [str(failure) for failure in done.failures])


def _all_arrived(target: Target, names: list[str], transferred: int, failed: int, failures: list[str]) -> None:
    remote, local = target.on_disk("tree"), target.local("tree")
    give_up = time.monotonic() + target.kind.settles
    wrong = names
    while wrong and (wrong is names or time.monotonic() < give_up):
        wrong = [name for name in wrong if digest(remote / name) != digest(local / name)]
    missing = [name for name in wrong if not ((remote / name).exists() and (local / name).exists())]
    if others := len(wrong) - len(missing):
        raise AssertionError(
            f"{OTHER_BYTES} in {others} of {len(names)} files, of which {transferred} are reported as arrived"
        )
    assert not wrong, f"{len(wrong)} of {len(names)} files are missing; reported: {failed} failed; {failures[:1]}"
    assert (transferred, failed) == (len(names), 0), (transferred, failed, failures[:1])


def _sftp_gets_folder(target: Target) -> None:
    names = _folder(target, target.on_disk("tree"))
    target.openssh.run(f"get -r {target.remote('tree')} {target.local('tree')}")
    wrong = [name for name in names if digest(target.on_disk("tree") / name) != digest(target.local("tree") / name)]
    if wrong:
        raise PeerFailed(f"{len(wrong)} of {len(names)} files have other bytes or are missing")


@check(_sftp_gets_folder, strict=True)
def downloads_a_folder_of_500_files(target: Target) -> None:
    names = _folder(target, target.on_disk("tree"))
    with target.session() as session:
        done = session.download_files(
            target.remote("tree"), str(target.local("tree")), recursive=True, timeout=2 * LIMIT
        )
    _all_arrived(target, names, done.files, done.failed, [str(failure) for failure in done.failures])


@check(sftp_of_size(255 * KIB))
def proves_the_bytes_by_their_hash(target: Target) -> None:
    source, copy = target.write(target.local("source"), 3 * MIB), target.local("copy")
    with target.session() as session:
        up = session.upload_file(str(source), target.remote("file"), verify="sha256", timeout=LIMIT)
        down = session.download_file(target.remote("file"), str(copy), verify="sha256", timeout=LIMIT)
    target.same(target.on_disk("file"), source)
    target.same(copy, source)
    target.notes.append(f"up: {up.verified}, down: {down.verified}")


# Targets that refuse


@contextmanager
def _mounted(place: Path, *options: str) -> Iterator[None]:
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small file system")
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", ",".join(["mode=777", *options]), "iot-sftp-interop", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)  # it may be done already


def _sftp_is_refused(name: str, size: int, *options: str) -> Callable[[Target], None]:
    def is_refused(target: Target) -> None:
        source = target.write(target.local("source"), size)
        with _mounted(target.on_disk(name), *options):
            try:
                target.openssh.run(f"put {source} {target.remote(name)}/file")
            except PeerFailed:
                return
        raise PeerFailed("it reports success, too")

    return is_refused


@check(_sftp_is_refused("locked", 100, "ro"))
def says_that_a_folder_is_read_only(target: Target) -> None:
    source = target.write(target.local("source"), 100)
    with target.session() as session:
        session.connect()
        if os.geteuid() == 0:
            with _mounted(target.on_disk("locked"), "ro"):
                _is_refused(target, session, source)
        else:
            target.on_disk("locked").mkdir(mode=0o555)
            _is_refused(target, session, source)


def _is_refused(target: Target, session: SFTPSession, source: Path) -> None:
    name = target.remote("locked/file")
    refused("permission_denied", lambda: session.upload_file(str(source), name, timeout=LIMIT))
    assert os.listdir(target.on_disk("locked")) == []


@check(_sftp_is_refused("small", 3 * MIB, "size=1m"))
def says_that_the_disk_is_full(target: Target) -> None:
    source = target.write(target.local("source"), 3 * MIB)
    with target.session() as session, _mounted(target.on_disk("small"), "size=1m"):
        old = digest(target.write(target.on_disk("small/file"), 1000))
        session.connect()
        error = failure(lambda: session.upload_file(str(source), target.remote("small/file"), timeout=LIMIT))
        assert error, "what does not fit has arrived"
        assert error.code in {"no_space", "permission_denied", "transfer_incomplete"}, f"{error.code}: {error}"
        target.notes.append(f"a full disk is reported as {error.code}")
        session.disconnect()
        assert digest(target.on_disk("small/file")) == old, "the old file has changed"
        target.nothing_left(target.on_disk("small"))


# The command line, and others


def _command(target: Target, *words: str) -> subprocess.CompletedProcess[str]:
    server = target.server
    login = ["--key-file", str(server.key_file)] if server.key_file else []
    if server.password:
        secret = target.scratch / "password"
        secret.write_text(server.password)
        login = ["--password-file", str(secret)]
    where = ["--host", server.host, "--port", str(server.port), "--user", server.user]
    trust = ["--known-hosts", str(target.scratch / "known_hosts")]
    command = [sys.executable, "-m", "iot.sftp.command_line", words[0], *where, *login, *trust, *words[1:]]
    env = os.environ | {"HOME": str(target.scratch)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=2 * LIMIT, check=False)


@check(_sftp_puts, slow=True)
def finds_nothing_wrong_with_iot_sftp_check(target: Target) -> None:
    done = _command(target, "check", "--timeout", "20", "--write", target.folder)
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("✗", "FAILED", "iot-sftp"))]
    assert done.returncode == 0, " ".join(wrong[:2])
    assert target.kind.refusing or os.listdir(target.on_disk("")) == []


def _sftp_does_all(target: Target) -> None:
    source, copy = target.write(target.local("source"), 50_000), target.local("copy")
    name, other = target.remote("file"), target.remote("other")
    target.openssh.run(
        f"put {source} {name}", f"ls {name}", f"get {name} {copy}", f"rename {name} {other}", f"rm {other}"
    )


@check(_sftp_does_all, slow=True)
def does_the_same_from_the_command_line(target: Target) -> None:
    source, copy = target.write(target.local("source"), 50_000), target.local("copy")
    name, other = target.remote("file"), target.remote("other")
    for words in (
        ("put", str(source), name),
        ("ls", target.folder),
        ("stat", name),
        ("get", name, str(copy)),
        ("mv", name, other),
        ("rm", other),
    ):
        done = _command(target, *words)
        assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
        if words[0] == "put":
            target.same(target.on_disk("file"), source)
        if words[0] == "ls":
            assert "file" in done.stdout, done.stdout
    assert digest(copy) == digest(source)
    assert os.listdir(target.on_disk("")) == []


@check(sftp_of_size(255 * KIB), slow=True)
def others_read_what_we_wrote(target: Target) -> None:
    source, copy = target.write(target.local("source"), 300_000), target.local("copy")
    with target.session() as session:
        session.upload_file(str(source), target.remote("file"), timeout=LIMIT)
    readers = 0
    with suppress(PeerFailed):  # `sftp get` wants to look at a file before it reads it
        target.openssh.run(f"get {target.remote('file')} {copy}")
        assert digest(copy) == digest(source), "OpenSSH's sftp reads other bytes"
        readers += 1
    with suppress(PeerFailed):
        read = read_with_asyncssh(target.server, target.remote("file"))
        assert hashlib.sha256(read).hexdigest() == digest(source), "asyncssh reads other bytes"
        readers += 1
    assert readers, "neither sftp nor asyncssh can read it"
    target.notes.append(f"{readers} of 2 others can read here")


@check(sftp_of_size(255 * KIB), slow=True)
def we_read_what_others_wrote(target: Target) -> None:
    source, copy = target.write(target.local("source"), 300_000), target.local("copy")
    target.openssh.run(f"put {source} {target.remote('file')}")
    with target.session() as session:
        session.download_file(target.remote("file"), str(copy), timeout=LIMIT)
    assert digest(copy) == digest(source), f"{OTHER_BYTES} in the download"


@check(sftp_of_size(10_000))
def the_client_of_the_first_contract_works(target: Target) -> None:
    """`IoTSFTPClient` itself: what a caller of the library sees."""
    source, copy = target.write(target.local("source"), 20_000), target.local("copy")
    with client_of(target.server, known_hosts=str(target.scratch / "known_hosts")) as client:
        assert client.is_connected(), client.last_error
        assert client.upload_file(str(source), target.remote("file")), client.last_error
        assert client.exists(target.remote("file")), client.last_error
        assert client.list_files(target.folder) == [target.remote("file")], client.last_error
        assert client.download_file(target.remote("file"), str(copy)), client.last_error
        assert client.delete_file(target.remote("file")), client.last_error
        assert not client.exists(target.remote("file")), client.last_error
        assert client.last_error is None
    assert digest(copy) == digest(source)
