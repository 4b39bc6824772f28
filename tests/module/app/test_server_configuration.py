"""Several servers in one twin: each takes effect, stays or goes by itself, and is reported under its name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.module.app.test_configuration import Device
from tests.servers import free_port

from iot.sftp.client import InvalidRequest, NotConfigured, SFTPSession
from iot.sftp.module._documents.rule import RULES_MAXIMUM
from iot.sftp.module._documents.servers import SERVERS_MAXIMUM
from iot.sftp.module._work.current_session import ConnectionState, CurrentSession, SessionState

TWIN_MAXIMUM = 32 * 1024  # bytes of all reported properties


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.rules.stop(5)
    device.servers.close()


@pytest.fixture
def server() -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": free_port(), "user": "device", "password": "hunter2"}


def session_of(device: Device, name: str) -> SFTPSession:
    with device.servers.use(name) as session:
        return session


def until_unused(sessions: CurrentSession) -> None:
    """Wait until nobody uses a server's sessions any more, also not to open one."""
    assert sessions._opened.wait(60)
    end = time.monotonic() + 60
    while sessions.is_in_use:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_server_has_a_session_and_is_acknowledged(device: Device, server: dict[str, Any]) -> None:
    device.apply(3, sftp=server, servers={"mes": server | {"user": "line-7"}, "erp": server})
    sessions = {name: session_of(device, name) for name in ("sftp", "mes", "erp")}
    assert len(set(map(id, sessions.values()))) == 3
    assert sessions["mes"].settings.user == "line-7"
    reported = device.reported["servers"]
    assert (reported["ac"], reported["av"], reported["ad"]) == (200, 3, "applied")
    value = {"host": "127.0.0.1", "port": server["port"], "user": "line-7", "auth": "password"}
    assert {key: reported["mes"][key] for key in ("ac", "av", "ad", "value")} == {
        "ac": 200,
        "av": 3,
        "ad": "applied",
        "value": value,
    }
    assert reported["mes"]["connection"]["state"] in {"connecting", "failed"}
    assert "hunter2" not in str(device.reported)
    assert device.configuration.in_force["servers"]["mes"]["user"] == "line-7"


def test_the_default_server_may_be_left_out(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, servers={"mes": server})
    session_of(device, "mes")
    with pytest.raises(NotConfigured, match="no section sftp"):
        session_of(device, "sftp")
    assert "sftp" not in device.reported


def test_a_server_that_had_to_wait_for_the_clock_is_reported_once_it_is_in_use(
    device: Device, server: dict[str, Any]
) -> None:
    right, device.now = device.now, 0.0
    device.apply(1, sftp=server | {"user": "line-{date:%Y}"})
    assert "value" not in device.reported["sftp"]
    device.now = right
    session_of(device, "sftp")
    assert device.reported["sftp"]["value"]["user"] == "line-2026"


def test_an_invalid_server_leaves_what_had_its_name_and_the_others(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, servers={"mes": server, "erp": server})
    before = {name: session_of(device, name) for name in ("mes", "erp")}
    device.apply(2, servers={"mes": server | {"port": 0}, "erp": server | {"user": "other"}, "new one": server})
    assert session_of(device, "mes") is before["mes"]
    assert session_of(device, "erp") is not before["erp"]
    reported = device.reported["servers"]
    assert reported["ac"] == 400
    assert "'new one'" in reported["ad"]
    assert (reported["mes"]["ac"], reported["mes"]["value"]["port"]) == (400, server["port"])
    assert reported["erp"]["ac"] == 200


def test_an_invalid_first_server_is_known_and_says_what_is_wrong(device: Device) -> None:
    device.apply(1, servers={"mes": {"host": "h"}})
    with pytest.raises(NotConfigured, match=r"'mes' .* is invalid: 'user' is missing"):
        session_of(device, "mes")
    assert device.reported["servers"]["mes"]["ac"] == 400
    assert device.reported["servers"]["mes"]["connection"]["state"] == "not_configured"


@pytest.mark.parametrize("servers", [5, [], {f"s{number}": {} for number in range(SERVERS_MAXIMUM + 1)}])
def test_a_section_that_is_no_object_of_servers_changes_none(
    device: Device, server: dict[str, Any], servers: Any
) -> None:
    device.apply(1, servers={"mes": server})
    before = session_of(device, "mes")
    device.apply(2, servers=servers)
    assert session_of(device, "mes") is before
    assert device.reported["servers"]["ac"] == 400
    assert device.reported["servers"]["mes"]["value"]["user"] == "device"


@pytest.mark.parametrize("after", [{}, {"servers": {}}, {"servers": {"erp": {"host": "h"}}}])
def test_a_server_that_is_removed_is_unknown_and_keeps_no_other(
    device: Device, server: dict[str, Any], after: dict[str, Any]
) -> None:
    device.apply(1, sftp=server, servers={"mes": server})
    device.apply(2, sftp=server, **after)
    with pytest.raises(InvalidRequest, match="no server 'mes' in the desired properties; there are: sftp"):
        session_of(device, "mes")
    with pytest.raises(NotConfigured, match="no server 'mes' any more"):
        device.servers.find("mes")
    assert "mes" not in device.reported.get("servers", {})
    session_of(device, "sftp")


def test_a_session_in_use_outlives_its_server(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, servers={"mes": server})
    with device.servers.use("mes"):
        sessions = device.servers.get("mes")
        device.apply(2, logLevel="error")
        assert sessions.is_in_use
    until_unused(sessions)


def test_a_server_that_did_not_change_keeps_its_session(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, servers={"mes": server})
    before = session_of(device, "mes")
    device.apply(2, servers={"mes": dict(server), "erp": server}, logLevel="error")
    assert session_of(device, "mes") is before
    assert device.reported["servers"]["mes"]["av"] == 2


def test_one_server_under_two_names_is_two(device: Device, server: dict[str, Any], tmp_path: Path) -> None:
    device.apply(1, sftp=server, servers={"a": server, "b": server})
    known = {name: session_of(device, name).settings.known_hosts for name in ("sftp", "a", "b")}
    state = tmp_path / "state"
    assert known == {
        "sftp": state / "known_hosts",
        "a": state / "servers/a/known_hosts",
        "b": state / "servers/b/known_hosts",
    }


def test_a_rule_for_a_server_of_the_same_document_is_valid(device: Device, server: dict[str, Any]) -> None:
    rule = {"name": "r", "direction": "upload", "source": "a", "dest": "b", "server": "mes"}
    device.apply(1, servers={"mes": server}, rules=[rule])
    assert device.reported["rules"]["value"]["r"]["ac"] == 200
    device.apply(2, servers={"erp": server}, rules=[rule])
    reported = device.reported["rules"]["value"]["r"]
    assert (reported["ac"], reported["ad"]) == (400, "'server' must be one of sftp, erp, not 'mes'")


def test_an_empty_document_keeps_servers_without_a_default_one(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, servers={"mes": server})
    before = session_of(device, "mes")
    device.apply(2)
    assert session_of(device, "mes") is before


def test_sixteen_servers_and_twenty_rules_that_fail_at_length_fit_into_a_twin(device: Device) -> None:
    long = ".".join(["x" * 60] * 4)
    server = {"host": f"{long}.example.com", "user": "u" * 200, "password": "p"}
    names = [f"{number:032}" for number in range(SERVERS_MAXIMUM)]
    rule = {"direction": "upload", "source": f"/outside/{long}", "dest": "b"}
    rules = [rule | {"name": f"{number:064}", "server": names[number % 16]} for number in range(RULES_MAXIMUM)]
    device.apply(2**40, sftp=server, servers=dict.fromkeys(names, server), rules=rules)
    state = ConnectionState(SessionState.FAILED, "authentication_failed", "m" * 4_000, "s" * 20, "v" * 255, "k" * 50)
    device.rules.stop(60)
    for name in ("sftp", *names):
        until_unused(device.servers.get(name))
        device.servers.get(name)._set(state)
        device.configuration.servers.report_connection(name, state)
    document = device.reporter.document
    assert len(json.dumps(document)) < TWIN_MAXIMUM
    assert document.keys() >= {"sftp", "connection", "servers", "rules", "transfers", "module"}
    assert document["servers"].keys() >= set(names)
    for name in names:
        shown = document["servers"][name]
        assert (shown["ac"], shown["connection"]["code"]) == (200, "authentication_failed")
        assert len(shown["connection"]["message"]) >= 100
