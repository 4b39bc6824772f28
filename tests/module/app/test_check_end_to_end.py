"""`iot-sftp check` beside the running module: it tells of the connection that the module has, and no secret."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command_line.conftest import PROGRAM, Outcome
from tests.module.conftest import wait_for_log
from tests.servers import PASSWORD, Server, openssh

from iot.sftp.module import _module
from localedge import LocalEdge

pytestmark = pytest.mark.skipif(not hasattr(_module, "CheckServer"), reason="the module does not serve checks yet")

WRONG = "a-wrong-password-that-nobody-shows"


def section_of(server: Server, **changes: object) -> dict[str, object]:
    """Return the desired section `sftp`, in which the server's key is pinned."""
    section: dict[str, object] = {"host": server.host, "port": server.port, "user": server.user}
    if server.key_file is not None:
        section["privateKey"] = server.key_file.read_text().splitlines()
    if server.password is not None:
        section["password"] = server.password
    return section | {"hostKeys": [server.host_key]} | changes


def check(edge: LocalEdge) -> Outcome:
    """Run `iot-sftp check --json` with the environment that the module has."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("IOT_SFTP_")}
    command = [*PROGRAM, "check", "--json"]
    environment = variables | edge.module_environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert WRONG not in done.stdout + done.stderr + edge.module_log
    assert PASSWORD not in done.stdout + done.stderr + edge.module_log
    assert "PRIVATE KEY" not in done.stdout + done.stderr + edge.module_log
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def device(own_address: str) -> Iterator[LocalEdge]:
    """A device whose module has no configuration yet."""
    with LocalEdge(address=own_address, restart_policy="never") as edge:
        edge.wait_until_connected()
        edge.invoke("sftp", "is_connected")
        yield edge


def put_into_force(edge: LocalEdge, section: dict[str, object]) -> None:
    version = edge.patch_desired({"sftp": section})
    wait_for_log(edge, f"desired properties {version} are in force", seconds=60)


def test_the_settings_of_the_twin_are_what_is_diagnosed(device: LocalEdge, openssh_server: Server) -> None:
    put_into_force(device, section_of(openssh_server))
    ended = check(device)

    assert (ended.status, len(ended.document["steps"])) == (0, 8)
    assert ended.document["steps"][4]["found"] == f"{openssh_server.host_key}, which is pinned"


def test_a_key_that_is_not_the_pinned_one_is_reported(device: LocalEdge, openssh_server: Server) -> None:
    put_into_force(device, section_of(openssh_server, hostKeys=["SHA256:" + "A" * 43]))
    ended = check(device)

    assert (ended.status, ended.document["code"]) == (1, "host_key_mismatch")


def test_a_wrong_password_in_the_twin_is_reported_and_not_shown(device: LocalEdge, proftpd_server: Server) -> None:
    put_into_force(device, section_of(proftpd_server, password=WRONG))
    ended = check(device)

    assert (ended.status, ended.document["code"]) == (1, "authentication_failed")
    assert ended.document["steps"][-1]["name"] == "authentication"


def test_a_server_that_is_down_is_reported(device: LocalEdge, tmp_path: Path) -> None:
    with openssh(tmp_path / "server") as server:
        section = section_of(server)
    put_into_force(device, section)
    ended = check(device)

    assert (ended.status, ended.document["code"]) == (1, "unreachable")
    assert ended.document["steps"][-1]["name"] == "tcp"


def test_a_module_without_configuration_says_so(device: LocalEdge) -> None:
    ended = check(device)

    assert (ended.status, ended.document["code"], ended.document["steps"]) == (1, "not_configured", [])
    assert "section sftp" in ended.document["message"]


def test_a_killed_module_is_reported_and_a_restarted_one_answers(device: LocalEdge) -> None:
    device.kill_module()
    wait_for_end(device)
    ended = check(device)
    assert (ended.status, ended.document["code"]) == (1, "unreachable")

    device.start_module()
    device.wait_until_connected()
    assert check(device).document["code"] == "not_configured"


def wait_for_end(edge: LocalEdge) -> None:
    edge.stop_module()  # it is waited for, and has ended already


def test_a_module_that_has_ended_leaves_no_socket(device: LocalEdge) -> None:
    assert list((device.state_directory / "check").iterdir()) != []
    assert device.stop_module(limit=60) == 0
    assert list((device.state_directory / "check").iterdir()) == []
