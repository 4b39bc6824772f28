"""The module answers `iot-sftp check` from those who may ask."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command_line.conftest import Outcome
from tests.module.app.checks import (
    ASK,
    NOWHERE,
    check,
    not_configured,
    said_to,
    serving,
    settings_of,
    unknown,
    wait_for,
)
from tests.servers import Server, free_port, listening, never_answers

from iot.sftp.client import ServerSettings
from iot.sftp.module._app.check_socket import NAME, directories

pytestmark = pytest.mark.usefixtures("temporary")

STEPS = ["dns", "tcp", "ssh_version", "algorithms", "host_key", "authentication", "extensions", "speed"]
NOBODY = 65534

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


# --- The answer


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


def test_all_servers_are_checked_and_one_that_fails_hides_no_other(state: Path, openssh_server: Server) -> None:
    def other(name: str) -> ServerSettings:
        return settings_of(openssh_server) if name == "mes" else not_configured()

    with serving(state, servers=("sftp", "mes", "erp"), other=other):
        ended = check(state, "--json")
        people = check(state)

    assert (ended.status, ended.document["ok"]) == (1, False)
    servers = ended.document["servers"]
    assert {name: (server["ok"], server.get("code")) for name, server in servers.items()} == {
        "sftp": (False, "unreachable"),
        "mes": (True, None),
        "erp": (False, "not_configured"),
    }
    assert [step["name"] for step in servers["mes"]["steps"]] == STEPS
    assert people.status == 1
    assert [line for line in people.out.splitlines() if line in {"sftp:", "mes:", "erp:"}] == ["sftp:", "mes:", "erp:"]
    assert f"about mes: {openssh_server.user} at " in people.err


def test_one_server_can_be_named(state: Path, openssh_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "iot")

    def other(name: str) -> ServerSettings:
        return settings_of(openssh_server) if name == "mes" else unknown(name)

    with serving(state, servers=("sftp", "mes"), other=other):
        ended = check(state, "--json", "--name", "mes")
        refused = check(state, "--json", "--name", "typo")
        user = f"asked for by uid {os.geteuid()}: "
        told = [f"{user}mes: all is well", f"{user}invalid_request: there is no server typo"]
        wait_for(lambda: [line for line in caplog.messages if line.startswith(user)] == told)

    assert (ended.status, ended.document["ok"]) == (0, True)
    assert [step["name"] for step in ended.document["steps"]] == STEPS
    assert (refused.status, refused.document["code"], refused.document["steps"]) == (1, "invalid_request", [])


def test_a_name_without_a_module_is_a_usage_error(state: Path) -> None:
    ended = check(state, "--name", "mes")

    assert (ended.status, ended.out) == (2, "")
    assert "--name" in ended.err


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


# --- Who may ask


def test_only_its_user_can_reach_the_socket(state: Path) -> None:
    with serving(state):
        directory, _ = directories(state)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / NAME).stat().st_mode & 0o777 == 0o600


@only_root
def test_another_user_gets_the_owner_of_the_socket(state: Path) -> None:
    with serving(state):
        ended = as_nobody("from iot.sftp.command_line._main import main", "sys.exit(main(['check']))", str(state))

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
