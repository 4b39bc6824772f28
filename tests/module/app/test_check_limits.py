"""Clients that ask too much, too long or too slowly block neither the module nor each other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.module.app.checks import (
    ASK,
    NOWHERE,
    answers,
    code_of,
    said_to,
    serving,
    wait_for,
)

from iot.sftp.client import (
    ServerSettings,
    Step,
    TimeLimits,
)
from iot.sftp.module._app.check_server import CONNECTIONS, DIAGNOSES
from iot.sftp.module._app.check_socket import REQUEST_MAXIMUM, connect, directories, encode_line

pytestmark = pytest.mark.usefixtures("temporary")


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"check\n",
        b"\xff\xfe\n",
        b"[" * (REQUEST_MAXIMUM + 1),
        b"[" * 1000 + b"\n",
        b"x" * 5 * REQUEST_MAXIMUM,
        ASK + ASK,
        encode_line(command="ls"),
        encode_line(command="check", path="."),
        *(b'{"command": "check", "timeout": %s}\n' % time for time in (b"0", b"-1", b"true", b'"5"', b"[]", b"NaN")),
    ],
)
def test_anything_but_a_check_is_refused(state: Path, request_line: bytes) -> None:
    with serving(state):
        answer = said_to(state, request_line)
        assert (len(answer), code_of(answer)) == (1, "invalid_request")
        assert code_of(said_to(state, ASK)) is None


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request_line=st.binary(max_size=REQUEST_MAXIMUM))
def test_any_request_is_answered(tmp_path: Path, request_line: bytes) -> None:
    with serving(tmp_path):
        assert code_of(said_to(tmp_path, request_line + b"\n")) == "invalid_request"


def test_a_client_that_disconnects_frees_its_slot(state: Path) -> None:
    with serving(state):
        for request in (b"", b'{"comm', ASK):
            with connect(directories(state)[0], owner=None) as connection:
                connection.sendall(request)
        wait_for(lambda: code_of(said_to(state, ASK)) is None)  # they hold their places for a moment


def test_silent_clients_occupy_the_server_until_their_timeout_only(state: Path) -> None:
    with serving(state, request=0.5):
        silent = [connect(directories(state)[0], owner=None) for _ in range(CONNECTIONS)]
        assert code_of(said_to(state, ASK)) == "busy"
        for connection in silent:
            with closing(connection):
                assert code_of(answers(connection)) == "deadline_exceeded"
        wait_for(lambda: code_of(said_to(state, ASK)) is None)


def test_a_diagnosis_that_hangs_is_abandoned_and_two_run_at_most(state: Path) -> None:
    goes_on, ended = threading.Event(), threading.Semaphore(0)

    def hangs(_: ServerSettings) -> Generator[Step]:
        try:
            goes_on.wait(100)
            yield from ()
        finally:
            ended.release()

    with serving(state, diagnose=hangs, check=0.2):
        for _ in range(DIAGNOSES):
            assert code_of(said_to(state, ASK)) == "deadline_exceeded"
        assert code_of(said_to(state, ASK)) == "busy"
        goes_on.set()
        for _ in range(DIAGNOSES):
            assert ended.acquire(timeout=60)
        wait_for(lambda: code_of(said_to(state, ASK)) in {None, "deadline_exceeded"})


def test_a_diagnosis_stops_when_the_client_has_disconnected(state: Path) -> None:
    step = Step("dns", passed=True, found="…")
    went_away, closed = threading.Event(), threading.Event()
    done: list[Step] = []

    def steps(_: ServerSettings) -> Generator[Step]:
        try:
            went_away.wait(60)
            while len(done) < 1000:
                done.append(step)
                yield step
                time.sleep(0.01)
        finally:
            closed.set()

    with serving(state, diagnose=steps):
        with connect(directories(state)[0], owner=None) as connection:
            connection.sendall(ASK)
            assert b"server" in connection.recv(10_000)
        went_away.set()
        assert closed.wait(60)
    assert len(done) < 1000


def test_an_internal_error_is_answered_and_logged(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: ServerSettings) -> Generator[Step]:
        message = "what the bug says"
        raise RuntimeError(message)

    with serving(state, diagnose=fails):
        answer = said_to(state, ASK)

    assert code_of(answer) == "internal"
    assert "what the bug says" not in json.dumps(answer)
    assert "internal error of the check" in caplog.messages


def test_without_a_free_thread_the_client_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        if thread.name in refused:
            message = "can't start new thread"
            raise RuntimeError(message)
        begin(thread)

    begin, refused = threading.Thread.start, set[str]()
    monkeypatch.setattr(threading.Thread, "start", start)
    with serving(state):
        for name in ("check", "diagnosis"):
            refused.add(name)
            for _ in range(CONNECTIONS + 1):
                wait_for(lambda: "thread" in said_to(state, ASK)[-1]["end"]["message"])
        refused.clear()
        wait_for(lambda: code_of(said_to(state, ASK)) is None)


def test_no_setting_exceeds_the_limits_of_the_check(state: Path) -> None:
    seen: list[TimeLimits] = []

    def takes_note(settings: ServerSettings) -> Generator[Step]:
        seen.append(settings.time_limits)
        yield from ()

    settings = replace(NOWHERE, time_limits=TimeLimits(connect=80_000, stall=80_000))
    with serving(state, lambda: settings, takes_note, check=30):
        said_to(state, ASK)
        said_to(state, encode_line(command="check", timeout=2))

    assert [(limits.connect, limits.stall) for limits in seen] == [(30, 30), (2, 30)]
