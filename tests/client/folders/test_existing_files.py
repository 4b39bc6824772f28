"""What is at a destination already: kept, numbered, refused or backed up, as asked, and never lost."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients import session_of, settings_of
from tests.faulty_servers import FAILURE, PASSWORD, PERMISSION_DENIED, FaultyServer, status
from tests.folders import OLD, Way, content_of, fill
from tests.forkserver import MAY_FORK
from tests.servers import Server, openssh

from iot.sftp.client import (
    ConnectionLost,
    InvalidRequest,
    PathNotAllowed,
    Secret,
    ServerSettings,
    SFTPSession,
)
from iot.sftp.client._base.steps import Steps
from iot.sftp.client._files.numbered_names import numbered
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._folders.file_delivery import FileDelivery
from iot.sftp.client._folders.folder_page import FoundFile
from iot.sftp.client._ssh.packets import Kind

BARE = "-P posix-rename,hardlink,fsync,statvfs,limits,copy-data"  # what OpenSSH's sftp-server is not to offer
ELSEWHERE = (Path("/dev/shm"), Path("/var/tmp"))


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """OpenSSH without any extension that matters."""
    with openssh(tmp_path_factory.mktemp("bare"), sftp_options=BARE) as server:
        yield server


@pytest.fixture(params=["openssh", "proftpd", "bare"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(f"{request.param}_server")
    return running


def aside(way: Way, name: str) -> tuple[str, Path]:
    """Name a folder beside the destination, in the terms of its side; and where it is on this machine."""
    place = way.dest.parent / name
    return (str(place) if way.download else f"{way.folder}/{name}"), place


def test_a_file_whose_name_is_taken_gets_a_number(way: Way) -> None:
    fill(way.source, {"a.csv": b"new", "b.csv": b"b", "c": b"c", "d/a.tar.gz": b"d", ".e": b"e"})
    fill(way.dest, {"a.csv": b"1", "a-1.csv": b"2", "c": b"3", "d/a.tar.gz": b"4", ".e": b"5"})
    done = way.transfer(if_exists="rename", recursive=True)
    assert (done.files, done.failed, done.skipped) == (5, 0, 0)
    assert content_of(way.dest) == {
        "a.csv": b"1", "a-1.csv": b"2", "a-2.csv": b"new", "b.csv": b"b", "c": b"3", "c-1": b"c",
        "d/a.tar.gz": b"4", "d/a.tar-1.gz": b"d", ".e": b"5", ".e-1": b"e",
    }  # fmt: skip


def test_a_file_whose_name_is_taken_fails_and_stays_where_it_is(way: Way) -> None:
    fill(way.source, {"a": b"new", "b": b"b"})
    fill(way.dest, {"a": b"old"})
    done = way.transfer(if_exists="fail", then="delete")
    assert [(failure.path, failure.code, failure.delivered) for failure in done.failures] == [
        (way.shown("a"), "already_exists", False)
    ]
    assert (done.files, done.failed) == (1, 1)
    assert content_of(way.dest) == {"a": b"old", "b": b"b"}
    assert content_of(way.source) == {"a": b"new"}


def test_what_is_replaced_is_kept_in_the_folder_for_backups_with_its_time(way: Way) -> None:
    fill(way.source, {"a.csv": b"new", "b": b"b", "d/a.csv": b"new d"}, OLD + 60)
    fill(way.dest, {"a.csv": b"old", "d/a.csv": b"old d"})
    given, place = aside(way, "kept/here")
    assert way.transfer(if_exists="backup", backup_to=given, recursive=True).files == 3
    assert content_of(way.dest) == {"a.csv": b"new", "b": b"b", "d/a.csv": b"new d"}
    assert content_of(place) == {"a.csv": b"old", "d/a.csv": b"old d"}
    assert (place / "a.csv").stat().st_mtime == OLD
    fill(way.source, {"a.csv": b"newest"}, OLD + 120)
    assert way.transfer(if_exists="backup", backup_to=given, include=["a.*"]).files == 1
    assert content_of(way.dest)["a.csv"] == b"newest"
    assert content_of(place) == {"a.csv": b"old", "a-1.csv": b"new", "d/a.csv": b"old d"}


def test_a_backup_that_cannot_be_made_leaves_the_old_file_in_its_place(way: Way) -> None:
    fill(way.source, {"a": b"new", "b": b"b"})
    fill(way.dest, {"a": b"old"})
    given, place = aside(way, "in the way")
    place.write_bytes(b"a file")
    done = way.transfer(if_exists="backup", backup_to=given, then="delete")
    assert (done.files, done.failed) == (1, 1)
    assert done.failures[0].code == "not_a_directory"
    assert content_of(way.dest) == {"a": b"old", "b": b"b"}
    assert content_of(way.source) == {"a": b"new"}


def test_backups_go_to_another_file_system_as_copies(request: pytest.FixtureRequest, way: Way, tmp_path: Path) -> None:
    elsewhere = next((each for each in ELSEWHERE if _is_other_file_system(each, way.dest.parent)), None)
    if elsewhere is None:
        pytest.skip("there is one file system only")
    fill(way.source, {"a": b"new"})
    fill(way.dest, {"a": b"old"})
    given, place = aside(way, "mounted")
    shared = elsewhere / f"iot-sftp-{os.getpid()}-{tmp_path.name}"
    shared.mkdir()
    place.symlink_to(shared)
    try:
        assert way.transfer(if_exists="backup", backup_to=given).files == 1
        assert content_of(shared) == {"a": b"old"}
        assert content_of(way.dest) == {"a": b"new"}
        if "proftpd" not in request.node.name:  # which copies by itself, and does not keep the time
            assert (shared / "a").stat().st_mtime == OLD
        assert [path.name for path in shared.iterdir()] == ["a"]
    finally:
        for path in shared.iterdir():
            path.unlink()
        shared.rmdir()


def _is_other_file_system(one: Path, other: Path) -> bool:
    other.mkdir(parents=True, exist_ok=True)
    return one.is_dir() and one.stat().st_dev != other.stat().st_dev


def test_files_get_the_paths_that_rename_makes_of_theirs(way: Way) -> None:
    fill(way.source, {"a.csv": b"1", "sub/b.csv": b"2"})
    done = way.transfer(recursive=True, rename=lambda path: posixpath.join("x", f"7-{path.replace('/', '_')}"))
    assert (done.files, done.failed) == (2, 0)
    assert content_of(way.dest) == {"x/7-a.csv": b"1", "x/7-sub_b.csv": b"2"}


@pytest.mark.parametrize("wrong", ["", "..", "a/../b", "/a", "a//b", "a\0", ".iot-sftp-0123456789abcdef", "a/", None])
def test_a_path_that_leads_elsewhere_is_the_files_failure(way: Way, wrong: str) -> None:
    fill(way.source, {"a": b"1", "b": b"2"})
    done = way.transfer(rename=lambda path: wrong if path == "a" else path)
    assert [(failure.path, failure.code) for failure in done.failures] == [(way.shown("a"), PathNotAllowed.code)]
    assert content_of(way.dest) == {"b": b"2"}


@pytest.mark.parametrize("if_exists", ["replace", "skip_same", "backup"])
def test_no_two_files_of_one_run_replace_each_other(way: Way, if_exists: str) -> None:
    fill(way.source, {f"f{number}": b"%d" % number for number in range(10)})
    given, place = aside(way, "kept")
    options = {"backup_to": given} if if_exists == "backup" else {}
    done = way.transfer(rename=lambda _: "latest", if_exists=if_exists, then="delete", **options)
    assert (done.files, done.failed) == (1, 9)
    assert {failure.code for failure in done.failures} == {"already_exists"}
    assert "if_exists 'rename'" in done.failures[0].message
    left = content_of(way.source)
    assert sorted([*left.values(), *content_of(way.dest).values()]) == [b"%d" % number for number in range(10)]
    assert not place.exists()


def test_files_that_rename_makes_the_same_of_get_numbers(way: Way) -> None:
    fill(way.source, {f"f{number:03}": b"%d" % number for number in range(40)})
    done = way.transfer(rename=lambda _: "part.csv", if_exists="rename", then="delete")
    assert (done.files, done.failed) == (40, 0)
    assert set(content_of(way.dest)) == {"part.csv", *(f"part-{number}.csv" for number in range(1, 40))}
    assert sorted(content_of(way.dest).values()) == sorted(b"%d" % number for number in range(40))
    assert content_of(way.source) == {}


@pytest.mark.parametrize("if_exists", ["skip", "rename", "fail"])
def test_what_appears_in_the_last_moment_is_not_replaced(
    way: Way, monkeypatch: pytest.MonkeyPatch, if_exists: str
) -> None:
    transfer = FileDelivery.transfer
    appeared = list[str]()

    def first_appear(delivery: FileDelivery, remote: RemoteFiles, found: FoundFile, dest: str) -> Steps[None]:
        if not appeared:
            fill(way.dest, {dest: b"a stranger's"})
            appeared.append(dest)
        yield from transfer(delivery, remote, found, dest)

    monkeypatch.setattr(FileDelivery, "transfer", first_appear)
    fill(way.source, {"a": b"ours"})
    done = way.transfer(if_exists=if_exists, then="delete")
    expected = {"a": b"a stranger's"} | ({"a-1": b"ours"} if if_exists == "rename" else {})
    assert content_of(way.dest) == expected
    assert (done.files, done.skipped, done.failed) == {"skip": (0, 1, 0), "rename": (1, 0, 0), "fail": (0, 0, 1)}[
        if_exists
    ]
    assert content_of(way.source) == ({} if if_exists == "rename" else {"a": b"ours"})


def test_what_a_careful_call_finds_under_a_number_is_not_sent_again(way: Way) -> None:
    """After a crash between the arrival and its record; the server may not even keep times."""
    fill(way.source, {"a": b"ours"})
    fill(way.dest, {"a": b"other"})
    assert way.transfer(if_exists="rename").files == 1
    os.utime(way.dest / "a-1", (OLD + 9, OLD + 9))
    done = way.transfer(if_exists="rename", verify_existing=True, then="delete")
    assert (done.files, done.skipped) == (0, 1)
    assert content_of(way.dest) == {"a": b"other", "a-1": b"ours"}
    assert content_of(way.source) == {}
    fill(way.source, {"a": b"ours"})
    fill(way.dest, {"a": b"ours"}, OLD + 9)
    assert way.transfer(if_exists="fail", verify_existing=True, then="delete").skipped == 1


@pytest.mark.parametrize("if_exists", ["rename", "fail", "backup"])
@pytest.mark.parametrize("is_carried_out", [True, False], ids=["carried out", "not carried out"])
def test_a_lost_answer_to_the_rename_makes_no_second_file(  # noqa: PLR0917 - parameters
    server: Server, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, if_exists: str, is_carried_out: bool
) -> None:
    there = server.directory / folder
    taken = {"a": b"old"} if if_exists != "fail" else {}
    fill(there / "out", taken)
    fill(tmp_path / "in", {"a": b"ours"})
    lost = list[str]()

    def losing(method: str) -> None:
        work: Callable[..., Steps[None] | None] = getattr(RemoteFiles, method)

        def lose(self: RemoteFiles, source: str, dest: str) -> Steps[None] | None:
            if lost or "kept" in dest or not posixpath.basename(source).startswith(".iot-sftp-"):
                return work(self, source, dest)
            lost.append(dest)
            if is_carried_out:
                list(work(self, source, dest) or ())
            self._connection.close()
            message = "the answer was lost"
            raise ConnectionLost(message)

        monkeypatch.setattr(RemoteFiles, method, lose)

    losing("rename")
    losing("posix_rename")
    options: dict[str, Any] = {"backup_to": f"{folder}/kept"} if if_exists == "backup" else {}
    with session_of(server) as session:
        done = session.upload_files(
            str(tmp_path / "in"), f"{folder}/out", if_exists=if_exists, then="delete", **options
        )
    assert lost
    assert (done.files + done.skipped, done.failed, done.attempts) == (1, 0, 2)
    expected = {"fail": {"a": b"ours"}, "rename": {"a": b"old", "a-1": b"ours"}, "backup": {"a": b"ours"}}[if_exists]
    assert content_of(there / "out") == expected
    assert content_of(tmp_path / "in") == {}
    if if_exists == "backup":
        assert content_of(there / "kept") == {"a": b"old"}


KILLED = """
import json, os, signal, sys
from pathlib import Path
from iot.sftp.client import Secret, ServerSettings, SFTPSession
from iot.sftp.client._files.remote_files import RemoteFiles
host, port, user, password, key, state, moment, source, dest, options = json.loads(sys.argv[1])
for name in ("link", "posix_rename", "rename"):
    def patch(name=name, work=getattr(RemoteFiles, name)):
        def mortal(self, *arguments):
            if moment == f"before {name}":
                os.kill(os.getpid(), signal.SIGKILL)
            steps = list(work(self, *arguments) or ())
            if moment == f"after {name}":
                os.kill(os.getpid(), signal.SIGKILL)
            return steps
        setattr(RemoteFiles, name, mortal)
    patch()
secrets = (Secret(password) if password else None), (Secret.from_file(key) if key else None)
session = SFTPSession(ServerSettings(host, port, user, *secrets, state=Path(state)))
session.upload_files(source, dest, **options)
session.disconnect()
"""


@pytest.mark.parametrize(
    "kind, if_exists, moment",
    [
        *(("openssh", "backup", f"{when} {step}") for step in ("link", "posix_rename") for when in ("before", "after")),
        *(("openssh", if_exists, f"{when} rename") for if_exists in ("rename", "fail") for when in ("before", "after")),
        *(("bare", if_exists, f"{when} rename") for if_exists in ("backup", "rename") for when in ("before", "after")),
    ],
)
def test_killed_between_two_steps_both_files_are_there_and_the_next_run_ends_it(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, if_exists: str, moment: str
) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    there = server.directory / tmp_path.name
    fill(there / "out", {"a": b"old"} if if_exists != "fail" else {})
    fill(tmp_path / "in", {"a": b"ours"})
    options: dict[str, Any] = {"if_exists": if_exists, "then": "delete"}
    if if_exists == "backup":
        options["backup_to"] = f"{tmp_path.name}/kept"
    _run_and_kill(server, tmp_path, moment, options)
    in_both = [*content_of(there / "out").values(), *content_of(there / "kept").values()]
    assert b"old" in in_both or if_exists == "fail"
    assert content_of(tmp_path / "in") == {"a": b"ours"}
    with session_of(server, state=tmp_path / "state") as session:
        done = session.upload_files(
            str(tmp_path / "in"),
            f"{tmp_path.name}/out",
            verify_existing=True,
            **options,
        )
    assert done.failed == 0
    expected = {"fail": {"a": b"ours"}, "rename": {"a": b"old", "a-1": b"ours"}, "backup": {"a": b"ours"}}[if_exists]
    assert {path.name: path.read_bytes() for path in (there / "out").iterdir()} == expected
    assert content_of(there / "kept") == ({"a": b"old"} if if_exists == "backup" else {})
    assert content_of(tmp_path / "in") == {}


def test_a_lost_answer_is_known_of_by_the_next_call_too(openssh_server: Server, tmp_path: Path) -> None:
    """Without a ledger, and without care: the record of the upload tells."""
    there = openssh_server.directory / tmp_path.name
    fill(there / "out", {"a": b"old"})
    fill(tmp_path / "in", {"a": b"ours"})
    _run_and_kill(openssh_server, tmp_path, "after rename", {"if_exists": "rename"})
    (there / "out/a-1").chmod(0o600)
    with session_of(openssh_server, state=tmp_path / "state") as session:
        session.upload_files(str(tmp_path / "in"), f"{tmp_path.name}/out", if_exists="rename")
    assert content_of(there / "out") == {"a": b"old", "a-1": b"ours"}


def _run_and_kill(server: Server, tmp_path: Path, moment: str, options: dict[str, Any]) -> None:
    settings = settings_of(server)
    values = [settings.host, settings.port, settings.user, server.password, str(server.key_file or "")]
    values += [str(tmp_path / "state"), moment, str(tmp_path / "in"), f"{tmp_path.name}/out", options]
    ended = subprocess.run([sys.executable, "-c", MAY_FORK + KILLED, json.dumps(values)], check=False, timeout=120)
    assert ended.returncode == -9


class KnowsLittle(FaultyServer):
    """It has no extension, and two folders."""

    def __init__(self, **answers: Any) -> None:
        super().__init__({Kind[name]: each for name, each in answers.items()}, extensions=())

    def _attributes(self, path: str) -> bytes:
        return super()._attributes("/" if path in {"out", "kept"} else path)


class RenamesOver(KnowsLittle):
    """Its RENAME replaces what is there, as in Go's pkg/sftp."""

    def __init__(self) -> None:
        super().__init__(RENAME=lambda fields: self.rename(fields.string().decode(), fields.string().decode()))


class RefusesRenames(KnowsLittle):
    """A drop box: files come as they are, or not at all."""

    def __init__(self) -> None:
        super().__init__(RENAME=status(FAILURE))


@pytest.mark.parametrize("kind", [RenamesOver, RefusesRenames, KnowsLittle])
@pytest.mark.parametrize("if_exists", ["rename", "fail", "backup"])
def test_a_server_that_knows_little_loses_nothing(tmp_path: Path, kind: type[KnowsLittle], if_exists: str) -> None:
    fill(tmp_path / "in", {"a": b"ours", "b": b"b"})
    server = kind()
    server.files.update({"out/a": bytearray(b"old"), "out/a-1": bytearray(b"older")})
    options: dict[str, Any] = {"backup_to": "kept"} if if_exists == "backup" else {}
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "user", Secret(PASSWORD)))
        done = session.upload_files(str(tmp_path / "in"), "out", if_exists=if_exists, then="delete", **options)
        session.disconnect()
    files = {name: bytes(content) for name, content in server.files.items() if ".iot-sftp-" not in name}
    assert b"old" in files.values()
    assert files["out/b"] == b"b"
    if if_exists == "rename":
        assert files == {"out/a": b"old", "out/a-1": b"older", "out/a-2": b"ours", "out/b": b"b"}
    elif if_exists == "backup" and kind is not RefusesRenames:
        assert (files["out/a"], files["kept/a"]) == (b"ours", b"old")
    else:
        assert (done.files, done.failed, files["out/a"]) == (1, 1, b"old")
        assert content_of(tmp_path / "in") == {"a": b"ours"}


class RefusesToPutItBack(KnowsLittle):
    """For a while, nothing gets the name of the file that was moved to the folder for backups."""

    refuses = True

    def rename(self, source: str, dest: str) -> bytes:
        if dest == "out/a" and self.refuses:
            return status(PERMISSION_DENIED if source == "kept/a" else FAILURE)
        return super().rename(source, dest)


def test_an_old_file_that_cannot_be_put_back_stays_in_the_folder_for_backups(tmp_path: Path) -> None:
    fill(tmp_path / "in", {"a": b"ours"})
    server = RefusesToPutItBack()
    server.files["out/a"] = bytearray(b"old")
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "user", Secret(PASSWORD)))
        done = session.upload_files(str(tmp_path / "in"), "out", if_exists="backup", backup_to="kept")
        assert ["without a reason" in failure.message for failure in done.failures] == [True]  # not of the way back
        assert {name: bytes(content) for name, content in server.files.items()} == {"kept/a": b"old"}
        server.refuses = False
        assert session.upload_files(str(tmp_path / "in"), "out", if_exists="backup", backup_to="kept").files == 1
        session.disconnect()
    assert {name: bytes(content) for name, content in server.files.items()} == {"kept/a": b"old", "out/a": b"ours"}


def test_a_number_fits_into_the_longest_name() -> None:
    assert numbered("d/a.csv", 0) == "d/a.csv"
    assert numbered("d/a.csv", 12) == "d/a-12.csv"
    assert numbered(".profile", 1) == ".profile-1"
    for name in ("a" * 251 + ".csv", "\N{SNOWMAN}" * 83 + ".csv", "a." + "b" * 253, "\udcff" * 255):
        made = numbered(name, 10)
        assert len(os.fsencode(made)) <= 255
        assert "-10" in made


def test_what_contradicts_itself_is_refused(way: Way) -> None:
    for options in ({"if_exists": "backup"}, {"backup_to": "x"}, {"if_exists": "number"}):
        with pytest.raises(InvalidRequest, match=r"backup_to|if_exists"):
            way.transfer(**options)


def test_where_only_links_are_looked_through_what_is_there_is_seen_too(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd", sftp_options="-P lstat,fstat,hardlink,posix-rename") as server:
        fill(tmp_path / "in", {"a": b"new"})
        there = server.directory / "out"
        with session_of(server) as session:
            for if_exists, expected in (
                ("rename", {"a": b"old", "a-1": b"new"}),
                ("fail", {"a": b"old"}),
                ("skip", {"a": b"old"}),
                ("backup", {"a": b"new", "kept/a": b"old"}),
            ):
                fill(there, {"a": b"old"})
                backup_to = "out/kept" if if_exists == "backup" else None
                done = session.upload_files(str(tmp_path / "in"), "out", if_exists=if_exists, backup_to=backup_to)
                assert [failure.code for failure in done.failures] == ["already_exists"] * (if_exists == "fail")
                assert content_of(there) == expected
                shutil.rmtree(there)
