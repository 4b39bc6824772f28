"""Secrets never leave the client: no log, error, representation, argument or file shows one."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import pprint
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import paramiko
import pytest
from tests.clients import settings_of
from tests.faulty_servers import PASSWORD, AsksByKeyboard, FaultyServer
from tests.secret_search import OWN_PASSWORD, Search
from tests.servers import Server, free_port

from iot.sftp.client import IoTSFTPClient, Secret, ServerSettings, SFTPError, SFTPSession, TimeLimits
from iot.sftp.client._ssh.connection import Connection
from iot.sftp.client._ssh.credentials import Credentials
from iot.sftp.module._documents.twin import read_desired

# --- The search itself


@pytest.mark.parametrize(
    "plant",
    [
        lambda secret: secret,
        lambda secret: f"login as device:{secret}@host",
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.b64encode(f"ab:{secret} and more".encode()).decode(),
        quote_plus,
        lambda secret: json.dumps({"password": secret}),
        lambda secret: repr(secret.encode()),
        lambda secret: secret.encode().hex(),
        lambda secret: f"'{secret[:20]}… (300 more)'",
        lambda secret: {"nested": [{"deep": secret}]},
    ],
)
def test_the_search_finds_a_secret_that_was_planted(search: Search, plant: Callable[[str], object]) -> None:
    search.know("password", OWN_PASSWORD)
    search.note("elsewhere", "nothing to see here")
    assert search.found == set()
    search.note("here", plant(OWN_PASSWORD))
    assert {(name, place) for name, place, _ in search.found} == {("password", "here")}
    assert OWN_PASSWORD not in str(search.found)


def test_the_search_finds_a_line_of_a_key_in_a_file_and_in_the_cause_of_an_error(
    search: Search, keys: Path, tmp_path: Path
) -> None:
    text = (keys / "plain").read_text()
    search.know("key", text)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "dump").write_text(f"x{text.splitlines()[3]}x")
    assert search.note_files(tmp_path) == 1
    assert {(name, place) for name, place, _ in search.found} == {("key", f"file {tmp_path}/below/dump")}
    search.know("password", OWN_PASSWORD)
    try:
        try:
            int(OWN_PASSWORD)
        except ValueError as error:
            raise RuntimeError("something failed") from error
    except RuntimeError as error:
        search.note_error("error", error)
    assert ("password", "error: ValueError") in {(name, place) for name, place, _ in search.found}


# --- The client


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """All loggers at DEBUG, paramiko's own as well."""
    names = ["", "paramiko", "paramiko.transport", "iot", "iot.sftp.client", "iot.sftp.client.ssh"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    caplog.handler.setLevel(logging.DEBUG)
    yield caplog
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def use(search: Search, place: str, settings: ServerSettings, here: Path) -> list[str]:
    """Do everything with these settings; keep what is raised and shown, and return the codes of the failures."""
    session = SFTPSession(settings)
    (here / "source").write_text("x")
    calls: dict[str, Callable[[], object]] = {
        "connect": lambda: session.connect(timeout=60),
        "test_connection": lambda: session.test_connection(timeout=60),
        "exists": lambda: session.exists("x", timeout=60),
        "is_connected": session.is_connected,
        "upload_file": lambda: session.upload_file(str(here / "source"), "secrets-x", timeout=60),
        "download_file": lambda: session.download_file("secrets-none", str(here / "dest"), timeout=60),
        "move_file": lambda: session.move_file("secrets-none", "secrets-y", timeout=60),
        "delete_file": lambda: session.delete_file("secrets-none", timeout=60),
        "list_files": lambda: session.list_files("secrets-none/", timeout=60),
    }
    codes = []
    for name, call in calls.items():
        try:
            search.note(f"{place} {name}", call())
        except SFTPError as error:
            codes.append(error.code)
            search.note_error(f"{place} {name}", error)
    search.note(f"{place} session", [repr(session), str(session), pprint.pformat(vars(session))])
    if session._live.current is not None:
        connection = session._live.current
        search.note(f"{place} connection", [repr(connection), pprint.pformat(vars(connection))])
        search.note(f"{place} transport", [repr(connection.transport), str(connection.transport)])
        assert isinstance(connection, Connection)
    session.disconnect()
    return codes


def test_the_client_shows_no_password(
    search: Search,
    everything_logged: pytest.LogCaptureFixture,
    tmp_path: Path,
    proftpd_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = paramiko.ECDSAKey.generate()
    other = f"{key.get_name()} {key.get_base64()}"
    right, wrong = search.know("password", proftpd_server.password or ""), search.know("wrong", OWN_PASSWORD)
    search.know("faulty", PASSWORD)
    monkeypatch.setenv("SFTP_TEST_SECRET", right)
    (tmp_path / "file").write_text(f"{right}\n")
    limits = TimeLimits(connect=2, stall=2)

    def settings(password: Secret, **changes: Any) -> ServerSettings:
        return settings_of(proftpd_server, **({"password": password, "time_limits": limits} | changes))

    codes = {
        "right": use(search, "right", settings(Secret(right)), tmp_path),
        "file": use(search, "file", settings(Secret.from_file(tmp_path / "file")), tmp_path),
        "variable": use(search, "variable", settings(Secret.from_environment("SFTP_TEST_SECRET")), tmp_path),
        "wrong": use(search, "wrong", settings(Secret(wrong)), tmp_path),
        "dead": use(search, "dead", settings(Secret(right), port=free_port()), tmp_path),
        "mismatch": use(search, "mismatch", settings(Secret(right), host_keys=(other,)), tmp_path),
    }
    for server in (AsksByKeyboard("Password: "), AsksByKeyboard("Password: ", "Code: "), FaultyServer()):
        with server.running() as port:
            for password in (PASSWORD, wrong):
                use(search, type(server).__name__, ServerSettings("127.0.0.1", port, "d", Secret(password)), tmp_path)
    assert codes["right"] == codes["file"] == codes["variable"] == ["not_found"] * 4
    assert set(codes["wrong"]) == {"authentication_failed"}
    assert set(codes["dead"]) == {"unreachable"}
    assert set(codes["mismatch"]) == {"host_key_mismatch"}
    search.note("log", everything_logged.text)
    search.note("records", [vars(record) for record in everything_logged.records])
    search.note_files(tmp_path, ignore=lambda file: file.name == "file")
    assert "starting thread (client mode)" in everything_logged.text, "paramiko has spoken, too"
    assert search.found == set()


def test_the_client_shows_no_private_key_and_no_passphrase(
    search: Search, everything_logged: pytest.LogCaptureFixture, tmp_path: Path, keys: Path, key_server: Server
) -> None:
    plain, pem = (search.know(name, (keys / name).read_text()) for name in ("plain", "pem"))
    encrypted = search.know("encrypted", (keys / "encrypted").read_text())
    passphrase = search.know("passphrase", (keys / "passphrase").read_text())
    wrong = search.know("wrong", OWN_PASSWORD)
    stranger = paramiko.ECDSAKey.generate()
    stranger.write_private_key_file(str(tmp_path / "stranger"))
    search.know("stranger", (tmp_path / "stranger").read_text())
    damaged = plain.replace(plain.splitlines()[2], plain.splitlines()[2][::-1])
    search.know("damaged", damaged)

    def codes_of(place: str, key: Secret, passphrase: str | None = None) -> list[str]:
        secret = Secret(passphrase) if passphrase else None
        return use(search, place, settings_of(key_server, private_key=key, passphrase=secret), tmp_path)

    for name, text in (("plain", plain), ("pem", pem)):
        assert codes_of(name, Secret(text)) == codes_of(name, Secret.from_file(keys / name)) == ["not_found"] * 4
    assert codes_of("encrypted", Secret(encrypted), passphrase) == ["not_found"] * 4
    refused = {
        "wrong passphrase": codes_of("wrong passphrase", Secret(encrypted), wrong),
        "no passphrase": codes_of("no passphrase", Secret(encrypted)),
        "damaged": codes_of("damaged", Secret(damaged)),
        "cut": codes_of("cut", Secret(plain[: len(plain) // 2])),
        "not base64": codes_of("not base64", Secret(plain.replace("AAAA", "####"))),
        "without frame": codes_of("without frame", Secret("\n".join(plain.splitlines()[1:-1]))),
        "stranger": codes_of("stranger", Secret.from_file(tmp_path / "stranger")),
        "missing": codes_of("missing", Secret.from_file(tmp_path / "none")),
    }
    assert {name for name, codes in refused.items() if set(codes) != {"authentication_failed"}} == set()
    search.note("log", everything_logged.text)
    search.note_files(tmp_path, ignore=lambda file: file.name == "stranger")
    assert "starting thread (client mode)" in everything_logged.text, "paramiko has spoken, too"
    assert search.found == set()


@pytest.mark.parametrize("name", ["password", "private_key", "passphrase"])
def test_a_secret_that_is_not_utf8_is_refused_and_not_shown(
    request: pytest.FixtureRequest, search: Search, tmp_path: Path, keys: Path, key_server: Server, *, name: str
) -> None:
    """As in an environment variable in another encoding; Python's own error holds the whole text."""
    everything_logged: pytest.LogCaptureFixture = request.getfixturevalue("everything_logged")
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    text = (keys / "encrypted").read_text() if name == "private_key" else OWN_PASSWORD
    search.know(name, text)
    monkeypatch.setenv("SFTP_TEST_SECRET", f"{text}\udcff")
    secrets_of: dict[str, dict[str, Any]] = {
        "password": {"private_key": None, "password": Secret.from_environment("SFTP_TEST_SECRET")},
        "private_key": {"private_key": Secret.from_environment("SFTP_TEST_SECRET")},
        "passphrase": {
            "private_key": Secret.from_file(keys / "encrypted"),
            "passphrase": Secret.from_environment("SFTP_TEST_SECRET"),
        },
    }
    codes = use(search, name, settings_of(key_server, **secrets_of[name]), tmp_path)
    search.note("log", everything_logged.text)
    assert search.found == set()
    assert set(codes) == {"authentication_failed"}
    assert "Traceback" not in "".join(r.getMessage() for r in everything_logged.records if r.levelno > logging.DEBUG)


def test_a_client_shows_no_secret_of_its_arguments(
    search: Search, everything_logged: pytest.LogCaptureFixture, keys: Path, key_server: Server
) -> None:
    text, password = search.know("key", (keys / "plain").read_text()), search.know("password", OWN_PASSWORD)
    with IoTSFTPClient(key_server.host, key_server.port, key_server.user, password, private_key=text) as client:
        assert client.exists(".")
        search.note("client", [repr(client), str(client), repr(client._session), repr(client._session.settings)])
    for bad in ({"sftp_port": 0}, {"sftp_host": ""}, {"passphrase": 5}, {"root": ""}, {"connect_timeout": -1}):
        arguments: dict[str, Any] = {"sftp_host": "h", "sftp_port": 22, "sftp_user": "u", "sftp_pass": password}
        with pytest.raises(ValueError, match=next(iter(bad))) as failure:
            IoTSFTPClient(**(arguments | {"private_key": text} | bad))
        search.note_error(str(bad), failure.value)
    search.note("log", everything_logged.text)
    assert search.found == set()


@pytest.mark.parametrize("cut", [0, 1])
def test_a_private_key_that_is_taken_for_the_name_of_a_file_is_not_shown(
    search: Search, everything_logged: pytest.LogCaptureFixture, keys: Path, *, cut: int
) -> None:
    """Its frame was lost on the way, or it was put where the name of a file is due."""
    text = search.know("key", (keys / "plain").read_text())
    key = "\n".join(text.splitlines()[cut : -cut or None])
    with IoTSFTPClient("127.0.0.1", free_port(), "u", private_key=Path(key) if not cut else key) as client:
        assert client.last_error is not None
        assert client.last_error.code == "authentication_failed"
        search.note_error("client", client.last_error)
        search.note("client", repr(client) + repr(client._session.settings))
    search.note("log", everything_logged.text)
    assert search.found == set()


def test_nothing_that_holds_a_secret_shows_it(search: Search, keys: Path) -> None:
    text, password = search.know("key", (keys / "plain").read_text()), search.know("password", OWN_PASSWORD)
    secret = Secret(password)
    settings = ServerSettings("h", 22, "u", secret, Secret(text), Secret(password))
    section = {"host": "h", "user": "u", "password": password, "privateKey": text.splitlines(), "passphrase": password}
    desired = read_desired({"$version": 1, "sftp": section})
    assert desired.sftp.value is not None
    credentials = Credentials.read(settings)
    holders = [secret, settings, desired, desired.sftp.value, credentials]
    holders += [
        desired.sftp.value.model_dump(),
        desired.sftp.value.as_settings(Path("k"), Path("t")),
        [{"deep": settings}],
    ]
    for holder in holders:
        shown = [repr(holder), str(holder), f"{holder}", "%s" % (holder,), pprint.pformat(holder)]  # noqa: UP031
        search.note(type(holder).__name__, "\n".join(shown))
    for copying in (copy.copy, copy.deepcopy, dataclasses.asdict):
        with suppress(TypeError):
            search.note("copy", repr(copying(settings)))
    for dumping in (json.dumps, desired.sftp.value.model_dump_json.__func__):  # type: ignore[attr-defined]
        for holder in (desired.sftp.value, settings):
            try:
                search.note("json", dumping(holder))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is searched
                search.note_error("json", error)
    assert search.found == set()
