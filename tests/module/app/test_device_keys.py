"""A server whose key the device makes: what is reported, and a rotation on a real server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.servers import openssh

from iot.sftp.client import AuthenticationFailed
from iot.sftp.client._ssh.login_backoff import LOGIN_BACKOFF
from iot.sftp.module._app.server_configuration import ServerConfiguration, do_now
from iot.sftp.module._base.environment import Environment
from iot.sftp.module._documents.server import read_server
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._hub.reported import Reporter
from iot.sftp.module._work.current_session import ConnectionState, SessionState
from iot.sftp.module._work.device_key import CURRENT
from iot.sftp.module._work.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

GENERATE = {"privateKey": {"generate": "ed25519"}}


class Life:
    """One life of the module, as far as it is about the keys of the default server."""

    def __init__(
        self,
        directory: Path,
        section: dict[str, Any],
        in_loop: Callable[[Callable[[], None]], object] = do_now,
        *,
        waits: bool = True,
    ) -> None:
        self.reporter = Reporter(self._never_sent, lambda: None)
        self.configuration: ServerConfiguration | None = None
        self.servers = Servers(self._connection_changed)
        environment = Environment(directory / "data", directory / "state", "warning", 0, "hub", "device-42", "sftp")
        self.configuration = ServerConfiguration(
            environment, self.servers, self.reporter, lambda: 1.8e9, in_loop=in_loop
        )
        self._section = section
        self.apply(7)
        if waits:
            assert self.servers.default._opened.wait(60)  # until the key was made, or could not be

    def apply(self, version: int) -> None:
        """Take a document with the same section."""
        assert self.configuration is not None
        section = read_server(self._section, "sftp", Placeholders("device-42", "sftp", "hub"))
        self.configuration.apply_default(section, version)

    @staticmethod
    async def _never_sent(_patch: dict[str, Any]) -> None:
        raise AssertionError("nothing is sent here")

    def _connection_changed(self, name: str, state: ConnectionState) -> None:
        if self.configuration is not None:
            self.configuration.report_connection(name, state)

    @property
    def value(self) -> dict[str, Any]:
        value: dict[str, Any] = self.reporter.wanted["sftp"]["value"]
        return value

    def rotate(self) -> str:
        key = self.servers.default.device_key
        assert key is not None
        return key.rotate()

    def log_in(self) -> None:
        while self.servers.default.state.state is SessionState.CONNECTING:  # with a key that may not be installed yet
            self.servers.default.is_connected(60)
        LOGIN_BACKOFF.forget_all()
        with self.servers.default.use() as session:
            session.disconnect()
            assert session.exists(".", timeout=60)

    def end(self) -> None:
        self.servers.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with openssh(tmp_path / "sshd") as server:
        yield server


def section_of(server: Server) -> dict[str, Any]:
    return {"host": server.host, "port": server.port, "user": server.user, **GENERATE}


def authorize(server: Server, *lines: str) -> None:
    assert server.key_file is not None
    server.key_file.with_suffix(".pub").write_text("".join(f"{line}\n" for line in lines))


def test_the_public_key_is_reported_and_no_other_part_of_it(tmp_path: Path, server: Server) -> None:
    life = Life(tmp_path, section_of(server))

    assert life.value == {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "auth": "privateKey",
        "publicKey": life.value["publicKey"],
    }
    assert life.value["publicKey"].endswith(" device-42/sftp/sftp")
    assert "PRIVATE" not in str(life.reporter.wanted)
    authorize(server, life.value["publicKey"])
    life.log_in()
    life.end()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_rotation_never_leaves_a_moment_in_which_no_key_works(
    tmp_path: Path, server: Server, *, restarts: bool
) -> None:
    life = Life(tmp_path, section_of(server))

    def go_on() -> Life:
        if not restarts:
            return life
        life.end()
        return Life(tmp_path, section_of(server))

    old = life.value["publicKey"]
    authorize(server, old)
    life.log_in()
    new = life.rotate()
    assert (life.value["publicKey"], life.value["nextPublicKey"]) == (old, new)
    life = go_on()
    life.log_in()  # by the old one: the server does not know the next one yet
    assert (life.value["publicKey"], life.value["nextPublicKey"]) == (old, new)
    authorize(server, old, new)
    life = go_on()
    life.log_in()
    assert life.value["publicKey"] == new
    assert "nextPublicKey" not in life.value
    authorize(server, new)
    life = go_on()
    life.log_in()
    life.end()


def test_a_key_that_could_not_be_made_at_first_is_reported_when_it_was(tmp_path: Path, server: Server) -> None:
    state = tmp_path / "state"
    state.touch()  # what nothing can be written into
    life = Life(tmp_path, section_of(server))
    assert "value" not in life.reporter.wanted["sftp"]
    assert life.reporter.wanted["connection"]["state"] == "not_configured"

    state.unlink()
    with life.servers.default.use():
        authorize(server, life.value["publicKey"])
    life.log_in()
    life.end()


def test_a_state_directory_that_hangs_holds_up_neither_a_document_nor_a_report(tmp_path: Path, server: Server) -> None:
    first = Life(tmp_path, section_of(server))
    line = first.value["publicKey"]
    authorize(server, line)
    first.end()
    file = tmp_path / "state" / CURRENT
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)  # who opens it waits until somebody else does

    life = Life(tmp_path, section_of(server), waits=False)
    life.apply(8)
    life._connection_changed("sftp", life.servers.default.state)
    assert "publicKey" not in life.value
    assert life.reporter.wanted["connection"]["state"] == "connecting"
    assert not life.servers.default._opened.is_set()

    with open(file, "wb") as pipe:
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").replace(file)
        pipe.write(content)
    life.log_in()
    assert life.value["publicKey"] == line
    life.end()


def test_what_a_rotation_changes_is_reported_in_the_event_loop(tmp_path: Path, server: Server) -> None:
    in_loop: list[Callable[[], None]] = []
    life = Life(tmp_path, section_of(server), in_loop.append)

    new = life.rotate()

    assert "nextPublicKey" not in life.value
    in_loop.pop()()
    assert life.value["nextPublicKey"] == new
    life.end()


def test_a_rotation_is_reported_whatever_other_document_arrived_meanwhile(tmp_path: Path, server: Server) -> None:
    life = Life(tmp_path, section_of(server))
    lines = [life.value["publicKey"]]
    authorize(server, *lines)
    life.log_in()
    for version in (8, 9):
        life.apply(version)  # the same server, whose session stays
        lines.append(life.rotate())
        authorize(server, *lines)
        life.log_in()
        assert life.value["publicKey"] == lines[-1]
        assert "nextPublicKey" not in life.value
    assert len(set(lines)) == 3
    life.end()


def test_a_key_that_nobody_has_installed_is_refused_by_its_name(tmp_path: Path, server: Server) -> None:
    life = Life(tmp_path, section_of(server))
    with life.servers.default.use() as session, pytest.raises(AuthenticationFailed, match="refused the private key"):
        session.exists(".", timeout=60)
    life.end()


@pytest.mark.parametrize(
    "section, words",
    [
        ({"privateKey": {"generate": "rsa"}}, 'must be {"generate": "ed25519"}'),
        ({**GENERATE, "passphrase": "x"}, "'passphrase': a key that the device makes has none"),
        ({**GENERATE, "jump": {"host": "bastion", "user": "u", **GENERATE}}, "not for a jump host"),
        ({"privateKey": "no key"}, "'privateKey': the private key cannot be read"),
        ({"password": "x", "jump": {"host": "b", "user": "u", "privateKey": "no key"}}, "'jump.0.privateKey': the"),
    ],
)
def test_a_key_that_can_never_work_is_invalid(section: dict[str, Any], words: str) -> None:
    document = {"host": "sftp.example.com", "user": "device", **section}

    error = read_server(document, "sftp", Placeholders("device-42", "sftp", "hub")).error

    assert error is not None
    assert words in error


def test_what_may_come_later_is_valid() -> None:
    for later in ({"file": "/run/secrets/key"}, {"env": "LATER"}):
        document = {"host": "sftp.example.com", "user": "device", "privateKey": later, "passphrase": {"env": "LATER"}}
        assert read_server(document, "sftp", Placeholders("device-42", "sftp", "hub")).error is None
