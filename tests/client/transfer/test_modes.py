"""The permissions of what is created: the source's, or those that are asked for; its owner can always use it."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.servers import Server, openssh

from iot.sftp.client import Direction, FileOrder, FolderOrder, InvalidRequest, LocalFiles, Modes, Selection
from iot.sftp.module._work.local_files import LocalRoot

MODES = Modes(local=0o640, remote=0o604, directory=0o710)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def strict_umask() -> object:
    """Keep the umask from giving the right answer by chance."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_files_and_directories_get_the_modes_that_are_asked_for(server: Server, folder: str, tmp_path: Path) -> None:
    there = server.directory / folder
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "in/d/a").write_bytes(b"1")
    with session_of(server) as session:
        session.transfer_file(FileOrder(Direction.UPLOAD, str(tmp_path / "in/d/a"), f"{folder}/x/y/a", modes=MODES))
        session.transfer_file(FileOrder(Direction.DOWNLOAD, f"{folder}/x/y/a", str(tmp_path / "u/v/a"), modes=MODES))
        selection = Selection(recursive=True)
        for direction, source, dest in (
            (Direction.UPLOAD, tmp_path / "in", f"{folder}/many"),
            (Direction.DOWNLOAD, f"{folder}/many", tmp_path / "back"),
        ):
            session.transfer_folder(FolderOrder(direction, str(source), str(dest), selection=selection, modes=MODES))
    assert [mode_of(there / name) for name in ("x", "x/y", "many", "many/d")] == [0o710] * 4
    assert [mode_of(there / name) for name in ("x/y/a", "many/d/a")] == [0o604] * 2
    assert [mode_of(tmp_path / name) for name in ("u", "u/v", "back", "back/d")] == [0o710] * 4
    assert [mode_of(tmp_path / name) for name in ("u/v/a", "back/d/a")] == [0o640] * 2
    assert mode_of(tmp_path / "in/d") == 0o700, "what is there keeps its own"


def test_without_modes_the_sources_bits_are_kept_and_the_owner_can_always_use_the_file(
    server: Server, folder: str, tmp_path: Path
) -> None:
    there = server.directory / folder
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "a").chmod(0o044)
    with session_of(server) as session:
        session.upload_file(str(tmp_path / "a"), f"{folder}/a")
        (there / "a").chmod(0o404)
        session.download_file(f"{folder}/a", str(tmp_path / "b"))
        (there / "a").chmod(0o644)
        session.transfer_file(
            FileOrder(Direction.DOWNLOAD, f"{folder}/a", str(tmp_path / "c"), modes=Modes(local=0, directory=0))
        )
    assert mode_of(tmp_path / "b") == 0o604
    assert mode_of(tmp_path / "c") == 0o600


@pytest.mark.parametrize("confined", [False, True])
def test_a_new_local_directory_keeps_the_group_of_its_parent(tmp_path: Path, confined: bool) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o2770)
    files = LocalRoot(tmp_path / "root", tmp_path / "state") if confined else LocalFiles()
    path = "a/b/c" if confined else str(tmp_path / "root/a/b/c")
    os.close(files.open_parent(path, create=True, mode=0o750).directory)
    assert [mode_of(tmp_path / "root" / name) for name in ("a", "a/b")] == [0o2750] * 2


def test_a_server_that_sets_no_permissions_is_told_of_and_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "a").write_bytes(b"1")
    order = FileOrder(Direction.UPLOAD, str(tmp_path / "a"), "new/a", modes=MODES)
    with openssh(tmp_path / "sshd", sftp_options="-P setstat,fsetstat") as server, session_of(server) as session:
        assert session.transfer_file(order).bytes == 1
        assert (server.directory / "new/a").read_bytes() == b"1"
        session.transfer_file(order)
    words = [record.message for record in caplog.records if "permissions" in record.message]
    assert words[0].startswith("'new' was created with the server's own permissions")
    assert words[1:] == ["The server sets no permissions: files keep those that it gives them"]


@pytest.mark.parametrize("wrong", [{"local": "0640"}, {"remote": 0o4755}, {"directory": -1}, {"local": True}])
def test_what_is_no_mode_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match="mode of"):
        Modes(**wrong)
