"""A local file is deleted or moved as the version that was sent, or not at all; and never lost, whoever is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot.sftp.client import Busy, FileVersion, IsADirectory, LocalFiles, SFTPError
from iot.sftp.client._files import leases, set_aside

ASIDE = ".iot-sftp-taken-01234567-a"
OLD = 1_600_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def version_of(path: Path) -> FileVersion:
    return FileVersion.of_local(path.stat())


def written(path: Path, content: bytes, when: int = OLD) -> FileVersion:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (when, when))
    return version_of(path)


def content_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def names_in(directory: Path) -> dict[str, FileVersion]:
    return {entry.name: entry.version for entry in LocalFiles().entries(str(directory))}


def remove(path: Path, version: FileVersion) -> None:
    LocalFiles().remove_version(str(path), version)


def test_the_version_that_was_sent_is_removed_and_leaves_nothing(folder: Path) -> None:
    remove(folder / "a", written(folder / "a", b"1"))
    assert os.listdir(folder) == []


def test_a_name_of_any_length_and_any_bytes_is_removed(folder: Path) -> None:
    for name in (b"n" * 255, b"\xff\xfe", b"a b\nc", b"-"):
        path = folder / os.fsdecode(name)
        remove(path, written(path, b"1"))
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: written(path, b"12"),
        lambda path: written(path, b"2"),  # of the same size and time
        lambda path: os.replace(path.with_name("other"), path),
        lambda path: os.utime(path, (OLD + 1, OLD + 1)),
    ],
    ids=["longer", "the same size and time", "another file", "touched"],
)
def test_another_version_is_left_in_its_place(folder: Path, change: Callable[[Path], object]) -> None:
    path = folder / "a"
    written(folder / "other", b"3")
    version = written(path, b"1")
    change(path)
    before = content_of(folder)
    with pytest.raises(set_aside.VersionChanged):
        remove(path, version)
    assert content_of(folder) == before
    assert not [name for name in os.listdir(folder) if name.startswith(".iot")]


def test_a_link_is_removed_and_not_what_it_leads_to(folder: Path) -> None:
    version = written(folder / "outside/a", b"1")
    link = folder / "link"
    link.symlink_to("outside/a")
    remove(link, version)
    assert not link.is_symlink()
    assert (folder / "outside/a").read_bytes() == b"1"


def test_another_name_of_the_same_file_is_left(folder: Path) -> None:
    version = written(folder / "a", b"1")
    os.link(folder / "a", folder / "b")
    version = version_of(folder / "a")
    LocalFiles().move_version(str(folder / "a"), str(folder / "b"), version)
    assert content_of(folder) == {"b": b"1"}


def test_what_was_written_while_it_was_taken_is_put_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer has opened it before, on a file system that does not tell, and writes on."""
    monkeypatch.setattr(leases, "F_SETSIG", -1)
    path = folder / "a"
    version = written(path, b"1")
    told: list[FileVersion] = []
    with pytest.raises(set_aside.VersionChanged), open(path, "ab") as producer:
        taken_with(path, version, lambda: os.write(producer.fileno(), b"2"), told)
    assert content_of(folder) == {"a": b"12"}
    assert told == [version_of(path)]


def test_a_new_file_of_the_producer_is_not_replaced_by_the_old_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "a"
    version = written(path, b"1")
    written(folder / "a.1", b"also there")
    with pytest.raises(ZeroDivisionError):
        taken_with(path, version, lambda: (path.write_bytes(b"new"), 1 / 0), [])
    assert content_of(folder) == {"a": b"new", "a.1": b"also there", "a.2": b"1"}
    assert "the earlier file is kept as 'a.2'" in caplog.text


def taken_with(path: Path, version: FileVersion, meanwhile: Callable[[], object], told: list[FileVersion]) -> None:
    """Take a file, and have something done before it is moved."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with open(path, "rb") as file:
            source = set_aside.SentFile(directory, path.name, str(path), file.fileno(), version)
            with set_aside.setting_aside(source, told.append):
                meanwhile()
                source.check_bytes()
    finally:
        os.close(directory)


def test_what_cannot_be_moved_is_back_in_its_place_and_its_new_version_is_told(folder: Path) -> None:
    version = written(folder / "a", b"1")
    written(folder / "done/a/in the way", b"")
    told: list[FileVersion] = []
    with pytest.raises(IsADirectory):
        LocalFiles().move_version(str(folder / "a"), str(folder / "done/a"), version, told.append)
    assert told == [version_of(folder / "a")]
    assert told[0]._replace(changed=None).is_same_as(version)
    (folder / "done/a/in the way").unlink()
    (folder / "done/a").rmdir()
    LocalFiles().move_version(str(folder / "a"), str(folder / "done/a"), told[0])
    assert content_of(folder) == {"done/a": b"1"}


def test_a_directory_without_room_is_no_reason_to_keep_what_fills_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = written(folder / "a", b"1")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", full)
    remove(folder / "a", version)
    assert os.listdir(folder) == []


def test_a_file_that_somebody_writes_still_is_left_until_it_is_closed(folder: Path) -> None:
    path = folder / "a"
    version = written(path, b"1")
    with open(path, "ab") as producer:
        with pytest.raises(Busy, match="open for writing"):
            remove(path, version)
        assert version_of(path) == version
        assert os.listdir(folder) == ["a"]
        with open(path, "rb"):  # readers are in nobody's way
            producer.close()
            remove(path, version)
    assert os.listdir(folder) == []


def test_what_was_put_back_is_known_to_be_no_news_until_it_changes(folder: Path) -> None:
    path = folder / "a"
    version = written(path, b"1")
    assert not LocalFiles.was_put_back(str(path))
    with pytest.raises(ZeroDivisionError):
        taken_with(path, version, lambda: 1 / 0, [])
    assert LocalFiles.was_put_back(str(path))
    path.write_bytes(b"1")
    assert not LocalFiles.was_put_back(str(path))
    assert not LocalFiles.was_put_back(str(folder / "none"))


# --- whoever was killed ----------------------------------------------------------------------------------------------


def test_what_a_killed_process_had_taken_is_put_back_and_listed(folder: Path) -> None:
    version = written(folder / ASIDE, b"1")
    written(folder / "b", b"2")
    assert names_in(folder).keys() == {"a", "b"}
    assert content_of(folder) == {"a": b"1", "b": b"2"}
    (entry,) = (entry for entry in LocalFiles().entries(str(folder)) if entry.name == "a")
    assert entry.version._replace(changed=None).is_same_as(version)


def test_the_entry_of_what_was_put_back_says_so_once(folder: Path) -> None:
    written(folder / ASIDE, b"1")
    assert [entry.was_taken for entry in LocalFiles().entries(str(folder))] == [True]
    assert [entry.was_taken for entry in LocalFiles().entries(str(folder))] == [False]


def test_what_another_process_has_just_taken_is_left_to_it(folder: Path) -> None:
    written(folder / ASIDE, b"1")
    holder = os.open(folder / ASIDE, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_SH)
        assert names_in(folder) == {}
    finally:
        os.close(holder)
    assert names_in(folder).keys() == {"a"}


@pytest.mark.parametrize("name", [".iot-sftp-taken-01234567-", ".iot-sftp-taken-a", ".iot-sftp-taken-0123456g-a"])
def test_what_has_a_similar_name_is_no_taken_file(folder: Path, name: str) -> None:
    written(folder / name, b"1")
    list(LocalFiles().entries(str(folder)))
    assert content_of(folder) == {name: b"1"}


def test_a_directory_with_the_name_of_a_taken_file_is_left_alone(folder: Path) -> None:
    written(folder / ASIDE / "b", b"1")
    assert names_in(folder) == {}
    assert content_of(folder) == {f"{ASIDE}/b": b"1"}


def test_a_link_that_was_taken_is_put_back_when_nobody_can_be_at_it_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(folder.parent / "outside", b"1")
    (folder / ASIDE).symlink_to(folder.parent / "outside")
    assert names_in(folder) == {}
    monkeypatch.setattr(set_aside, "ABANDONED_AFTER", -1.0)
    assert names_in(folder) == {}, "what is listed are files; the link is one the next time"
    assert names_in(folder).keys() == {"a"}


NAMES = st.sampled_from(["a", "a.1", "b", "n" * 230])


def test_nothing_is_lost_whatever_was_taken_and_whatever_is_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(suppress_health_check=list(HealthCheck))
    @given(there=st.dictionaries(NAMES, st.binary(max_size=3)), taken=st.lists(st.tuples(NAMES, st.binary(max_size=3))))
    def check(there: dict[str, bytes], taken: list[tuple[str, bytes]]) -> None:
        directory = tmp_path_factory.mktemp("any")
        for name, content in there.items():
            written(directory / name, content)
        for number, (name, content) in enumerate(taken):
            written(directory / f".iot-sftp-taken-{number:08x}-{name}", content)
        list(LocalFiles().entries(str(directory)))
        after = content_of(directory)
        assert sorted(after.values()) == sorted([*there.values(), *(content for _, content in taken)])
        assert there.items() <= after.items()
        assert not [name for name in os.listdir(directory) if name.startswith(".iot-sftp")]

    check()


def test_no_descriptor_is_left_open_by_success_or_failure(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        remove(folder / "a", written(folder / "a", b"1"))
        with pytest.raises(SFTPError):
            remove(folder / "a", FileVersion(1))
        written(folder / "b", b"1")
        with pytest.raises(set_aside.VersionChanged):
            remove(folder / "b", FileVersion(2))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_too_many_open_files_is_told_by_its_name(folder: Path) -> None:
    version = written(folder / "a", b"1")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, limits[1]))
    try:
        with pytest.raises(SFTPError) as failure:
            remove(folder / "a", version)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert failure.value.code == "busy"
    assert "too many files open" in failure.value.message
    assert content_of(folder) == {"a": b"1"}


def test_a_file_that_is_moved_to_another_disk_is_there_before_it_is_gone_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, unlink, sync = os.replace, os.unlink, os.fsync
    done: list[str] = []

    def boundary(source: str, dest: str, **directories: int) -> None:
        if source.startswith(set_aside.PREFIX):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        done.append("replace")
        replace(source, dest, **directories)

    def record_sync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            done.append("sync file")
            raise OSError(errno.EINVAL, "not every file system offers it")
        done.append("sync directory")
        sync(descriptor)

    def record_unlink(name: str, **directories: int) -> None:
        done.append("remove")
        unlink(name, **directories)

    monkeypatch.setattr(os, "replace", boundary)
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "unlink", record_unlink)
    version = written(tmp_path / "a", b"1")
    LocalFiles().move_version(str(tmp_path / "a"), str(tmp_path / "done/a"), version)
    assert done[:4] == ["sync file", "replace", "sync directory", "remove"]
    assert content_of(tmp_path) == {"done/a": b"1"}


def test_the_copy_of_a_killed_move_is_removed_by_the_next_one_unless_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def boundary(source: str, dest: str, **directories: int) -> None:
        if source.startswith(set_aside.PREFIX):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, dest, **directories)

    monkeypatch.setattr(os, "replace", boundary)
    done = tmp_path / "done"
    abandoned, used = done / ".iot-sftp-copy-0123456789abcdef", done / ".iot-sftp-copy-fedcba9876543210"
    for path in (abandoned, used):
        written(path, b"a part")
    version = written(tmp_path / "a", b"1")
    with open(used, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        LocalFiles().move_version(str(tmp_path / "a"), str(done / "a"), version)
    assert content_of(tmp_path) == {"done/a": b"1", f"done/{used.name}": b"a part"}
