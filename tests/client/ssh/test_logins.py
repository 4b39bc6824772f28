"""Logging in to servers as they are: one request for the service, second factors, prompts, odd answers."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL
from paramiko.server import InteractiveQuery
from tests.asyncssh_servers import TakesPasswords, asyncssh_server
from tests.clients import session_of
from tests.faulty_servers import PASSWORD, FaultyServer
from tests.servers import openssh

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Unsupported,
    diagnose,
)
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._ssh import login_backoff
from iot.sftp.client._ssh.credentials import Credentials
from iot.sftp.client._ssh.login import authenticate
from iot.sftp.client._ssh.packets import string
from iot.sftp.client._ssh.paramiko_internals.login_answers import LoginAnswers

KEY = paramiko.ECDSAKey.generate()


@contextmanager
def session_with(port: int, **options: Any) -> Iterator[SFTPSession]:
    values: dict[str, Any] = {"password": Secret(PASSWORD), "time_limits": TimeLimits(connect=10, stall=10)}
    session = SFTPSession(ServerSettings("127.0.0.1", port, "device", **(values | options)))
    try:
        yield session
    finally:
        session.disconnect()


def refusal_of(server: FaultyServer, **options: Any) -> str:
    """Connect twice; return what is said of the refusal. The second one waits, and sends nothing."""
    with server.running() as port, session_with(port, **options) as session:
        with pytest.raises(AuthenticationFailed) as failure:
            session.exists("x")
        with pytest.raises(AuthenticationFailed, match="Nothing was sent now"):
            session.exists("x")
    assert server.connections == 1
    assert PASSWORD not in failure.value.message
    assert failure.value.message.isprintable()
    return failure.value.message


def private_key(key: paramiko.PKey, path: Path) -> Secret:
    key.write_private_key_file(str(path))
    return Secret.from_file(path)


# --- servers that take one request for the service -------------------------------------------------------------------


class AsksForPasswords(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        del username, lang, submethods
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        del username
        return list(responses) == [PASSWORD]


class KnowsNoKey(TakesPasswords):
    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        del username, key
        return False


@pytest.mark.parametrize("server", [TakesPasswords, AsksForPasswords, KnowsNoKey])
def test_the_second_method_works_where_one_service_request_is_accepted(
    server: Callable[[], asyncssh.SSHServer], tmp_path: Path
) -> None:
    """asyncssh ends a connection that asks for the service again, as MikroTik, Cisco, Nokia and Tectia do."""
    key = private_key(paramiko.ECDSAKey.generate(), tmp_path / "key")
    with asyncssh_server(server) as port, session_with(port, private_key=key) as session:
        assert session.exists(".")


def test_a_certificate_that_is_not_known_leaves_the_plain_key_to_try() -> None:
    key, authority = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    certificate = authority.generate_user_certificate(key, "x", principals=["device"])

    class KnowsThePlainKey(KnowsNoKey):
        def validate_public_key(self, username: str, offered: asyncssh.SSHKey) -> bool:
            del username
            return bool(offered.get_fingerprint() == key.get_fingerprint())

    text = Secret(key.export_private_key().decode() + certificate.export_certificate().decode())
    with asyncssh_server(KnowsThePlainKey) as port, session_with(port, private_key=text, password=None) as session:
        assert session.exists(".")


def test_an_expired_password_is_called_so_and_sent_once() -> None:
    sent = []

    class Expired(TakesPasswords):
        def validate_password(self, username: str, password: str) -> bool:
            del username
            sent.append(password)
            raise asyncssh.PasswordChangeRequired("It is a year old", "en")

    with asyncssh_server(Expired) as port, session_with(port) as session:
        for _ in range(3):
            with pytest.raises(AuthenticationFailed, match=r"has expired and must be changed.*It is a year old"):
                session.exists("x", timeout=60)
        *_, last = diagnose(session.settings)
        assert (last.name, last.code) == ("authentication", "authentication_failed")
    assert sent == [PASSWORD]


@pytest.mark.parametrize("kex", ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"])
def test_each_name_of_a_key_exchange_is_spoken(kex: str) -> None:
    with asyncssh_server(TakesPasswords, kex_algs=[kex]) as port, session_with(port) as session:
        assert session.exists(".")
        found = {step.name: step.found for step in diagnose(session.settings)}
    assert found["algorithms"].startswith(f"{kex}, ")


# --- several factors -------------------------------------------------------------------------------------------------


class WantsSeveral(FaultyServer):
    """Wants these methods in their order, and lists the one that is next, as OpenSSH does."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self._methods = methods
        self.done: list[str] = []
        self.passwords: list[str] = []

    def accepted(self, transport: paramiko.Transport) -> None:
        self.done = []
        super().accepted(transport)

    def get_allowed_auths(self, username: str) -> str:
        del username
        return ",".join(self._methods[len(self.done) : len(self.done) + 1])

    def _next(self, method: str, *, right: bool = True) -> int:
        if self.get_allowed_auths("") != method or not right:
            return AUTH_FAILED
        self.done.append(method)
        return AUTH_SUCCESSFUL if len(self.done) == len(self._methods) else AUTH_PARTIALLY_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        del username, key
        return self._next("publickey")

    def check_auth_password(self, username: str, password: str) -> int:
        del username
        self.passwords.append(password)
        return self._next("password", right=password == PASSWORD)

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        del username, submethods
        wanted = self.get_allowed_auths("") == "keyboard-interactive"
        return InteractiveQuery("", "", "Password: ") if wanted else AUTH_FAILED

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.passwords += responses
        return self._next("keyboard-interactive", right=responses == [PASSWORD])


@pytest.mark.parametrize(
    "methods",
    [
        ["publickey", "password"],
        ["password", "publickey"],
        ["publickey", "keyboard-interactive"],
        ["keyboard-interactive", "publickey"],
        ["password", "keyboard-interactive"],
    ],
)
def test_a_second_factor_that_is_there_is_given(methods: list[str], tmp_path: Path) -> None:
    server, key = WantsSeveral(*methods), private_key(paramiko.ECDSAKey.generate(), tmp_path / "key")
    with server.running() as port, session_with(port, private_key=key) as session:
        assert not session.exists("x")
        assert session.test_connection().server
    assert server.done == methods


def test_a_factor_that_is_missing_is_named() -> None:
    server = WantsSeveral("password", "publickey")
    assert "accepted the password and wants another credential too: publickey" in refusal_of(server)


def test_a_wrong_password_behind_a_right_key_is_named(tmp_path: Path) -> None:
    server, key = WantsSeveral("publickey", "password"), private_key(paramiko.ECDSAKey.generate(), tmp_path / "key")
    message = refusal_of(server, private_key=key, password=Secret("wrong"))
    assert "accepted the private key, but refused the password" in message
    assert server.passwords == ["wrong"]


def test_a_method_that_we_do_not_know_is_named() -> None:
    assert "it wants gssapi-with-mic" in refusal_of(WantsSeveral("gssapi-with-mic"))


@pytest.mark.parametrize("wanted", ["password", "keyboard-interactive", "publickey"])
def test_openssh_names_the_factor_that_is_missing(tmp_path: Path, wanted: str) -> None:
    options = [f"AuthenticationMethods publickey,{wanted}", "PasswordAuthentication yes"]
    with openssh(tmp_path / "sshd", *options, "KbdInteractiveAuthentication yes") as server:
        with session_of(server) as session, pytest.raises(AuthenticationFailed) as failure:
            session.exists(".")
        assert f"accepted the private key and wants another credential too: {wanted}" in failure.value.message


# --- prompts ---------------------------------------------------------------------------------------------------------


class Prompts(FaultyServer):
    """Asks by keyboard-interactive, a round after the other; `answers` is what it got."""

    def __init__(self, *rounds: InteractiveQuery, allowed: str = "keyboard-interactive") -> None:
        super().__init__()
        self._rounds, self._allowed = rounds, allowed
        self.answers: list[str] = []
        self.passwords: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        del username
        return self._allowed

    def check_auth_password(self, username: str, password: str) -> int:
        del username
        self.passwords.append(password)
        return AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        del username, submethods
        self._left = list(self._rounds)
        return self._left.pop(0) if self._left else AUTH_FAILED

    def check_auth_interactive_response(self, responses: list[str]) -> int | InteractiveQuery:
        self.answers += responses
        if self._left:
            return self._left.pop(0)
        return AUTH_SUCCESSFUL if self.answers == [PASSWORD] else AUTH_FAILED


NOTHING, NOTICE = InteractiveQuery("", ""), InteractiveQuery("Notice", "Authorized use only")
ASKS = InteractiveQuery("", "", "Password: ")


@pytest.mark.parametrize("rounds", [[ASKS], [NOTICE, ASKS], [ASKS, NOTHING], [NOTICE, NOTHING, ASKS, NOTICE]])
def test_rounds_without_a_prompt_are_answered_with_nothing(rounds: list[InteractiveQuery]) -> None:
    server = Prompts(*rounds)
    with server.running() as port, session_with(port) as session:
        assert not session.exists("x")
    assert server.answers == [PASSWORD]


@pytest.mark.parametrize(
    "rounds, asked",
    [
        ([ASKS, ASKS], "now asks 'Password:'"),
        ([ASKS, InteractiveQuery("", "", "Verification code: ")], "now asks 'Verification code:'"),
        ([ASKS, InteractiveQuery("", "Your password has expired.", "New password: ")], "has expired. New password"),
        ([InteractiveQuery("", "", "Password: ", "Code: ")], "more than a password: Password:  Code:"),
    ],
)
def test_a_password_is_given_once_whatever_is_asked_for(rounds: list[InteractiveQuery], asked: str) -> None:
    server = Prompts(*rounds)
    assert asked in refusal_of(server)
    assert server.answers in ([PASSWORD], [])


def test_a_code_that_is_asked_for_behind_the_password_is_not_answered_with_it() -> None:
    class WantsACode(WantsSeveral):
        def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
            query = super().check_auth_interactive(username, submethods)
            return query if isinstance(query, int) else InteractiveQuery("", "", "Verification code: ")

    server = WantsACode("password", "keyboard-interactive")
    assert "now asks 'Verification code:'" in refusal_of(server)
    assert server.passwords == [PASSWORD]


def test_what_the_password_was_the_answer_to_is_told_with_its_refusal() -> None:
    message = refusal_of(Prompts(InteractiveQuery("", "", "Verification code: ")), password=Secret("wrong"))
    assert "refused the password as the answer to 'Verification code:'" in message


def test_a_server_that_lists_prompts_and_asks_nothing_gets_the_password(tmp_path: Path) -> None:
    class KnowsPasswordsOnly(Prompts):
        def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
            del username, key
            return AUTH_FAILED

        def check_auth_password(self, username: str, password: str) -> int:
            super().check_auth_password(username, password)
            return AUTH_SUCCESSFUL if password == PASSWORD else AUTH_FAILED

    key = private_key(paramiko.ECDSAKey.generate(), tmp_path / "key")
    server = KnowsPasswordsOnly(allowed="publickey,keyboard-interactive")
    with server.running() as port, session_with(port, private_key=key) as session:
        assert not session.exists("x")
    assert server.passwords == [PASSWORD]


def test_a_password_is_not_given_by_prompt_when_it_was_refused() -> None:
    server = Prompts(ASKS, allowed="password,keyboard-interactive")
    assert "refused the password" in refusal_of(server)
    assert (server.passwords, server.answers) == ([PASSWORD], [])


# --- answers that are none -------------------------------------------------------------------------------------------


class Answers(FaultyServer):
    """Answers a password with these messages."""

    def __init__(self, *messages: bytes) -> None:
        super().__init__()
        self._messages = messages

    def check_auth_password(self, username: str, password: str) -> int:
        del username, password
        transport: Any = self.transports[-1]
        for message in self._messages:
            packet = paramiko.Message()
            packet.add_bytes(message)
            transport._send_message(packet)
        if self._messages[-1][0] == 1:
            transport.active = False
        return AUTH_SUCCESSFUL


def disconnects(reason: int, words: str) -> bytes:
    return struct.pack(">BI", 1, reason) + string(words.encode()) + string(b"en")


@pytest.mark.parametrize(
    "answer", [bytes([60]), bytes([51]), bytes([61]), bytes([79, 1]), b"\3\0\0\0\7", b"\6\0\0\0\0"]
)
def test_an_answer_that_is_none_counts_as_a_refusal(answer: bytes) -> None:
    """A password may have been refused by it: nobody knows, and accounts are locked."""
    assert f"type {answer[0]}" in refusal_of(Answers(answer))


@pytest.mark.parametrize(
    "reason, words", [(2, "Too many authentication failures"), (14, "No more"), (11, ""), (99, "?")]
)
def test_a_farewell_in_place_of_an_answer_is_a_refusal_with_its_words(reason: int, words: str) -> None:
    assert f"refused the login and said: {words}" in refusal_of(Answers(disconnects(reason, words)))


def test_a_server_with_too_many_connections_is_busy_and_asked_again() -> None:
    server = Answers(disconnects(12, "Too many connections for this user"))
    with server.running() as port, session_with(port) as session:
        for _ in range(login_backoff.MOST_UNANSWERED + 1):
            with pytest.raises(ConnectionLost, match="Too many connections for this user"):
                session.connect()


def test_what_the_server_says_beside_a_refusal_is_told() -> None:
    banner = bytes([53]) + string(b"This account is locked\r\n\x1b[2J") + string(b"")
    refuses = bytes([51]) + string(b"password") + b"\0"
    message = refusal_of(Answers(bytes([53]) + string(b"Welcome") + string(b""), banner, refuses))
    assert "This account is locked" in message


@pytest.mark.parametrize(
    "extra", [b"\7\0\0\0\1" + string(b"server-sig-algs") + string(b"ssh-ed25519"), b"\xc0\0\0\0\0"]
)
def test_messages_that_come_between_do_not_disturb_a_login(extra: bytes) -> None:
    """EXT_INFO may come just before the success (RFC 8308, section 2.4); 192 is OpenSSH's ping."""
    with Answers(extra).running() as port, session_with(port) as session:
        assert not session.exists("x")


@pytest.mark.parametrize("count", [2, 2**32 - 1])
def test_extensions_that_are_fewer_than_the_server_says_end_the_connection(count: int) -> None:
    with Answers(b"\7" + struct.pack(">I", count) + string(b"a") * 2).running() as port, session_with(port) as session:
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            session.connect()
        assert time.monotonic() - started < 20


def test_a_refusal_by_hanging_up_at_the_first_credential_is_not_retried(tmp_path: Path) -> None:
    class RefusesKeysAndHangsUp(FaultyServer):
        def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
            del username, key
            transport: Any = self.transports[-1]
            transport.active = False
            return AUTH_FAILED

        def get_allowed_auths(self, username: str) -> str:
            del username
            return "publickey,password"

    key = private_key(paramiko.ECDSAKey.generate(), tmp_path / "key")
    assert "refused the private key" in refusal_of(RefusesKeysAndHangsUp(), private_key=key)


class Script:
    """The server's side of a login, as messages: what it answers, one after the other, and then the end."""

    session_id = b"session"
    signature_algorithms: tuple[str, ...] | None = None
    banner = ""

    def __init__(self, answers: list[tuple[int, bytes]]) -> None:
        self._answers = iter(answers)
        self.passwords = 0

    def request_service(self) -> None:
        """Let everybody begin."""

    def ask(self, message: bytes, *, has_credential: bool) -> tuple[int, bytes]:
        self.passwords += message.count(PASSWORD.encode())
        assert has_credential or PASSWORD.encode() not in message
        try:
            return next(self._answers)
        except StopIteration:
            raise ConnectionLost("the end") from None


METHODS = st.lists(st.sampled_from(["publickey", "password", "keyboard-interactive", "hostbased", ""]), max_size=4)


def asking(*prompts: bytes) -> tuple[int, bytes]:
    """A round of keyboard-interactive."""
    packed = b"".join(string(prompt) + b"\0" for prompt in prompts)
    return 60, string(b"") * 3 + struct.pack(">I", len(prompts)) + packed


ANSWERS = st.one_of(
    st.builds(lambda names, more: (51, string(",".join(names).encode()) + bytes([more])), METHODS, st.booleans()),
    st.lists(st.binary(max_size=12), max_size=2).map(lambda prompts: asking(*prompts)),
    st.tuples(st.integers(51, 79), st.binary(max_size=40)),
)


@given(answers=st.lists(ANSWERS, max_size=12), with_key=st.booleans())
def test_whatever_a_server_answers_the_password_is_sent_once_per_method(
    answers: list[tuple[int, bytes]], *, with_key: bool
) -> None:
    script = Script(answers)
    credentials = Credentials("device", PASSWORD, (KEY,) if with_key else (), b"")
    error: SFTPError | None = None
    try:
        authenticate(script, credentials)
    except (AuthenticationFailed, ConnectionLost) as failure:
        error = failure
    assert script.passwords <= 2  # by itself, and by a prompt where the server does not take it so
    if error is None:
        assert any(kind == 52 for kind, _ in answers)
    else:
        assert PASSWORD not in error.message
        assert error.message.isprintable()


# --- keys ------------------------------------------------------------------------------------------------------------


class TakesOneSignature(FaultyServer):
    """Takes RSA keys with one kind of signature, and does not say so (RFC 8308 is younger than RFC 4252)."""

    def __init__(self, taken: str) -> None:
        super().__init__()
        self._taken = taken

    def accepted(self, transport: paramiko.Transport) -> None:
        transport.server_sig_algs = False
        transport._preferred_pubkeys = ("rsa-sha2-256", "rsa-sha2-512")  # type: ignore[attr-defined] # not in its stubs
        super().accepted(transport)

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        del username
        verify = key.verify_ssh_sig

        def of_one_kind(data: bytes, signature: paramiko.Message) -> bool:
            kind = signature.get_text()
            signature.rewind()
            return kind == self._taken and verify(data, signature)

        key.verify_ssh_sig = of_one_kind  # type: ignore[method-assign, assignment]
        return AUTH_SUCCESSFUL


@pytest.mark.parametrize("taken", ["rsa-sha2-512", "rsa-sha2-256"])
def test_a_server_that_announces_no_rsa_signatures_gets_the_right_one(taken: str, tmp_path: Path) -> None:
    key = private_key(paramiko.RSAKey.generate(2048), tmp_path / "key")
    with TakesOneSignature(taken).running() as port, session_with(port, private_key=key, password=None) as session:
        assert not session.exists("x")


def test_a_server_that_announces_wrong_signatures_gets_the_other_one_too(tmp_path: Path) -> None:
    for taken in ("rsa-sha2-256", "rsa-sha2-512"):
        with openssh(tmp_path / taken, f"PubkeyAcceptedAlgorithms {taken}") as server:
            key = paramiko.RSAKey.generate(2048)
            assert server.key_file is not None
            Path(f"{server.key_file}.pub").write_text(f"ssh-rsa {key.get_base64()}\n")
            with session_of(server, private_key=private_key(key, tmp_path / f"{taken}.key")) as session:
                assert session.exists(".")


SERVICE_REQUEST, SERVICE_ACCEPT, USERAUTH_REQUEST, USERAUTH_SUCCESS = 5, 6, 50, 52
UNIMPLEMENTED = 3


class Wire:
    """A transport whose server gives these answers to messages of a type, at once."""

    farewell: str | None = None
    logger = logging.getLogger(__name__)
    session_id = b""

    def __init__(self, version: str, replies: dict[int, list[int]], *, has_extensions: bool = True) -> None:
        self.remote_version = version
        self.deadline = Deadline(60)
        self.server_extensions: dict[str, bytes] = {}
        self.sent: list[int] = []
        self._replies = replies
        self.login = LoginAnswers(self)  # type: ignore[arg-type] # it has what a login needs
        if has_extensions:
            self.login.note_extensions()

    def _send_user_message(self, message: paramiko.Message) -> None:
        kind = message.asbytes()[0]
        self.sent.append(kind)
        for reply in self._replies.get(kind, []):
            self.login._handler_table[reply](paramiko.Message())

    _send_message = _send_user_message

    def is_active(self) -> bool:
        return True

    def parting(self) -> ConnectionLost | None:
        return None


@pytest.mark.parametrize(
    "version, has_extensions, replies",
    [
        ("SSH-2.0-OpenSSH_9.2", True, {USERAUTH_REQUEST: [SERVICE_ACCEPT, USERAUTH_SUCCESS]}),
        ("SSH-2.0-OpenSSH_9.2", True, {SERVICE_REQUEST: [SERVICE_ACCEPT], USERAUTH_REQUEST: [USERAUTH_SUCCESS]}),
        ("SSH-2.0-OpenSSH_7.1", False, {SERVICE_REQUEST: [SERVICE_ACCEPT], USERAUTH_REQUEST: [USERAUTH_SUCCESS]}),
        ("SSH-2.0-other", True, {SERVICE_REQUEST: [SERVICE_ACCEPT], USERAUTH_REQUEST: [USERAUTH_SUCCESS]}),
    ],
    ids=["not-waited-for", "sooner-than-that", "without-extensions", "other-server"],
)
def test_openssh_is_not_waited_for_between_the_service_and_the_login(
    version: str, has_extensions: bool, replies: dict[int, list[int]]
) -> None:
    wire = Wire(version, replies, has_extensions=has_extensions)
    wire.login.request_service()
    assert wire.login.ask(bytes([USERAUTH_REQUEST]), has_credential=True) == (USERAUTH_SUCCESS, b"")
    assert wire.sent == [SERVICE_REQUEST, USERAUTH_REQUEST]


@pytest.mark.parametrize("before", [True, False])
def test_a_login_without_the_service_is_no_login(before: bool) -> None:
    asked = SERVICE_REQUEST if before else USERAUTH_REQUEST
    wire = Wire("SSH-2.0-OpenSSH_9.2", {asked: [UNIMPLEMENTED, USERAUTH_SUCCESS]})
    wire.login.request_service()
    with pytest.raises(Unsupported, match="the request to log in"):
        wire.login.ask(bytes([USERAUTH_REQUEST]), has_credential=True)
