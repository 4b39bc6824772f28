"""A transfer that broke resumes from what is proven to be there, and from the beginning if anything contradicts it."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.clients import session_of, set_retry_policy
from tests.faulty_links import Action, Break, BreakingRelay
from tests.folders import Suffix
from tests.records import let_pass
from tests.servers import Server, openssh
from tests.victims import victims

from iot.sftp.client import (
    Busy,
    Cancelled,
    Direction,
    FolderOrder,
    Markers,
    Selection,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Transfer,
)
from iot.sftp.client._folders.folder_plan import FolderPlan
from iot.sftp.client._transfer.abandoned_transfers import LATE
from iot.sftp.client._transfer.resume_records import KEPT_FOR, WORTH_KEEPING, ResumeRecords, ResumeState

SIZE = 4 * 1024 * 1024
OLD, NEW = b"old" * 1000, os.urandom(SIZE)
LATER = b"changed" + NEW[7:]
PARTIAL = ".iot-sftp-"
MODIFIED = 1_700_000_000
MOST_OVERHEAD = SIZE // 50 + 300_000  # bytes of SSH and SFTP around the file's, and one block that is compared


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a deadline is tried once: the next call is the one that goes on."""
    set_retry_policy(monkeypatch, attempts=1)


@pytest.fixture(params=["download", "upload"])
def direction(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@dataclass
class Work:
    """A file on one side, an old one at its destination on the other, and a link that breaks between them."""

    source: Path
    dest: Path
    relay: BreakingRelay
    state: Path
    session: SFTPSession
    again: Callable[..., Transfer]
    down: bool

    @property
    def order(self) -> tuple[str, str, str]:
        """What another process is told to do the same."""
        method = self.again
        assert isinstance(method, partial)
        return method.func.__name__, *method.args

    def begin_anew(self) -> None:
        self.relay.break_at(None)
        self.source.write_bytes(NEW)
        os.utime(self.source, (MODIFIED, MODIFIED))
        self.dest.write_bytes(OLD)

    def break_at(self, point: Break) -> bool:
        """Transfer over a link that breaks; tell whether that is what ended it."""
        self.session.exists(".", timeout=60)
        self.relay.break_at(point)
        code = ""
        try:
            self.again()
        except SFTPError as error:
            code = error.code
        assert code in {"", "connection_lost", "unreachable"}
        # The answer to the last request, which puts the new file in its place, may be what is lost.
        assert self.dest.read_bytes() in ((OLD, NEW) if code else (NEW,))
        self.relay.break_at(None)
        return bool(code)

    def break_in_the_middle(self) -> None:
        """Break when about the half is proven to be there: a server may take its time to answer to an upload."""
        self.begin_anew()
        self.session.limit_bandwidth(2 * SIZE)
        with pytest.raises(SFTPError, match=r"broke|closed"):
            self.again(progress=when(SIZE // 4, self.relay.cut))
        self.session.limit_bandwidth(None)
        assert self.dest.read_bytes() == OLD

    def is_whole_with_nothing_beside_it(self) -> None:
        assert self.dest.read_bytes() == NEW
        assert self.partials() == []
        assert self.records() == []

    def partials(self) -> list[Path]:
        return [path for path in self.dest.parent.iterdir() if path.name.startswith(PARTIAL)]

    def records(self) -> list[Path]:
        return sorted(self.state.iterdir()) if self.state.is_dir() else []

    def break_before_it_was_opened(self) -> Path:
        """Leave what a try leaves whose request to open the temporary file is under way; return that file's path."""
        self.break_in_the_middle()
        self.change_record(whole=0, opened=False)
        self.session.disconnect()
        (partial,) = self.partials()
        partial.unlink()
        return partial

    def change_record(self, **fields: object) -> None:
        (path,) = self.records()
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@contextmanager
def work(server: Server, tmp_path: Path, direction: str, *, stall: float = 30, **options: object) -> Iterator[Work]:
    here, there = tmp_path / "here", server.directory / f"resume-{tmp_path.parent.name}-{tmp_path.name}"
    here.mkdir()
    there.mkdir()
    relay = BreakingRelay((server.host, server.port))
    options = {"state": tmp_path / "state", "time_limits": TimeLimits(stall=stall)} | options
    with relay.running() as port, session_of(server, port=port, **options) as session:
        if direction == "download":
            source, dest = there / "source", here / "dest"
            again = partial(session.download_file, f"{there.name}/source", str(dest))
        else:
            source, dest = here / "source", there / "dest"
            again = partial(session.upload_file, str(source), f"{there.name}/dest")
        yield Work(source, dest, relay, tmp_path / "state", session, again, direction == "download")


def when(moved: int, action: Action) -> Callable[[int, int | None], None]:
    """Return a `progress` that does something, once, when more than so many bytes are there."""
    to_do = [action]

    def progress(done: int, _: int | None) -> None:
        if done > moved and to_do:
            to_do.pop()()

    return progress


def random_points(number: int, size: int = SIZE + 60_000) -> Iterator[int]:
    """Give so many points of a transfer, evenly spread by chance, others in each run; a failure tells which."""
    for part in range(number):
        point = int((part + random.random()) * size / number) + 1  # noqa: S311 - not a secret
        print(f"at byte {point}")  # noqa: T201 - shown when it fails
        yield point


# --- broken links ----------------------------------------------------------------------------------------------------


def test_a_cut_at_any_byte_leaves_the_old_file_and_the_next_attempt_resumes(
    server: Server, tmp_path: Path, direction: str
) -> None:
    points = 6 if server.password is None else 4
    broken = 0
    with work(server, tmp_path, direction) as transfer:
        for after in random_points(points):
            transfer.begin_anew()
            broke = transfer.break_at(Break(after, transfer.down))
            result = transfer.again()
            transfer.is_whole_with_nothing_beside_it()
            assert result.bytes == SIZE
            assert result.resumed == 0 or WORTH_KEEPING <= result.resumed <= after
            if broke:
                assert transfer.relay.passed < SIZE - result.resumed + MOST_OVERHEAD
            broken += broke
        assert broken >= points / 2
        transfer.break_in_the_middle()
        assert transfer.again().resumed >= WORTH_KEEPING
        transfer.is_whole_with_nothing_beside_it()


def test_the_checksum_of_a_resumed_file_is_that_of_all_its_bytes(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    markers = Markers(write=Suffix(".done"), checksum=Suffix(".sha256"))
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        source, dest = (posixpath.dirname(path) for path in transfer.order[1:])
        only = Selection(include=["source"])
        order = FolderOrder(
            Direction(direction), source, dest, selection=only, rename=lambda _: "dest", markers=markers
        )
        transfer.relay.break_at(None)
        assert transfer.session.transfer_folder(order).files == 1
        assert transfer.relay.passed < SIZE
        line = f"{hashlib.sha256(NEW).hexdigest()}  dest\n"
        assert (transfer.dest.parent / "dest.sha256").read_text() == line
        assert (transfer.dest.parent / "dest.done").read_bytes() == b""
        transfer.is_whole_with_nothing_beside_it()


def test_a_link_that_freezes_at_any_byte_is_given_up_and_the_next_try_goes_on(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    resumed = 0
    with work(openssh_server, tmp_path, direction, stall=0.4) as transfer:
        transfer.session.limit_bandwidth(4 * SIZE)  # a server may take its time to answer to an upload
        for after in random_points(5, SIZE - 100_000):
            transfer.begin_anew()
            assert transfer.break_at(Break(after, transfer.down, "freeze"))
            result = transfer.again(timeout=100)  # on a busy machine, so short a stall limit may strike again
            transfer.is_whole_with_nothing_beside_it()
            if result.attempts == 1:
                assert transfer.relay.passed < SIZE - result.resumed + MOST_OVERHEAD
            resumed += result.resumed > 0
    assert resumed > 0


def test_breaks_in_answers_to_uploads_and_requests_of_downloads_are_resumed(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        for after in random_points(6, 3_000):
            transfer.begin_anew()
            transfer.break_at(Break(after, not transfer.down))
            transfer.session.disconnect()  # it may have broken after the last answer, and nobody knows yet
            transfer.again()
            transfer.is_whole_with_nothing_beside_it()


def test_no_break_loses_what_earlier_tries_have_moved(openssh_server: Server, tmp_path: Path, direction: str) -> None:
    """Also where a try breaks so early that it has moved nothing itself: while it proves what is there."""
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        # Before the file's bytes, on the way that has few: the request to open it, its handle, the block to compare.
        for after in (100, 300, 500, 700):
            assert transfer.break_at(Break(after, down=True))
            assert transfer.break_at(Break(after, down=False))
        assert transfer.dest.read_bytes() == OLD
        assert transfer.again().resumed >= WORTH_KEEPING
        transfer.is_whole_with_nothing_beside_it()


def test_one_call_with_a_deadline_goes_on_by_itself_however_often_the_link_breaks(
    server: Server, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_retry_policy(monkeypatch, first_pause=0.01)
    with work(server, tmp_path, direction) as transfer:
        transfer.begin_anew()
        transfer.session.exists(".")
        transfer.session.limit_bandwidth(2 * SIZE)
        before, due = transfer.relay.connections, [SIZE // 4, SIZE // 2]

        def cut(done: int, _total: int | None) -> None:
            """Cut each connection once: what is in flight when it breaks may be acknowledged for a while."""
            cuts = transfer.relay.connections - before
            if due and len(due) == 2 - cuts and done >= due[0]:
                del due[0]
                transfer.relay.cut()

        result = transfer.again(timeout=60, progress=cut)
        assert result.resumed >= SIZE // 2
        assert result.attempts >= 3
        assert transfer.relay.connections >= 3
        assert transfer.relay.passed < SIZE + MOST_OVERHEAD + SIZE // 2  # and what was in flight at each break
        transfer.is_whole_with_nothing_beside_it()


def test_a_deadline_keeps_what_is_there_and_a_cancelled_call_keeps_nothing(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.begin_anew()
        transfer.session.exists(".")
        transfer.session.limit_bandwidth(SIZE // 4)
        with pytest.raises(SFTPError, match="did not end within"):
            transfer.again(timeout=1)
        transfer.session.limit_bandwidth(None)
        assert transfer.dest.read_bytes() == OLD
        assert transfer.again().resumed >= WORTH_KEEPING
        transfer.is_whole_with_nothing_beside_it()

        transfer.begin_anew()
        transfer.session.limit_bandwidth(2 * SIZE)
        stop = threading.Event()
        with pytest.raises(Cancelled):
            transfer.again(cancelled=stop, progress=when(WORTH_KEEPING, stop.set))
        assert transfer.dest.read_bytes() == OLD
        transfer.session.limit_bandwidth(None)
        assert transfer.again().resumed == 0
        transfer.is_whole_with_nothing_beside_it()


# --- what speaks against going on ------------------------------------------------------------------------------------


def damage_last_block(transfer: Work) -> None:
    (path,) = transfer.partials()
    # The record says how far the proof goes; an upload's file may be longer.
    whole = json.loads(transfer.records()[0].read_text())["whole"]
    with open(path, "r+b") as file:
        file.seek(whole - 5)
        file.write(b"other")


def shorten_partial(transfer: Work) -> None:
    os.truncate(transfer.partials()[0], WORTH_KEEPING // 2)


def put_a_link_in_its_place(transfer: Work) -> None:
    (path,) = transfer.partials()
    moved = path.with_name("moved")
    path.rename(moved)
    path.symlink_to(moved)


def remove_partial(transfer: Work) -> None:
    transfer.partials()[0].unlink()


def change_time(transfer: Work) -> None:
    os.utime(transfer.source, (MODIFIED, MODIFIED + 1))


def change_size(transfer: Work) -> None:
    transfer.source.write_bytes(NEW + b"!")
    os.utime(transfer.source, (MODIFIED, MODIFIED))


def write_record(text: str) -> Callable[[Work], None]:
    def write(transfer: Work) -> None:
        (path,) = transfer.records()
        path.write_text(text)

    return write


def change_record(**fields: object) -> Callable[[Work], None]:
    return lambda transfer: transfer.change_record(**fields)


@pytest.mark.parametrize(
    "change",
    [
        damage_last_block,
        shorten_partial,
        remove_partial,
        change_time,
        change_record(source=["another", 1, 2]),
        change_record(whole=SIZE + 1),
        change_record(whole=-1),
        change_record(whole=10**30),
        change_record(whole="1"),
        change_record(temporary="../../precious"),
        change_record(directory="a\0b", whole=0),
        change_record(aside="precious"),
        change_record(unknown=1),
        write_record(""),
        write_record("{"),
        write_record("[]"),
        write_record("[" * 100_000),
        write_record('{"direction": "upload"}'),
    ],
)
def test_a_transfer_begins_anew_where_anything_has_changed(
    openssh_server: Server, tmp_path: Path, direction: str, change: Callable[[Work], None]
) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        precious = transfer.dest.parent / "precious"
        precious.write_bytes(b"precious")
        transfer.break_in_the_middle()
        assert len(transfer.partials()) == len(transfer.records()) == 1
        change(transfer)
        result = transfer.again()
        assert result.resumed == 0
        assert transfer.relay.passed > SIZE
        assert transfer.dest.read_bytes() == NEW
        assert transfer.records() == []
        assert precious.read_bytes() == b"precious"


def test_a_source_of_another_size_is_moved_anew(openssh_server: Server, tmp_path: Path, direction: str) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        change_size(transfer)
        assert transfer.again().resumed == 0
        assert transfer.dest.read_bytes() == NEW + b"!"
        assert transfer.partials() == []


def test_a_download_does_not_go_on_through_a_link_that_stands_in_its_files_place(
    openssh_server: Server, tmp_path: Path
) -> None:
    with work(openssh_server, tmp_path, "download") as transfer:
        transfer.break_in_the_middle()
        put_a_link_in_its_place(transfer)
        assert transfer.again().resumed == 0
        transfer.is_whole_with_nothing_beside_it()


@pytest.mark.parametrize("place", [0, WORTH_KEEPING // 2])
def test_a_damage_to_what_is_there_is_found_where_the_server_tells_a_hash(
    openssh_server: Server, tmp_path: Path, direction: str, place: int
) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        with open(transfer.partials()[0], "r+b") as file:
            file.seek(place)
            file.write(b"damage")
        assert transfer.again().resumed == 0
        transfer.is_whole_with_nothing_beside_it()


@contextmanager
def without_a_shell(base: Path) -> Iterator[Server]:
    """A server that tells no hash."""
    with openssh(base, f"ForceCommand internal-sftp -d {base / 'files'}") as server:
        yield server


def test_damage_between_compared_parts_is_found_by_the_hash_of_all_bytes(tmp_path: Path, direction: str) -> None:
    with without_a_shell(tmp_path / "sshd") as server, work(server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        with open(transfer.partials()[0], "r+b") as file:
            file.seek(10_000)
            file.write(b"damage")
        result = transfer.again(verify="sha256")
        assert (result.resumed, result.verified) == (0, "read back")
        transfer.is_whole_with_nothing_beside_it()


# --- another version with the same size and time ---------------------------------------------------------------------


def put_in_place(transfer: Work, content: bytes) -> None:
    """Put another version in the place of the source, as a build does that sets all times to the same."""
    beside = transfer.source.with_name("next")
    beside.write_bytes(content)
    os.utime(beside, (MODIFIED, MODIFIED))
    os.replace(beside, transfer.source)


@pytest.mark.parametrize("place", [0, 10_000, SIZE // 8, SIZE - 1])
def test_no_two_versions_of_the_same_size_and_time_are_mixed(
    openssh_server: Server, tmp_path: Path, direction: str, place: int
) -> None:
    """Also where they differ in a single byte: this server tells hashes, and locally no two versions look the same."""
    other = bytearray(NEW)
    other[place] ^= 1
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        put_in_place(transfer, bytes(other))
        transfer.again()
        assert transfer.dest.read_bytes() == other
        assert transfer.partials() == transfer.records() == []


@pytest.mark.parametrize("place", [0, SIZE // 8])
def test_without_a_hash_a_version_that_differs_in_some_places_is_told_from_the_other(
    tmp_path: Path, direction: str, place: int
) -> None:
    other = NEW[:place] + os.urandom(SIZE // 8) + NEW[place + SIZE // 8 :]
    with without_a_shell(tmp_path / "sshd") as server, work(server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        put_in_place(transfer, other)
        assert transfer.again().resumed == 0
        assert transfer.dest.read_bytes() == other


def test_a_link_that_breaks_every_few_hundred_kilobytes_gets_a_file_through(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    """Whatever was moved is kept, however little."""
    step = SIZE // 16
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.begin_anew()
        transfer.session.limit_bandwidth(8 * step)
        resumed = [0]
        for _ in range(40):
            with suppress(SFTPError):
                resumed.append(transfer.again(progress=moving_on(step, transfer.relay.cut)).resumed)
                break
        assert resumed[-1] > SIZE // 2
        transfer.is_whole_with_nothing_beside_it()


def moving_on(count: int, action: Action) -> Callable[[int, int | None], None]:
    """Return a `progress` that does something, once, when so many bytes more are there than at first."""
    first: list[int] = []

    def progress(done: int, _: int | None) -> None:
        first.append(done)
        if done >= first[0] + count and action in to_do:
            to_do.remove(action)
            action()

    to_do = [action]
    return progress


# --- records ---------------------------------------------------------------------------------------------------------


def test_a_later_process_goes_on_and_one_that_knows_less_does_not_disturb_it(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    """What a process remembers is not true any more when another has gone on meanwhile: the record is."""
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        with victims(openssh_server, transfer.session.settings.port, transfer.state) as others:
            others.start(*transfer.order)
            outcome = others.outcome()
        assert outcome is not None
        assert outcome["resumed"] >= WORTH_KEEPING
        transfer.is_whole_with_nothing_beside_it()
        transfer.dest.write_bytes(OLD)
        assert transfer.again().resumed == 0
        transfer.is_whole_with_nothing_beside_it()


def test_a_destination_is_busy_while_another_process_or_thread_writes_it(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.begin_anew()
        begun = threading.Event()
        transfer.relay.break_at(Break(SIZE // 8, transfer.down, begun.set))
        port = transfer.session.settings.port
        with victims(openssh_server, port, transfer.state) as others:
            pid = others.start(*transfer.order, limit=SIZE // 2)
            assert begun.wait(60)
            with pytest.raises(Busy):
                transfer.again()
            os.kill(pid, signal.SIGKILL)
            assert others.outcome() is None
        transfer.again()
        transfer.is_whole_with_nothing_beside_it()

        transfer.begin_anew()
        with pytest.raises(Busy):
            transfer.again(progress=lambda *_: transfer.again())
        assert transfer.dest.read_bytes() == OLD
        transfer.again()
        transfer.is_whole_with_nothing_beside_it()


@pytest.mark.parametrize("kind", ["none", "a file", "not to be made"])
def test_without_a_place_for_records_transfers_go_on_within_the_process(
    openssh_server: Server, tmp_path: Path, direction: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    state: Path | None = None
    if kind == "a file":
        state = tmp_path / "a-file"
        state.write_text("here")
    elif kind == "not to be made":
        state = Path("/proc") / tmp_path.name  # it is told once for each place
    with work(openssh_server, tmp_path, direction, state=state) as transfer:
        transfer.break_in_the_middle()
        assert transfer.again().resumed >= WORTH_KEEPING
        transfer.is_whole_with_nothing_beside_it()
    assert ("cannot be remembered" in caplog.text) is (state is not None)


def test_what_is_left_for_long_is_cleaned_up_when_the_next_session_opens(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        transfer.session.exists(".")
        assert len(transfer.partials()) == 1
        transfer.session.disconnect()
        (record,) = transfer.records()
        let_pass(record, KEPT_FOR + 10)
        transfer.session.exists(".")
        assert transfer.partials() == []
        assert transfer.records() == []
        assert transfer.dest.read_bytes() == OLD


@pytest.mark.parametrize("for_long", [False, True])
def test_what_cannot_be_removed_at_first_is_asked_for_again_for_a_day(
    openssh_server: Server, tmp_path: Path, for_long: bool
) -> None:
    with work(openssh_server, tmp_path, "upload") as transfer:
        transfer.break_in_the_middle()
        (record,), (partial,) = transfer.records(), transfer.partials()
        partial.unlink()
        partial.mkdir()  # is refused, as a file is for as long as the server holds it open
        for _ in range(2 if for_long else 1):
            assert transfer.records() == [record]
            transfer.session.disconnect()
            let_pass(record, KEPT_FOR + 10)
            transfer.session.exists(".")
        assert transfer.records() == ([] if for_long else [record])
        partial.rmdir()
        partial.touch()
        transfer.session.disconnect()
        transfer.session.exists(".")
        assert transfer.partials() == ([partial] if for_long else [])
        assert transfer.records() == []


def test_what_is_left_of_a_file_of_a_folder_goes_when_its_source_is_found_to_have_vanished(
    openssh_server: Server, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = FolderPlan.find_next_page

    def then_vanish(*arguments: Any) -> None:
        plan(*arguments)
        transfer.source.unlink(missing_ok=True)

    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.break_in_the_middle()
        assert len(transfer.partials()) == len(transfer.records()) == 1
        monkeypatch.setattr(FolderPlan, "find_next_page", then_vanish)
        method, source, dest = transfer.order
        folders = [os.path.dirname(path) for path in (source, dest)]
        call = getattr(transfer.session, method.replace("file", "files"))
        done = call(*folders, rename=lambda _: "dest", timeout=60)
        assert (done.files, done.total_files, done.failed) == (0, 0, 0)
        assert transfer.partials() == transfer.records() == []
        assert transfer.dest.read_bytes() == OLD


def test_a_break_while_cleaning_up_leaves_the_rest_to_the_next_connection(
    openssh_server: Server, tmp_path: Path
) -> None:
    with work(openssh_server, tmp_path, "upload") as transfer:
        transfer.break_in_the_middle()
        transfer.change_record(whole=0)
        for after in (2_000, 3_000, 3_500, 4_000):
            transfer.session.disconnect()
            transfer.relay.break_at(Break(after, down=True))
            with suppress(SFTPError):
                transfer.session.exists(".")
            assert bool(transfer.partials()) <= bool(transfer.records())
        transfer.relay.break_at(None)
        transfer.session.disconnect()
        transfer.session.exists(".")
        assert transfer.partials() == transfer.records() == []


def test_a_break_while_an_upload_goes_on_does_not_forget_that_its_file_is_there(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with work(openssh_server, tmp_path, "upload") as transfer:
        transfer.break_in_the_middle()
        set_retry_policy(monkeypatch, attempts=1)
        assert transfer.break_at(Break(20_000, down=True))
        (record,) = transfer.records()
        assert json.loads(record.read_text())["opened"]
        transfer.again()
        transfer.is_whole_with_nothing_beside_it()


def test_a_temporary_file_created_late_by_a_lost_connection_is_removed_later(
    openssh_server: Server, tmp_path: Path
) -> None:
    """A slow link may hold the request to open it while the next session cleans up."""
    with work(openssh_server, tmp_path, "upload") as transfer:
        late = transfer.break_before_it_was_opened()
        transfer.session.exists(".")
        assert len(transfer.records()) == 1
        late.write_bytes(b"late")
        transfer.session.disconnect()
        transfer.session.exists(".")
        assert transfer.partials() == transfer.records() == []


def test_a_temporary_file_that_comes_after_the_next_try_has_succeeded_is_removed_too(
    openssh_server: Server, tmp_path: Path
) -> None:
    with work(openssh_server, tmp_path, "upload") as transfer:
        late = transfer.break_before_it_was_opened()
        transfer.again()
        assert transfer.dest.read_bytes() == NEW
        late.write_bytes(b"late")
        transfer.session.disconnect()
        transfer.session.exists(".")
        assert transfer.partials() == transfer.records() == []


@pytest.mark.parametrize("age", [0.0, LATE + 10])
def test_without_a_directory_for_records_a_late_temporary_file_is_looked_for_as_long(
    openssh_server: Server, tmp_path: Path, age: float
) -> None:
    with work(openssh_server, tmp_path, "upload", state=None) as transfer:
        transfer.break_in_the_middle()
        remembered = transfer.session._records.remembered
        (late,) = transfer.partials()
        name, kept = next((name, each) for name, each in remembered.items() if late.name in each.state.temporary)
        transfer.session.disconnect()
        late.unlink()
        state = replace(kept.state, contiguous=0, opened=False)
        remembered[name] = kept._replace(state=state, saved_at=kept.saved_at - age)
        transfer.session.exists(".")
        assert (name in remembered) is (age < LATE)
        late.write_bytes(b"late")
        transfer.session.disconnect()
        transfer.session.exists(".")
        assert transfer.partials() == ([] if age < LATE else [late])
        assert name not in remembered


def test_a_temporary_file_that_has_not_come_for_long_is_forgotten(openssh_server: Server, tmp_path: Path) -> None:
    with work(openssh_server, tmp_path, "upload") as transfer:
        transfer.break_before_it_was_opened()
        (record,) = transfer.records()
        let_pass(record, LATE + 10)
        transfer.session.exists(".")
        assert transfer.records() == []


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def test_a_process_killed_at_any_byte_leaves_old_or_new_and_the_next_resumes(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    killed = resumed = 0
    with (
        work(openssh_server, tmp_path, direction) as transfer,
        victims(openssh_server, transfer.session.settings.port, transfer.state) as others,
    ):
        for after in random_points(6):
            transfer.begin_anew()
            pid = others.start(*transfer.order, limit=2 * SIZE)  # so slow that progress is recorded
            transfer.relay.break_at(Break(after, transfer.down, partial(os.kill, pid, signal.SIGKILL)))
            died = others.outcome() is None
            assert transfer.dest.read_bytes() in ((OLD, NEW) if died else (NEW,))
            transfer.relay.cut()  # what it still holds of the one that died does not count
            transfer.relay.break_at(None)
            others.start(*transfer.order)
            outcome = others.outcome()
            assert outcome is not None
            assert outcome["bytes"] == SIZE
            assert transfer.relay.passed < SIZE - outcome["resumed"] + MOST_OVERHEAD
            transfer.is_whole_with_nothing_beside_it()
            killed += died
            resumed += outcome["resumed"] > 0
    assert killed >= 2
    assert resumed >= 1


def test_what_a_killed_process_left_of_a_small_file_is_cleaned_up_at_the_next_start(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    """By any call, not only by one that has the same destination."""
    left = 0
    with (
        work(openssh_server, tmp_path, direction) as transfer,
        victims(openssh_server, transfer.session.settings.port, transfer.state) as others,
    ):
        for after in random_points(6, 300_000):
            transfer.begin_anew()
            transfer.source.write_bytes(NEW[:300_000])
            pid = others.start(*transfer.order)
            transfer.relay.break_at(Break(after, transfer.down, partial(os.kill, pid, signal.SIGKILL)))
            others.outcome()
            left += len(transfer.partials())
            assert transfer.dest.read_bytes() in (OLD, NEW[:300_000])
            for record in transfer.records():  # nothing comes late out of a connection of this machine
                let_pass(record, LATE + 10)
            others.start("exists", ".")
            others.outcome()
            assert transfer.partials() == []
            assert transfer.records() == []
    assert left > 0


def test_a_process_that_was_killed_after_a_while_has_written_down_how_far_it_was(
    openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    """With nothing made faster for the test: progress is recorded each second."""
    with work(openssh_server, tmp_path, direction) as transfer:
        transfer.begin_anew()
        port = transfer.session.settings.port
        with victims(openssh_server, port, transfer.state, save_at_once=False) as others:
            pid = others.start(*transfer.order, limit=SIZE // 2)
            transfer.relay.break_at(Break(SIZE * 7 // 8, transfer.down, partial(os.kill, pid, signal.SIGKILL)))
            assert others.outcome() is None
            assert transfer.dest.read_bytes() == OLD
            others.start(*transfer.order)
            outcome = others.outcome()
        assert outcome is not None
        assert outcome["resumed"] >= WORTH_KEEPING
        transfer.is_whole_with_nothing_beside_it()


def test_the_directory_of_records_is_made_where_it_is_missing_also_in_between(tmp_path: Path) -> None:
    records, state = ResumeRecords(tmp_path / "state/records"), ResumeState("upload", ["host", 22, "user"], "dest")
    for _ in range(2):
        with records.held("key", "dest") as record:
            assert record.is_on_disk
            assert record.load() is None
            record.save(state)
            assert record.load() == state
        shutil.rmtree(tmp_path / "state")
