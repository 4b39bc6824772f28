"""Desired properties through the real SDK: what takes effect, what is reported, and what a bad server looks like."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import TALKATIVE, connected, section_of, wait_for_log
from tests.proxies import PASSWORD as PROXY_PASSWORD
from tests.proxies import socks_proxy
from tests.servers import (
    Relay,
    Server,
    black_hole,
    closes_at_once,
    free_port,
    listening,
    never_answers,
    openssh,
    resets_at_once,
    speaks_http,
)

from iot.sftp.client import __version__
from localedge import LocalEdge

Report = dict[str, Any]
TALKATIVELY = (sys.executable, "-c", TALKATIVE)


@pytest.fixture
def fresh(edge: LocalEdge, openssh_server: Server) -> Iterator[LocalEdge]:
    """The shared device, with the configuration that works, before and after."""

    def restore() -> None:
        version = edge.replace_desired({"sftp": section_of(openssh_server)})
        edge.wait_for_reported(lambda reported: reported["sftp"]["av"] == version and connected(reported))

    restore()
    yield edge
    restore()


def acknowledged(version: int) -> Callable[[Report], bool]:
    return lambda reported: bool(reported.get("sftp", {}).get("av") == version)


def in_state(state: str, code: str | None = None) -> Callable[[Report], bool]:
    def condition(reported: Report) -> bool:
        connection = reported.get("connection", {})
        return bool(connection.get("state") == state and connection.get("code") == code)

    return condition


def test_a_device_that_starts_reports_what_it_does(edge: LocalEdge, openssh_server: Server) -> None:
    reported = edge.wait_for_reported(connected)
    assert reported["module"] == {"version": __version__}
    assert reported["sftp"]["ac"] == 200
    assert reported["sftp"]["av"] == edge.desired["$version"]
    assert reported["sftp"]["value"] == {
        "host": openssh_server.host,
        "port": openssh_server.port,
        "user": openssh_server.user,
        "auth": "privateKey",
    }
    assert reported["transfers"]["value"]["concurrency"] == 2
    assert reported["connection"]["host_key"] == openssh_server.host_key
    assert "PRIVATE KEY" not in str(reported)


def test_a_change_takes_effect_for_the_next_call(fresh: LocalEdge, openssh_server: Server) -> None:
    (openssh_server.directory / "below").mkdir(exist_ok=True)
    (openssh_server.directory / "below" / "only-here").touch()
    assert fresh.invoke("sftp", "exists", {"path": "only-here"}) == (200, False)
    version = fresh.patch_desired({"sftp": {"root": str(openssh_server.directory / "below")}})
    fresh.wait_for_reported(acknowledged(version))
    assert fresh.invoke("sftp", "exists", {"path": "only-here"}) == (200, True)
    assert fresh.invoke("sftp", "list_files", {"path": "."}) == (200, ["only-here"])
    version = fresh.patch_desired({"sftp": {"root": None}})
    fresh.wait_for_reported(acknowledged(version))
    assert fresh.invoke("sftp", "exists", {"path": "only-here"}) == (200, False)


def test_a_transfer_in_flight_finishes_on_the_old_session(
    fresh: LocalEdge, openssh_server: Server, remote: Path
) -> None:
    content = os.urandom(1_000_000) * 200
    (remote / "large").write_bytes(content)
    transfer = fresh.submit("sftp", "download_file", {"source": f"{remote.name}/large", "dest": "large"})
    version = fresh.patch_desired({"sftp": {"keepAlive": 31}})
    fresh.wait_for_reported(acknowledged(version))
    assert transfer.result(30) == (200, True)
    assert (fresh.local_root / "large").read_bytes() == content
    assert openssh_server.process is not None


def test_an_invalid_change_leaves_the_old_configuration_in_force(fresh: LocalEdge) -> None:
    version = fresh.patch_desired({"sftp": {"port": "twenty-two", "hosst": "x"}})
    reported = fresh.wait_for_reported(acknowledged(version))
    assert reported["sftp"]["ac"] == 400
    assert "'port' must be a whole number" in reported["sftp"]["ad"]
    assert "'hosst' is not known here" in reported["sftp"]["ad"]
    assert fresh.invoke("sftp", "exists", {"path": "."}) == (200, True)


def test_a_removed_section_is_not_in_force_any_more(fresh: LocalEdge) -> None:
    fresh.replace_desired({"logLevel": "info"})
    reported = fresh.wait_for_reported(in_state("not_configured", "not_configured"))
    assert "sftp" not in reported
    status, body = fresh.invoke("sftp", "exists", {"path": "."})
    assert (status, body["code"]) == (503, "not_configured")
    assert "host, user and password or privateKey" in body["message"]
    assert fresh.invoke("sftp", "is_connected") == (200, False)
    assert fresh.invoke("sftp", "disconnect") == (200, None)


def test_an_empty_document_does_not_remove_a_configuration(fresh: LocalEdge) -> None:
    before = fresh.reported["sftp"]["av"]
    fresh.replace_desired({})
    wait_for_log(fresh, "are empty: the configuration in force stays")
    assert fresh.invoke("sftp", "exists", {"path": "."}) == (200, True)
    assert fresh.reported["sftp"]["av"] == before


def test_the_log_level_changes_without_a_restart(fresh: LocalEdge) -> None:
    version = fresh.patch_desired({"logLevel": "error"})
    fresh.wait_for_reported(acknowledged(version))
    quiet = len(fresh.module_log)
    fresh.invoke("sftp", "exists", {"path": "."})
    assert len(fresh.module_log) == quiet
    version = fresh.patch_desired({"logLevel": "debug"})
    fresh.wait_for_reported(acknowledged(version))
    fresh.invoke("sftp", "exists", {"path": "."})
    assert "exists: '.': 200" in fresh.module_log[quiet:]


def test_a_change_while_the_device_was_offline_takes_effect_later(fresh: LocalEdge) -> None:
    fresh.stop_hub()
    fresh.wait_until_disconnected()
    version = fresh.patch_desired({"transfers": {"concurrency": 7}})
    fresh.start_hub()
    fresh.wait_until_connected()
    reported = fresh.wait_for_reported(lambda found: bool(found["transfers"]["av"] == version))
    assert reported["transfers"]["value"]["concurrency"] == 7
    assert fresh.invoke("sftp", "exists", {"path": "."}) == (200, True)


# --- servers that are not as they should be: each a distinct code, within its time, and never a trace


def expect(edge: LocalEdge, code: str, status: int, within: float, **payload: Any) -> str:
    """Call a method; return the message, if status and code are as expected and in time."""
    started = time.monotonic()
    found, body = edge.invoke("sftp", "exists", {"path": "."} | payload)
    assert time.monotonic() - started < within
    assert (found, body["code"]) == (status, code)
    return str(body["message"])


def test_a_wrong_password_shows_before_the_first_call(fresh: LocalEdge, proftpd_server: Server) -> None:
    fresh.replace_desired({"sftp": section_of(proftpd_server, password="wr0ng-secret")})
    reported = fresh.wait_for_reported(in_state("failed", "authentication_failed"))
    assert reported["sftp"]["ac"] == 200
    expect(fresh, "authentication_failed", 401, 5)
    assert "wr0ng-secret" not in str(reported) + fresh.module_log


def test_a_secret_file_that_is_missing_is_named(fresh: LocalEdge, proftpd_server: Server) -> None:
    fresh.replace_desired({"sftp": section_of(proftpd_server, password={"file": "/run/secrets/none"})})
    fresh.wait_for_reported(in_state("failed", "authentication_failed"))
    assert "/run/secrets/none" in expect(fresh, "authentication_failed", 401, 5)


def test_a_secret_in_a_file_logs_in(fresh: LocalEdge, proftpd_server: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{proftpd_server.password}\n")
    fresh.replace_desired({"sftp": section_of(proftpd_server, password={"file": str(tmp_path / "password")})})
    fresh.wait_for_reported(lambda found: connected(found) and "mod_sftp" in found["connection"]["server"])


def test_a_port_where_nobody_listens_is_unreachable(fresh: LocalEdge) -> None:
    fresh.patch_desired({"sftp": {"port": free_port()}})
    fresh.wait_for_reported(in_state("failed", "unreachable"))
    expect(fresh, "unreachable", 503, 15)


def test_a_name_that_does_not_exist_is_unreachable(fresh: LocalEdge) -> None:
    fresh.patch_desired({"sftp": {"host": "no-such-host.invalid"}})
    fresh.wait_for_reported(in_state("failed", "unreachable"))
    assert "no-such-host.invalid" in expect(fresh, "unreachable", 503, 5)


def test_a_black_hole_is_unreachable_within_the_connect_limit(fresh: LocalEdge) -> None:
    with black_hole() as port:
        fresh.patch_desired({"sftp": {"port": port, "connectTimeout": 1}})
        fresh.wait_for_reported(in_state("failed", "unreachable"))
        expect(fresh, "unreachable", 503, 15)


def test_a_server_that_never_answers_is_unreachable_within_the_connect_limit(fresh: LocalEdge) -> None:
    with listening(never_answers) as port:
        fresh.patch_desired({"sftp": {"port": port, "connectTimeout": 1}})
        fresh.wait_for_reported(in_state("failed", "unreachable"))
        expect(fresh, "unreachable", 503, 15)


def test_a_call_ends_at_its_own_deadline_before_the_connect_limit(fresh: LocalEdge) -> None:
    with listening(never_answers) as port:
        version = fresh.patch_desired({"sftp": {"port": port, "connectTimeout": 60}})
        fresh.wait_for_reported(acknowledged(version))
        expect(fresh, "deadline_exceeded", 504, 15, timeout=1)
        calls = [fresh.submit("sftp", "exists", {"path": ".", "timeout": 1}) for _ in range(60)]
        started = time.monotonic()
        assert {call.result(100)[0] for call in calls} == {504}
        assert time.monotonic() - started < 28  # two at a time would take 30 s


@pytest.mark.parametrize("fault", [closes_at_once, resets_at_once, speaks_http])
def test_a_server_that_speaks_no_ssh_is_reported_without_a_trace(
    fresh: LocalEdge, fault: Callable[[Any], None]
) -> None:
    with listening(fault) as port:
        fresh.patch_desired({"sftp": {"port": port, "connectTimeout": 2}})
        reported = fresh.wait_for_reported(lambda found: bool(found["connection"]["state"] == "failed"))
        assert reported["connection"]["code"] in {"unreachable", "connection_lost", "unsupported"}
        status, body = fresh.invoke("sftp", "exists", {"path": ".", "timeout": 5})
        assert (status, body["code"]) in {(503, "unreachable"), (503, "connection_lost"), (502, "unsupported")}
        assert "Traceback" not in fresh.module_log


def test_a_pinned_key_that_is_another_one_is_a_mismatch(fresh: LocalEdge) -> None:
    fresh.patch_desired({"sftp": {"hostKeys": ["SHA256:" + "A" * 43]}})
    fresh.wait_for_reported(in_state("failed", "host_key_mismatch"))
    expect(fresh, "host_key_mismatch", 502, 2)


def test_a_key_that_changed_is_a_mismatch_until_it_is_learnt(own_address: str, tmp_path: Path) -> None:
    port, device = free_port(), tmp_path / "device"
    with openssh(tmp_path / "one", port=port) as server:
        desired = section_of(server)
        with LocalEdge(address=own_address, desired={"sftp": desired}, directory=device, command=TALKATIVELY) as edge:
            edge.wait_for_reported(connected)
            assert "ssh-ed25519" in (edge.state_directory / "known_hosts").read_text()
    with (
        openssh(tmp_path / "two", port=port) as server,
        LocalEdge(
            address=own_address, desired={"sftp": section_of(server)}, directory=device, command=TALKATIVELY
        ) as edge,
    ):
        edge.wait_for_reported(in_state("failed", "host_key_mismatch"))
        expect(edge, "host_key_mismatch", 502, 5)
        status, shown = edge.invoke("sftp", "test_connection", {"learn": True})
        assert (status, shown["host_key"]) == (200, server.host_key)
        assert edge.invoke("sftp", "exists", {"path": "."}) == (200, True)
        edge.wait_for_reported(connected)


def test_the_loss_and_the_return_of_a_server_are_reported(fresh: LocalEdge, openssh_server: Server) -> None:
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port:
        fresh.patch_desired({"sftp": {"port": port}})
        fresh.wait_for_reported(lambda found: connected(found) and bool(found["sftp"]["value"]["port"] == port))
        relay.cut()
        assert fresh.invoke("sftp", "is_connected") == (200, False)
        fresh.wait_for_reported(in_state("disconnected", "connection_lost"))
        assert fresh.invoke("sftp", "exists", {"path": "."}) == (200, True)
        fresh.wait_for_reported(connected)


def test_disconnect_ends_a_transfer_that_hangs(fresh: LocalEdge, openssh_server: Server, remote: Path) -> None:
    (remote / "large").write_bytes(bytes(500_000_000))
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port:
        # So slow that there is not enough for a later try to go on with
        fresh.patch_desired({"sftp": {"port": port}, "transfers": {"bandwidthLimit": 100_000}})
        fresh.wait_for_reported(lambda found: connected(found) and bool(found["sftp"]["value"]["port"] == port))
        folder = fresh.local_root / remote.name
        download = {"source": f"{remote.name}/large", "dest": f"{remote.name}/never"}
        transfer = fresh.submit("sftp", "download_file", download)
        while not (folder.is_dir() and any(folder.iterdir())):
            assert not transfer.done()  # its temporary file appears first
        relay.frozen.set()
        started = time.monotonic()
        assert fresh.invoke("sftp", "disconnect") == (200, None)
        status, body = transfer.result(60)
        assert time.monotonic() - started < 20
        assert (status, body["code"]) == (503, "connection_lost")
        assert list(folder.iterdir()) == []
    (remote / "large").unlink()


def test_a_password_is_nowhere_at_the_most_talkative_level(fresh: LocalEdge, proftpd_server: Server) -> None:
    assert proftpd_server.password
    start = len(fresh.module_log)
    fresh.replace_desired({"sftp": section_of(proftpd_server), "logLevel": "debug"})
    fresh.wait_for_reported(lambda found: connected(found) and "mod_sftp" in found["connection"]["server"])
    answers = [
        fresh.invoke("sftp", "test_connection"),
        fresh.invoke("sftp", "exists", {"path": 5}),
        fresh.invoke("sftp", "delete_file", {"path": "none"}),
    ]
    fresh.replace_desired({"sftp": section_of(proftpd_server, port="x"), "logLevel": "debug"})
    reported = fresh.wait_for_reported(lambda found: bool(found["sftp"]["ac"] == 400))
    written = [file.read_bytes().decode("latin-1") for file in fresh.state_directory.rglob("*") if file.is_file()]
    assert "[DBG]" in fresh.module_log[start:]
    for place in (str(answers), str(reported), fresh.module_log, *written):
        assert proftpd_server.password not in place


def test_a_server_is_reached_through_a_proxy_and_a_jump_host(fresh: LocalEdge, openssh_server: Server) -> None:
    own = section_of(openssh_server)
    jump = {key: own[key] for key in ("host", "port", "user", "password", "privateKey") if key in own}
    with socks_proxy(has_login=True) as proxy:
        login = {"user": proxy.user, "password": PROXY_PASSWORD}
        way = {"proxy": {"url": proxy.url, **login}, "jump": [jump, jump]}
        version = fresh.patch_desired({"sftp": way})
        fresh.wait_for_reported(lambda reported: acknowledged(version)(reported) and connected(reported))
        assert fresh.invoke("sftp", "exists", {"path": "."}) == (200, True)
        _, status = fresh.invoke("sftp", "get_status", {})
        assert PROXY_PASSWORD not in str(status)
        assert [hop["port"] for hop in status["settings"]["sftp"]["jump"]] == [openssh_server.port] * 2
    wrong = fresh.patch_desired({"sftp": {"proxy": {"url": f"http://127.0.0.1:{free_port()}"} | dict.fromkeys(login)}})
    fresh.wait_for_reported(
        lambda reported: acknowledged(wrong)(reported) and in_state("failed", "unreachable")(reported)
    )
    assert "proxy '127.0.0.1'" in fresh.reported["connection"]["message"]
