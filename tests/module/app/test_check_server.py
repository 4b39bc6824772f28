"""The socket on which the module answers `iot-sftp check`: who may ask, what is told, and that nobody is held up."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.command_line.conftest import PROGRAM, Outcome
from tests.servers import Server, free_port, listening, never_answers

from iot.sftp.client import (
    ConnectionLost,
    DeadlineExceeded,
    Internal,
    NotConfigured,
    Secret,
    ServerSettings,
    SFTPError,
    Step,
    TimeLimits,
)
from iot.sftp.command_line._running_module import steps_of_module
from iot.sftp.module._app.check_server import CONNECTIONS, DIAGNOSES, CheckLimits, CheckServer
from iot.sftp.module._app.check_socket import ANSWER_MAXIMUM, NAME, REQUEST_MAXIMUM, connect, directories, encode_line

STEPS = ["dns", "tcp", "ssh_version", "algorithms", "host_key", "authentication", "extensions", "speed"]
NOBODY = 65534
ASK = encode_line(command="check")
NOWHERE = ServerSettings("127.0.0.1", 1, "device", password=Secret("hunter2"))  # where nobody listens: a quick end

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def not_configured() -> ServerSettings:
    message = "nothing is there yet"
    raise NotConfigured(message)


def settings_of(server: Server) -> ServerSettings:
    assert server.key_file is not None
    return ServerSettings(server.host, server.port, server.user, private_key=Secret(server.key_file.read_text()))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a temporary directory of the test's own: another module may have put its socket into the usual one."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


@contextmanager
def serving(
    state: Path,
    settings: Callable[[], ServerSettings] = lambda: NOWHERE,
    diagnose: Callable[[ServerSettings], Generator[Step]] | None = None,
    **limits: float,
) -> Iterator[None]:
    server = CheckServer(state, settings, limits=CheckLimits(**limits), **({"diagnose": diagnose} if diagnose else {}))
    server.start()
    try:
        yield
    finally:
        server.stop()


def said_to(state: Path, request: bytes) -> list[dict[str, Any]]:
    """Say something to the module; return all that it answers, until it hangs up."""
    with connect(directories(state)[0], owner=os.geteuid()) as connection:
        connection.settimeout(60)
        with suppress(BrokenPipeError):  # it may have refused already
            connection.sendall(request)
        return answers(connection)


def answers(connection: socket.socket) -> list[dict[str, Any]]:
    """Return what is answered, until the module hangs up: in the middle of a request, that is a reset."""
    text = b""
    connection.settimeout(60)
    try:
        while piece := connection.recv(10_000):
            text += piece
    except ConnectionResetError:
        pass
    return [json.loads(part) for part in text.splitlines()]


def code_of(answer: list[dict[str, Any]]) -> Any:
    return answer[-1]["end"]["code"]


def check(state: Path, *arguments: str) -> Outcome:
    """Run `iot-sftp check` as in the module's container."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("IOT_SFTP_")}
    done = subprocess.run(
        [*PROGRAM, "check", *arguments],
        env=variables | {"SFTP_STATE_DIR": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def until_there(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.is_socket():
        assert time.monotonic() < end
        time.sleep(0.02)


def left_by_a_killed_process(state: Path) -> None:
    directory, _ = directories(state)
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/{NAME}")


# --- what is told


def test_the_settings_in_force_are_diagnosed_step_by_step(state: Path, openssh_server: Server) -> None:
    with serving(state, lambda: settings_of(openssh_server)):
        ended = check(state, "--json")

    assert (ended.status, ended.document["ok"]) == (0, True)
    assert [step["name"] for step in ended.document["steps"]] == STEPS
    assert openssh_server.host_key in ended.document["steps"][4]["found"]
    assert f"{openssh_server.user} at {openssh_server.host} port {openssh_server.port}" in ended.err


def test_the_output_is_the_same_as_for_a_named_server(state: Path, openssh_server: Server) -> None:
    with serving(state, lambda: settings_of(openssh_server)):
        ended = check(state)

    assert ended.status == 0
    assert len([one for one in ended.out.splitlines() if one.startswith(("✓ ", "ok "))]) == len(STEPS)


def test_a_failed_step_is_reported_with_an_advice(state: Path) -> None:
    with serving(state):
        ended = check(state, "--json")

    assert (ended.status, ended.document["code"]) == (1, "unreachable")
    assert [step["name"] for step in ended.document["steps"]] == ["dns", "tcp"]
    assert "firewall" in ended.document["steps"][-1]["advice"]


def test_a_module_without_settings_says_what_is_missing(state: Path) -> None:
    with serving(state, not_configured):
        ended = check(state, "--json")
        people = check(state)

    assert (ended.status, ended.document["code"], ended.document["steps"]) == (1, "not_configured", [])
    assert (people.status, people.out) == (1, "")
    assert "nothing is there yet [not_configured]" in people.err


def test_the_time_limit_of_a_step_can_be_requested(state: Path) -> None:
    with listening(never_answers) as port, serving(state, lambda: replace(NOWHERE, port=port)):
        ended = check(state, "--json", "--timeout", "0.5")

    assert (ended.status, ended.document["steps"][-1]["name"]) == (1, "ssh_version")


def test_a_server_that_is_named_is_asked_itself(state: Path) -> None:
    with serving(state, not_configured):
        ended = check(
            state, "--json", "--host", "127.0.0.1", "--port", str(free_port()), "--user", "me", "--key-file", "x"
        )

    assert (ended.status, ended.document["code"]) == (1, "unreachable")


def test_an_incomplete_server_is_a_usage_error(state: Path) -> None:
    with serving(state):
        ended = check(state, "--user", "me")

    assert (ended.status, ended.out) == (2, "")
    assert "IOT_SFTP_HOST" in ended.err


def test_without_a_module_the_server_has_to_be_named_as_before(state: Path) -> None:
    with serving(state):
        pass
    ended = check(state)

    assert (ended.status, ended.out) == (2, "")
    assert "no host is given: use --host, or set IOT_SFTP_HOST" in ended.err


def test_the_module_writes_nothing_on_the_server_for_a_check(state: Path) -> None:
    with serving(state):
        ended = check(state, "--write", ".")

    assert (ended.status, ended.out) == (2, "")
    assert "--write" in ended.err


def test_the_command_line_needs_no_dependency_of_the_module(state: Path) -> None:
    names = ["azure", "prometheus_client", "pydantic", "watchdog"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({names!r})); from iot.sftp.command_line import main; main()"
    )
    variables = os.environ | {"SFTP_STATE_DIR": str(state)}
    with serving(state):
        run = subprocess.run([sys.executable, "-c", program, "check"], env=variables, capture_output=True, check=True)

    assert b"DNS" in run.stdout


def test_each_check_is_one_line_in_the_log(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "iot")
    with serving(state):
        said_to(state, ASK)
        wait_for(lambda: bool(caplog.messages))

    assert caplog.messages == [f"asked for by uid {os.geteuid()}: tcp fails: unreachable"]


# --- who may ask


def test_only_its_user_can_reach_the_socket(state: Path) -> None:
    with serving(state):
        directory, _ = directories(state)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / NAME).stat().st_mode & 0o777 == 0o600


@only_root
def test_another_user_gets_the_owner_of_the_socket(state: Path) -> None:
    with serving(state):
        ended = as_nobody("from iot.sftp.command_line import main", "sys.exit(main(['check']))", str(state))

    assert (ended.status, ended.out) == (1, "")
    assert "belongs to another user" in ended.err
    assert ended.err.endswith("[permission_denied]\n")


@only_root
def test_another_user_who_reaches_the_socket_is_refused() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        state = Path(name)
        state.chmod(0o755)
        with serving(state):
            directory, _ = directories(state)
            directory.chmod(0o755)
            (directory / NAME).chmod(0o666)
            said = "s.connect(PATH); print(s.recv(10_000).decode())"
            prepare = f"PATH = {str(directory / NAME)!r}; s = socket.socket(socket.AF_UNIX)"
            answer = as_nobody(prepare, said, name).document

    assert answer["end"]["code"] == "permission_denied"


def as_nobody(prepare: str, program: str, state: str) -> Outcome:
    """Run a program that becomes another user, as soon as all that it needs is loaded."""
    drop = f"os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})"
    done = subprocess.run(
        [sys.executable, "-c", f"import os, socket, sys; {prepare}; {drop}; {program}"],
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name} | {"SFTP_STATE_DIR": state},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@only_root
def test_a_directory_of_another_user_is_neither_served_nor_asked(state: Path, temporary: Path) -> None:
    in_state, in_temporary = directories(state)
    for directory in (in_state, in_temporary):
        directory.mkdir(mode=0o700)
        os.chown(directory, NOBODY, NOBODY)
    with serving(state):
        assert list(in_state.iterdir()) == list(in_temporary.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{in_temporary}/{NAME}")
        listener.listen()
        ended = check(state)

    assert (ended.status, ended.out) == (1, "")
    assert "belongs to another user" in ended.err
    assert temporary in in_temporary.parents


# --- where the socket is


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
    older = CheckServer(state, not_configured)
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
    server = CheckServer(state / "nowhere", not_configured, limits=CheckLimits(stop=20.0))
    server.start()
    (state / "nowhere").mkdir()
    server.stop()
    assert "check-server" not in {thread.name for thread in threading.enumerate()}
    assert list((state / "nowhere").iterdir()) == []


def test_a_server_that_was_never_started_can_be_stopped(state: Path) -> None:
    CheckServer(state, not_configured).stop()


# --- who asks too much, too long or too slowly


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


@hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds that nobody tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- a module that does not answer as it should


@contextmanager
def answering(state: Path, answer: Callable[[socket.socket], None]) -> Iterator[dict[Path, int | None]]:
    """Listen in the module's place, and do something else."""
    directory, _ = directories(state)
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/{NAME}")
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield {directory: os.geteuid()}
        thread.join(60)


def failure_of(steps: Iterator[Any]) -> SFTPError:
    with pytest.raises(SFTPError) as raised:
        list(steps)
    return raised.value


@pytest.mark.parametrize("limit, timeout", [(0.2, None), (0.2, 60), (60, 0.2)])
def test_a_silent_module_is_given_up_in_bounded_time(state: Path, limit: float, timeout: float | None) -> None:
    given_up = threading.Event()
    started = time.monotonic()
    with answering(state, lambda _: void(given_up.wait(60))) as owners:
        assert isinstance(failure_of(steps_of_module(owners, timeout, first_limit=limit)), DeadlineExceeded)
        given_up.set()
    assert time.monotonic() - started < 30


def test_a_module_that_disconnects_is_reported(state: Path) -> None:
    with answering(state, lambda connection: void(connection.recv(100))) as owners:
        assert isinstance(failure_of(steps_of_module(owners, None)), ConnectionLost)


@pytest.mark.parametrize(
    "text",
    [
        b"what?\n",
        b"[]\n",
        b'{"step": 5}\n',
        b'{"step": {"x": 1}}\n',
        b'{"end": 5}\n',
        b"{}\n",
        b"x" * 2 * ANSWER_MAXIMUM,
    ],
)
def test_an_invalid_answer_is_reported(state: Path, text: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(100)
        connection.settimeout(60)
        with suppress(OSError):  # whoever reads may have enough
            connection.sendall(text)

    with answering(state, say) as owners:
        failure = failure_of(steps_of_module(owners, None))
    assert isinstance(failure, Internal)
    assert "another version" in failure.message


def void(_: object) -> None:
    """Return nothing."""


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
