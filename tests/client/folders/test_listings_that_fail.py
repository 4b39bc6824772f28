"""A listing of the destination that fails is no failure of the folder: each file is asked about by itself."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients import set_retry_policy
from tests.faulty_servers import (
    DIRECTORY,
    FAILURE,
    FILE,
    NO_SUCH_FILE,
    OK,
    PASSWORD,
    PERMISSION_DENIED,
    FaultyServer,
    GrantsOneChannel,
    attributes,
    attrs,
    names,
    status,
    stop,
)
from tests.folders import OLD, fill, many

from iot.sftp.client import FolderTransfer, Secret, ServerSettings, SFTPSession, TimeLimits
from iot.sftp.client._base import memory
from iot.sftp.client._folders import compared_listings
from iot.sftp.client._folders.compared_listings import WORTH_A_LISTING
from iot.sftp.client._ssh.packets import Kind, Reader, string

FOLDERS = 3
FILES = {
    f"sub{folder}/{name}": content
    for folder in range(FOLDERS)
    for name, content in many(2 * WORTH_A_LISTING, size=9).items()
}


class Folders(FaultyServer):
    """Has directories, and one listing that is not answered with the truth.

    Parameters:
        list_names: gives the answer to the first READDIR of a directory, by what it holds.
    """

    modified = OLD

    def __init__(self, list_names: Callable[[dict[bytes, int]], bytes] | None = None) -> None:
        super().__init__()
        self.list_names = list_names
        self.listed = 0

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.READDIR:
            handle = fields.string()
            path = self._open.pop(handle, None)
            if path is None:
                return status(1)
            self.listed += 1
            held = {
                name.rpartition("/")[2].encode(): len(content)
                for name, content in self.files.items()
                if name.rpartition("/")[0] == path
            }
            return listing(held) if self.list_names is None else self.list_names(held)
        if kind in {Kind.MKDIR, Kind.SETSTAT}:
            return status(OK)
        return super().truth(kind, fields)

    def _attributes(self, path: str) -> bytes:
        if path not in self.files and not path.rpartition("/")[2].startswith(("file", ".iot")):
            return attrs(None, DIRECTORY)
        return super()._attributes(path)


def listing(held: dict[bytes, int], modified: int = OLD) -> bytes:
    entries = b"".join(string(name) + string(b"") + attributes(size, FILE, modified) for name, size in held.items())
    return struct.pack(">BI", Kind.NAME, len(held)) + entries


@pytest.fixture
def source(tmp_path: Path) -> Path:
    fill(tmp_path / "in", FILES)
    return tmp_path / "in"


@pytest.fixture
def transfer(source: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FaultyServer], FolderTransfer]:
    set_retry_policy(monkeypatch, first_pause=0.01)
    monkeypatch.setattr(compared_listings, "SECONDS_FOR_EACH", 1.0)

    def run(server: FaultyServer) -> FolderTransfer:
        with server.running() as port:
            limits = TimeLimits(connect=30, stall=2)
            session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), time_limits=limits))
            try:
                return session.upload_files(str(source), "out", if_exists="skip_same", recursive=True, timeout=60)
            finally:
                session.disconnect()

    return run


def has_all(server: FaultyServer, done: FolderTransfer) -> None:
    """Half of the files were there, the others are by now; none is sent twice, and nothing has failed."""
    assert (done.skipped, done.files, done.failed) == (len(FILES) // 2, len(FILES) // 2, 0)
    assert {path: bytes(content) for path, content in server.files.items()} == {
        f"out/{path}": content for path, content in FILES.items()
    }


def half_filled(server: Folders) -> Folders:
    server.files |= {f"out/{path}": bytearray(FILES[path]) for path in sorted(FILES)[::2]}
    return server


HANG_UP = b"hang up"
REFUSALS = {
    "permission_denied": status(PERMISSION_DENIED),
    "failure": status(FAILURE, "Failure"),
    "not_there": status(NO_SUCH_FILE),
    "too_many_open": status(FAILURE, "Too many open files"),
    "no_space": status(FAILURE, "No space left on device"),
    "no_connection_to_its_storage": status(6),
    "another_kind": attrs(1),
    "cut_off": struct.pack(">BI", Kind.NAME, 1000) + string(b"file-00000"),
    "hangs_up": HANG_UP,
    "silence": b"",
}


@pytest.mark.parametrize("asked", [Kind.OPENDIR, Kind.READDIR])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_listing_that_fails_is_no_failure_of_the_folder(
    transfer: Callable[[FaultyServer], FolderTransfer], asked: Kind, refusal: str
) -> None:
    server = half_filled(Folders())

    def refuse(_: Reader) -> bytes:
        if REFUSALS[refusal] == HANG_UP:
            stop(server.transports[-1])
        return REFUSALS[refusal]

    server.answer_with({asked: refuse})
    has_all(server, transfer(server))


def test_one_silent_listing_is_waited_for_in_a_call(transfer: Callable[[FaultyServer], FolderTransfer]) -> None:
    server = half_filled(Folders())
    asked = []

    def say_nothing(_: Reader) -> bytes:
        asked.append(1)
        return b""

    server.answer_with({Kind.OPENDIR: say_nothing})
    has_all(server, transfer(server))
    assert len(asked) <= FOLDERS


@pytest.mark.parametrize("grants_another_channel", [True, False])
def test_a_listing_that_memory_does_not_take_is_no_failure(
    transfer: Callable[[FaultyServer], FolderTransfer],
    monkeypatch: pytest.MonkeyPatch,
    grants_another_channel: bool,
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 1024 * 1024)
    server = half_filled(Folders(lambda _: listing({b"%0200d" % n: 1 for n in range(2000)})))
    if not grants_another_channel:
        monkeypatch.setattr(FaultyServer, "check_channel_request", GrantsOneChannel.check_channel_request)
    has_all(server, transfer(server))


ODD_LISTINGS: dict[str, Callable[[dict[bytes, int]], bytes]] = {
    "dots": lambda held: listing({b".": 1, b"..": 1, b"": 1} | held),
    "paths": lambda held: listing({b"out/sub0/" + name: size for name, size in held.items()}),
    "other_case": lambda held: listing({name.upper(): size for name, size in held.items()}),
    "no_attributes": lambda held: names(*held, mode=None, sizes=tuple(held.values())),
    "no_times": lambda held: names(*held, mode=FILE, sizes=tuple(held.values())),
    "other_times": lambda held: listing(held, OLD + 1),
    "directories": lambda held: names(*held, mode=DIRECTORY, sizes=tuple(held.values())),
    "links": lambda held: names(*held, mode=0o120777, sizes=tuple(held.values())),
    "other_sizes": lambda held: listing({name: size + 1 for name, size in held.items()}),
    "empty": lambda _: listing({}),
}


@pytest.mark.parametrize("odd", ODD_LISTINGS)
def test_what_a_listing_does_not_show_is_asked_about(
    transfer: Callable[[FaultyServer], FolderTransfer], odd: str
) -> None:
    server = half_filled(Folders(ODD_LISTINGS[odd]))
    has_all(server, transfer(server))
    assert server.listed
