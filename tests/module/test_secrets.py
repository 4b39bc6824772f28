"""Secrets never leave the module: no log, answer, property, message, error, argument or file shows one."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import TALKATIVE, section_of
from tests.secret_search import OWN_PASSWORD, Search
from tests.servers import Server, free_port

from localedge import LocalEdge

pytestmark = pytest.mark.usefixtures("real_starts")


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
        content = self.search.know("content", "content " + secrets.token_urlsafe(12))
        calls: list[tuple[str, object]] = [
            ("is_connected", None),
            ("test_connection", {}),
            ("test_connection", {"learn": True}),
            ("upload_file", good),
            ("download_file", good | {"dest": "secrets-down"}),
            ("exists", {"path": "secrets-up"}),
            ("list_files", {"path": ".", "file_pattern": "secrets"}),
            ("write_file", {"path": "secrets-content", "content": content}),
            ("write_file", {"path": "secrets-content", "content": content + "-", "encoding": "base64"}),
            ("write_file", {"path": "secrets-up/", "content": content}),
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
    (tmp_path / "wrong").write_text(wrong)
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
        for name, useless in (
            ("no passphrase", encrypted),
            ("cut", plain[: len(plain) // 2]),
            ("damaged", plain.replace("AAAA", "####")),
            ("a passphrase as the key", passphrase),
        ):
            assert outcome(name, useless)[0] == 400, name
        assert outcome("wrong passphrase", encrypted, wrong)[0] == 400
        refused = (200, "authentication_failed")
        assert outcome("wrong passphrase in a file", encrypted, {"file": str(tmp_path / "wrong")}) == refused
        assert {200, 401, 400, 404} <= talk.call_everything("wrong passphrase in a file")
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
