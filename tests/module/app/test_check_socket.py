"""Where the socket for `iot-sftp check` is, and when it is made again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.module.app.checks import (
    ASK,
    check,
    code_of,
    left_by_a_killed_process,
    said_to,
    serving,
    unknown,
    until_there,
)

from iot.sftp.module._app.check_server import CheckLimits, CheckServer
from iot.sftp.module._app.check_socket import NAME, directories

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_socket_that_a_killed_process_has_left_is_replaced(state: Path) -> None:
    left_by_a_killed_process(state)
    with serving(state):
        assert code_of(said_to(state, ASK)) is None


def test_a_socket_without_a_module_is_reported_at_once(state: Path) -> None:
    left_by_a_killed_process(state)
    ended = check(state, "--json")

    assert (ended.status, ended.document["code"]) == (1, "unreachable")
    assert "no process listens" in ended.document["message"]


def test_the_newest_process_is_asked_and_an_older_one_keeps_its_socket(state: Path) -> None:
    older = CheckServer(state, unknown)
    older.start()
    with serving(state):
        older.stop()
        assert code_of(said_to(state, ASK)) is None
    assert list(directories(state)[0].iterdir()) == []


def test_the_path_of_the_state_directory_may_be_of_any_length(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 100) / ("y" * 100)
    state.mkdir(parents=True)
    with serving(state):
        assert check(state).status == 1
        assert code_of(said_to(state, ASK)) is None


def test_without_a_writable_state_directory_the_temporary_one_is_used(state: Path, temporary: Path) -> None:
    (state / "file").touch()
    with serving(state / "file"):
        assert (directories(state)[1] / NAME).is_socket()
        assert temporary in directories(state)[1].parents
        assert "DNS" in check(state / "file").out


def test_a_stale_socket_in_the_state_directory_does_not_hide_the_temporary_one(state: Path) -> None:
    left_by_a_killed_process(state)
    with serving(state / "nowhere"):
        assert "DNS" in check(state).out


def test_without_any_socket_there_is_one_warning(
    state: Path, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    temporary.rmdir()
    with serving(state / "nowhere"):
        pass

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(state / "nowhere") in record.getMessage()
    assert str(temporary) in record.getMessage()


def test_a_removed_socket_is_made_again(state: Path) -> None:
    with serving(state, accept=1.0):
        state.rename(state.with_name("away"))
        in_state, in_temporary = directories(state)
        until_there(in_temporary / NAME)
        assert "DNS" in check(state).out
        in_temporary.rename(in_temporary.with_name("away"))
        state.mkdir()
        until_there(in_state / NAME)
        assert "DNS" in check(state).out


def test_a_socket_that_could_not_be_made_is_made_later(state: Path, temporary: Path) -> None:
    temporary.rmdir()
    with serving(state / "nowhere", accept=0.05):
        (state / "nowhere").mkdir()
        until_there(directories(state / "nowhere")[0] / NAME)


def test_a_server_that_waits_for_its_socket_can_be_stopped(state: Path, temporary: Path) -> None:
    temporary.rmdir()
    server = CheckServer(state / "nowhere", unknown, limits=CheckLimits(stop=20.0))
    server.start()
    (state / "nowhere").mkdir()
    server.stop()
    assert "check-server" not in {thread.name for thread in threading.enumerate()}
    assert list((state / "nowhere").iterdir()) == []


def test_a_server_that_was_never_started_can_be_stopped(state: Path) -> None:
    CheckServer(state, unknown).stop()
