"""Secrets never leave: whatever is tried, no log, answer, property, message, error, argument or file shows one."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import pprint
import secrets
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import paramiko
import pytest
from tests.clients import settings_of
from tests.faulty_servers import PASSWORD, AsksByKeyboard, FaultyServer
from tests.module.conftest import TALKATIVE, section_of
from tests.servers import Server, free_port, openssh

from iot.sftp.client import IoTSFTPClient, Secret, ServerSettings, SFTPError, SFTPSession, TimeLimits
from iot.sftp.client._ssh.connection import Connection
from iot.sftp.client._ssh.credentials import Credentials
from iot.sftp.module._documents.twin import read_desired
from localedge import LocalEdge

SHORTEST, PIECE = 8, 14  # characters: what is no accident; how much of a longer secret counts as having it
KEY_FRAME = "-----"  # of the lines of a private key that are no secret
OWN_PASSWORD = "pässword/with+odd=characters&" + secrets.token_urlsafe(9)


def forms_of(secret: str) -> set[str]:
    """What a secret looks like on its ways: as it is, encoded, escaped, and cut at either end."""
    data = secret.encode()
    encoded = {
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        base64.b32encode(data).decode().rstrip("="),
        data.hex(),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        repr(data)[2:-1],
        secret.encode("unicode_escape").decode(),
        secret[::-1],
    }
    for shift in (1, 2):  # behind other bytes, as the password in "user:password"
        encoded.add(base64.b64encode(b"x" * shift + data).decode()[4:-4])
    forms = {secret, *encoded}
    forms |= {piece for form in forms if len(form) > 2 * PIECE for piece in (form[:PIECE], form[-PIECE:])}
    return {form for form in forms if len(form) >= SHORTEST}


def parts_of(private_key: str) -> set[str]:
    """The lines of a private key's text, but for its frame."""
    return {line for line in private_key.splitlines() if line and KEY_FRAME not in line}


class Search:
    """Looks for secrets in what was said and written."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self.places: list[tuple[str, str]] = []

    def know(self, name: str, secret: str) -> str:
        """Look for this one, too; a private key is looked for line by line."""
        for part in parts_of(secret) if KEY_FRAME in secret else {secret}:
            for form in forms_of(part):
                self._forms[form] = name
        return secret

    def note(self, place: str, content: object) -> None:
        """Keep something that was said, to be searched."""
        texts = {content if isinstance(content, str) else repr(content)}
        if not isinstance(content, str):
            with suppress(TypeError, ValueError):
                texts.add(json.dumps(content, ensure_ascii=False))
        self.places += [(place, text) for text in texts]

    def note_files(self, *folders: Path, ignore: Callable[[Path], bool] = lambda _: False) -> int:
        """Keep the names and contents of all files below; return how many there are."""
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not ignore(file)]
        for file in files:
            self.note(f"file {file}", f"{file}\n{file.read_bytes().decode('utf-8', 'backslashreplace')}")
        return len(files)

    def note_error(self, place: str, error: BaseException) -> None:
        """Keep everything that can be asked of an exception, and of those behind it."""
        self.note(place, "".join(traceback.format_exception(error)))
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            found = waiting.pop()
            if found is None or id(found) in seen:
                continue
            seen.add(id(found))
            said = [repr(found), str(found), repr(found.args), repr(vars(found)), repr(getattr(found, "message", ""))]
            self.note(f"{place}: {type(found).__name__}", "\n".join(said))
            waiting += [found.__cause__, found.__context__]

    @property
    def found(self) -> set[tuple[str, str, str]]:
        """Which secret was found where, and what stands before it there."""
        found = set()
        for place, text in self.places:
            first: dict[str, int] = {}
            for form, name in self._forms.items():
                at = text.find(form)
                if at >= 0:
                    first[name] = min(at, first.get(name, at))
            found |= {(name, place, text[max(0, at - 60) : at]) for name, at in first.items()}
        return found


@pytest.fixture
def search() -> Search:
    return Search()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private keys: `plain`, `encrypted`, and the passphrase of the latter."""
    folder = tmp_path_factory.mktemp("keys")
    passphrase = "passphrase " + secrets.token_urlsafe(12)
    (folder / "passphrase").write_text(passphrase)
    for name, kind, text in (("plain", "ed25519", ""), ("encrypted", "ecdsa", passphrase), ("pem", "rsa", "")):
        form = ("-b", "2048", "-m", "PEM") if kind == "rsa" else ()
        command = ["ssh-keygen", "-q", "-t", kind, *form, "-N", text, "-C", "", "-f", folder / name]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def key_server(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """OpenSSH, for those keys."""
    public = keys / "authorized"
    public.write_text("".join((keys / f"{name}.pub").read_text() for name in ("plain", "encrypted", "pem")))
    with openssh(tmp_path_factory.mktemp("key-server"), f"AuthorizedKeysFile {public}") as server:
        yield dataclasses.replace(server, key_file=keys / "plain")


# --- the search itself -----------------------------------------------------------------------------------------------


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


def test_the_search_finds_a_line_of_a_key_and_a_file_and_the_cause_of_an_error(
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


# --- the client alone ------------------------------------------------------------------------------------------------


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
        "connect": lambda: session.connect(timeout=5),
        "test_connection": lambda: session.test_connection(timeout=5),
        "exists": lambda: session.exists("x", timeout=5),
        "is_connected": session.is_connected,
        "upload_file": lambda: session.upload_file(str(here / "source"), "secrets-x", timeout=5),
        "download_file": lambda: session.download_file("secrets-none", str(here / "dest"), timeout=5),
        "move_file": lambda: session.move_file("secrets-none", "secrets-y", timeout=5),
        "delete_file": lambda: session.delete_file("secrets-none", timeout=5),
        "list_files": lambda: session.list_files("secrets-none/", timeout=5),
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
def test_a_secret_that_is_not_utf8_is_told_about_and_not_shown(
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


# --- the module ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secret_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secret") / "password"


@pytest.fixture(scope="module")
def talkative(
    own_address: str,
    keys: Path,
    tmp_path_factory: pytest.TempPathFactory,
    proftpd_server: Server,
    key_server: Server,  # ends after the module, whose connection would keep it
) -> Iterator[LocalEdge]:
    """A module that says all it can, with secrets in its environment."""
    assert key_server.process is not None
    temporary = tmp_path_factory.mktemp("temporary")
    environment = {
        "LOG_LEVEL": "debug",
        "TMPDIR": str(temporary),
        "HOME": str(temporary),
        "PYTHONDEVMODE": "1",
        "SFTP_TEST_PASSWORD": proftpd_server.password or "",
        "SFTP_TEST_KEY": (keys / "encrypted").read_text(),
        "SFTP_TEST_PASSPHRASE": (keys / "passphrase").read_text(),
    }
    command = (sys.executable, "-c", TALKATIVE)
    with LocalEdge(address=own_address, environment=environment, command=command) as edge:
        edge.wait_until_connected()
        yield edge


class Talk:
    """A device, and everything that it says."""

    def __init__(self, edge: LocalEdge, search: Search) -> None:
        self.edge = edge
        self.search = search
        self._start = len(edge.module_log)

    def configure(self, name: str, section: object, **others: Any) -> tuple[int, str | None]:
        """Put a section in force; return how it was acknowledged, and why there is no connection."""
        version = self.edge.replace_desired({"logLevel": "debug", "sftp": section} | others)

        def settled(reported: dict[str, Any]) -> bool:
            return bool(reported["sftp"]["av"] == version and reported["connection"]["state"] != "connecting")

        reported = self.edge.wait_for_reported(settled)
        self.search.note(f"{name} reported", reported)
        return reported["sftp"]["ac"], reported["connection"].get("code")

    def call_everything(self, name: str) -> set[int]:
        """Call every method, rightly and wrongly; return the statuses."""
        good = {"source": "secrets-up", "dest": "secrets-up", "timeout": 10}
        (self.edge.local_root / "secrets-up").write_text("content")
        calls: list[tuple[str, object]] = [
            ("is_connected", None),
            ("test_connection", {}),
            ("test_connection", {"learn": True}),
            ("upload_file", good),
            ("download_file", good | {"dest": "secrets-down"}),
            ("exists", {"path": "secrets-up"}),
            ("list_files", {"path": ".", "file_pattern": "secrets"}),
            ("move_file", {"source": "secrets-up", "dest": "secrets-moved"}),
            ("delete_file", {"path": "secrets-moved"}),
            ("delete_file", {"path": "secrets-none"}),
            ("exists", {"path": 5}),
            ("exists", {"path": ["x"], "timeout": "soon"}),
            ("exists", {}),
            ("exists", [1, 2]),
            ("upload_file", {"source": "../../x", "dest": "\0"}),
            ("upload_file", {"source": "/etc/passwd", "dest": "x", "password": "?", "sftp": {}}),
            ("get_password", {}),
            ("sftp", {"sftp": {"password": None}}),
            ("disconnect", None),
            ("get_status", None),
        ]
        statuses = set()
        for method, payload in calls:
            status, body = self.edge.invoke("sftp", method, payload)
            statuses.add(status)
            self.search.note(f"{name} {method} {payload}", body)
        raw = self.edge.invoke_raw("sftp", "exists", b'{"path": ')
        self.search.note(f"{name} raw", vars(raw) if hasattr(raw, "__dict__") else repr(raw))
        return statuses

    def end(self) -> set[tuple[str, str, str]]:
        """Search everything; return what was found."""
        search, edge = self.search, self.edge
        log = edge.module_log
        assert "[DBG]" in log[self._start :]
        search.note("log", log)
        search.note("messages", [vars(message) for message in edge.messages])
        search.note("reported", edge.reported)
        assert edge.module_pid is not None
        search.note("arguments", Path(f"/proc/{edge.module_pid}/cmdline").read_text())
        environment = edge.module_environment
        assert search.note_files(
            edge._runtime.run_directory, edge.state_directory, edge.local_root, Path(environment["TMPDIR"])
        )
        return search.found


@contextmanager
def talking(edge: LocalEdge, search: Search) -> Iterator[Talk]:
    """Talk, and find nothing."""
    talk = Talk(edge, search)
    yield talk
    assert talk.end() == set()


def test_the_module_shows_no_password(
    talkative: LocalEdge, search: Search, proftpd_server: Server, secret_file: Path, keys: Path
) -> None:
    other = (keys / "plain.pub").read_text().strip()
    right = search.know("password", proftpd_server.password or "")
    wrong, rotated = search.know("wrong", OWN_PASSWORD), search.know("rotated", "rotated " + secrets.token_hex(8))
    secret_file.write_text(rotated)
    with talking(talkative, search) as talk:
        for name, password in (("text", right), ("lines", [right]), ("variable", {"env": "SFTP_TEST_PASSWORD"})):
            assert talk.configure(name, section_of(proftpd_server, password=password)) == (200, None)
            assert {200, 400, 404} <= talk.call_everything(name)
        for name, password in (("wrong", wrong), ("lines", wrong.split("+")), ("file", {"file": str(secret_file)})):
            found = talk.configure(name, section_of(proftpd_server, password=password))
            assert found == (200, "authentication_failed")
            assert {200, 401, 400, 404} <= talk.call_everything(name)
        secret_file.write_text(right)  # rotated: the next call finds it
        assert talk.edge.invoke("sftp", "exists", {"path": "."}) == (200, True)
        for name, change in (("mismatch", {"hostKeys": [other]}), ("dead", {"port": free_port()})):
            assert talk.configure(name, section_of(proftpd_server, **change))[0] == 200
            assert {502, 503} & talk.call_everything(name)
        talk.configure("back", section_of(proftpd_server))


def test_the_module_shows_no_private_key_and_no_passphrase(
    talkative: LocalEdge, search: Search, key_server: Server, keys: Path, tmp_path: Path
) -> None:
    plain = search.know("plain", (keys / "plain").read_text())
    encrypted = search.know("encrypted", (keys / "encrypted").read_text())
    passphrase = search.know("passphrase", (keys / "passphrase").read_text())
    wrong = search.know("wrong", OWN_PASSWORD)
    in_file, in_variable = {"file": str(keys / "encrypted")}, {"env": "SFTP_TEST_KEY"}
    with talking(talkative, search) as talk:

        def outcome(name: str, key: object, passphrase: object = None) -> tuple[int, str | None]:
            section = section_of(key_server, privateKey=key)
            if passphrase is not None:
                section["passphrase"] = passphrase
            return talk.configure(name, section)

        assert outcome("text", plain) == (200, None)
        assert outcome("encrypted text", encrypted, passphrase) == (200, None)
        assert outcome("encrypted lines", encrypted.splitlines(), [passphrase]) == (200, None)
        assert outcome("file", in_file, {"file": str(keys / "passphrase")}) == (200, None)
        assert outcome("variable", in_variable, {"env": "SFTP_TEST_PASSPHRASE"}) == (200, None)
        assert {200, 400, 404} <= talk.call_everything("variable")
        refused = (200, "authentication_failed")
        assert outcome("wrong passphrase", encrypted, wrong) == refused
        assert {200, 401, 400, 404} <= talk.call_everything("wrong passphrase")
        assert outcome("no passphrase", encrypted) == refused
        assert outcome("cut", plain[: len(plain) // 2]) == refused
        assert outcome("damaged", plain.replace("AAAA", "####")) == refused
        assert outcome("a passphrase as the key", passphrase) == refused
        assert outcome("no file", {"file": str(tmp_path / "none")}) == refused
        assert outcome("no variable", {"env": "SFTP_TEST_NONE"}) == refused
        assert outcome("back", plain) == (200, None)


def test_a_secret_in_the_wrong_place_is_not_repeated(
    talkative: LocalEdge, search: Search, proftpd_server: Server, keys: Path
) -> None:
    password, key = search.know("password", OWN_PASSWORD), search.know("key", (keys / "plain").read_text())
    number = int(search.know("number", "90210" + "".join(secrets.choice("123456789") for _ in range(10))))
    base = section_of(proftpd_server)
    wrong: dict[str, object] = {
        "number": base | {"password": number},
        "true": base | {"password": True, "passphrase": password, "privateKey": key},
        "nested": base | {"password": {"text": password}},
        "nested deep": base | {"password": {"file": {"name": password}}},
        "file and more": base | {"password": {"file": "/run/x", "value": password}},
        "list with number": base | {"password": [password, number]},
        "list in list": base | {"privateKey": [key.splitlines()]},
        "misspelt": base | {"passwrod": password, "private_key": key, "Passphrase": password},
        "next to an unknown key": base | {"password": password, "hosst": "x"},
        "only the unknown key": {"host": "h", "user": "u", "pass": password},
        "as the port": base | {"port": password},
        "as the port, a number": base | {"port": number},
        "as a time": base | {"connectTimeout": password, "stallTimeout": number, "keepAlive": [password]},
        "as a pin": base | {"hostKeys": [password, key]},
        "as the pins": base | {"hostKeys": password},
        "as the user, with its key": base | {"user": {"name": "u", "password": password}},
        "as the host": base | {"host": [password]},
        "as the root": base | {"root": {"password": password}},
        "as the section": password,
        "as a list": [base, password],
        "key where a passphrase is due": base | {"password": None, "privateKey": None, "passphrase": key},
    }
    with talking(talkative, search) as talk:
        search.know("password of the server", proftpd_server.password or "")
        for name, section in wrong.items():
            assert talk.configure(name, section)[0] == 400, name
        others: dict[str, Any] = {"transfers": {"verify": password, "concurrency": number, "password": password}}
        talk.configure("transfers", base, **others)
        talk.configure("sections", base, password=password, privateKey=key, secrets={"sftp": password})
        assert talk.configure("back", base) == (200, None)


@pytest.mark.parametrize("place", ["file", "env"])
def test_a_private_key_in_the_place_of_a_name_is_not_repeated(
    talkative: LocalEdge, search: Search, key_server: Server, keys: Path, *, place: str
) -> None:
    """`{"file": "-----BEGIN…"}`: no file and no variable has such a name."""
    key = search.know("key", (keys / "plain").read_text())
    with talking(talkative, search) as talk:
        talk.configure("wrong", section_of(key_server, privateKey={place: key}))
        search.note("answer", talk.edge.invoke("sftp", "exists", {"path": "."}))
        assert talk.configure("back", section_of(key_server)) == (200, None)
