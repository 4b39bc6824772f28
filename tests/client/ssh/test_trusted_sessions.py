"""Real OpenSSH in the configurations that people have: certificates, limits, old algorithms, rekeys, addresses."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest
from tests.clients import SHORT, client_of, connection_of, session_of, settings_of
from tests.folders import write_as_long_ago
from tests.servers import Relay, Server, black_hole, free_port, openssh

from iot.sftp.client import (
    AuthenticationFailed,
    HostKeyMismatch,
    Secret,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Unreachable,
    Unsupported,
    diagnose,
)
from iot.sftp.client._ssh.host_keys import HostKeyPolicy


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = ("-b", "2048") if kind == "rsa" else ()  # larger ones take seconds to make
    command = ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-C", "test", "-f", path]
    subprocess.run(command, check=True)
    return path


def public(key: Path) -> str:
    """The type and the base64 text of a key's public half."""
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def fingerprint(key: Path) -> str:
    return str(paramiko.PKey.from_path(key).fingerprint)


def sign(authority: Path, key: Path, *options: str) -> Path:
    """Sign a key; return the certificate, which is beside it."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", *options, f"{key}.pub"], check=True)
    return Path(f"{key}-cert.pub")


def wait_for_line(server: Server, text: str) -> None:
    """Wait until a server has said something: its log is read by a thread."""
    pause = threading.Event()
    for _ in range(1000):
        if text in "".join(server.log):
            return
        pause.wait(0.01)
    raise AssertionError(server.log)


# --- certificates of users -------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """An authority's private key."""
    return make_key(tmp_path / "authority")


@pytest.fixture(params=["ed25519", "ecdsa", "rsa"])
def user_key(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A private key that no server knows by itself."""
    return make_key(tmp_path / "user", request.param)


def believing_users_of(authority: Path) -> tuple[str, ...]:
    return "AuthorizedKeysFile none", f"TrustedUserCAKeys {authority}.pub"


def test_a_certificate_behind_the_text_of_the_private_key_logs_in(
    tmp_path: Path, authority: Path, user_key: Path
) -> None:
    with openssh(tmp_path / "sshd", *believing_users_of(authority)) as server:
        certificate = sign(authority, user_key, "-n", server.user)
        text = user_key.read_text() + certificate.read_text()
        with session_of(server, private_key=Secret(text)) as session:
            assert session.exists(".")
        with client_of(server, private_key=text) as client:
            assert client.exists(".")
        with session_of(server, private_key=Secret(text.rstrip("\n"))) as session:
            assert session.exists(".")
        wait_for_line(server, "ID test (serial 0) CA ED25519")


def test_a_certificate_beside_the_file_of_the_private_key_logs_in(
    tmp_path: Path, authority: Path, user_key: Path
) -> None:
    with openssh(tmp_path / "sshd", *believing_users_of(authority)) as server:
        sign(authority, user_key, "-n", server.user)
        with session_of(server, private_key=Secret.from_file(user_key)) as session:
            assert session.exists(".")
        with client_of(server, private_key=user_key) as client:
            assert client.exists(".")


def test_a_certificate_goes_with_a_key_that_has_a_passphrase(tmp_path: Path, authority: Path) -> None:
    key = make_key(tmp_path / "user", passphrase="a passphrase")
    with openssh(tmp_path / "sshd", *believing_users_of(authority)) as server:
        certificate = sign(authority, key, "-n", server.user)
        text = Secret(key.read_text() + certificate.read_text())
        with session_of(server, private_key=text, passphrase=Secret("a passphrase")) as session:
            assert session.exists(".")


def test_a_certificate_that_was_renewed_is_used_at_the_next_login(tmp_path: Path, authority: Path) -> None:
    key = make_key(tmp_path / "user")
    with openssh(tmp_path / "sshd", *believing_users_of(authority)) as server:
        sign(authority, key, "-n", server.user, "-V", "20200101:20200102")
        with session_of(server, private_key=Secret.from_file(key)) as session:
            with pytest.raises(AuthenticationFailed):
                session.exists(".")
            sign(authority, key, "-n", server.user)
            assert session.exists(".")


@pytest.mark.parametrize("in_text", [True, False])
def test_a_certificate_for_another_user_or_by_another_authority_is_refused(
    tmp_path: Path, authority: Path, *, in_text: bool
) -> None:
    key, other = make_key(tmp_path / "user"), make_key(tmp_path / "other-authority")
    with openssh(tmp_path / "sshd", *believing_users_of(authority)) as server:
        for signer, user in ((authority, "somebody-else"), (other, server.user)):
            certificate = sign(signer, key, "-n", user)
            secret = Secret(key.read_text() + certificate.read_text()) if in_text else Secret.from_file(key)
            with session_of(server, private_key=secret) as session, pytest.raises(AuthenticationFailed):
                session.exists(".")


def test_a_certificate_beside_a_key_does_no_harm_where_the_plain_key_is_known(tmp_path: Path, authority: Path) -> None:
    with openssh(tmp_path / "sshd") as server:
        assert server.key_file is not None
        sign(authority, server.key_file, "-n", server.user)
        with session_of(server, private_key=Secret.from_file(server.key_file)) as session:
            assert session.exists(".")


def test_a_certificate_of_another_key_is_told_about(tmp_path: Path, authority: Path) -> None:
    key, other = make_key(tmp_path / "user"), make_key(tmp_path / "other")
    with openssh(tmp_path / "sshd", *believing_users_of(authority)) as server:
        text = key.read_text() + sign(authority, other, "-n", server.user).read_text()
        with session_of(server, private_key=Secret(text)) as session, pytest.raises(AuthenticationFailed):
            session.exists(".")


# --- certificates of hosts -------------------------------------------------------------------------------------------


@pytest.fixture(params=["ed25519", "ecdsa", "rsa"])
def certified_base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory for a server, with a host key of some type."""
    make_key(tmp_path / "sshd" / "host_key", request.param)
    return tmp_path / "sshd"


@pytest.fixture
def plain_base(tmp_path: Path) -> Path:
    make_key(tmp_path / "sshd" / "host_key")
    return tmp_path / "sshd"


def certified(base: Path, authority: Path, *options: str) -> str:
    """Sign a server's key; return the option that has it shown."""
    return f"HostCertificate {sign(authority, base / 'host_key', '-h', *options)}"


def test_a_certificate_by_a_known_authority_is_enough_and_nothing_is_remembered(
    tmp_path: Path, authority: Path, certified_base: Path
) -> None:
    known, believed = tmp_path / "known", tmp_path / "believed"
    with openssh(certified_base, certified(certified_base, authority, "-n", "127.0.0.1")) as server:
        believed.write_text(f"@cert-authority [127.0.0.1]:{server.port} {public(authority)}\n")
        with session_of(server, known_hosts=known, known_hosts_files=(believed,)) as session:
            assert session.exists(".")
            assert not known.exists() or known.read_text() == ""
        # the plain key stays unknown: beside an authority it is not trusted on first use
    with (
        openssh(certified_base, port=server.port),
        session_of(server, known_hosts=known, known_hosts_files=(believed,)) as session,
        pytest.raises(HostKeyMismatch, match="without a certificate"),
    ):
        session.connect()
    assert not known.exists()


@pytest.mark.parametrize("pattern", ["*", "[127.0.0.*]:*", "hashed"])
def test_an_authority_is_found_by_a_pattern_and_by_a_hashed_name(
    tmp_path: Path, authority: Path, plain_base: Path, pattern: str
) -> None:
    known = tmp_path / "known"
    with openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1")) as server:
        name = f"[127.0.0.1]:{server.port}"
        pattern = str(paramiko.HostKeys.hash_host(name)) if pattern == "hashed" else pattern
        (tmp_path / "believed").write_text(f"@cert-authority {pattern} {public(authority)}\n")
        with session_of(server, known_hosts=known, known_hosts_files=(tmp_path / "believed",)) as session:
            assert session.exists(".")
    assert not known.exists() or known.read_text() == ""


FOREIGN = {
    "for another host": ("-h", "-n", "other.example"),
    "expired": ("-h", "-n", "127.0.0.1", "-V", "20200101:20200102"),
    "not valid yet": ("-h", "-n", "127.0.0.1", "-V", "20990101:20990102"),
    "with a condition": ("-h", "-n", "127.0.0.1", "-O", "critical:new@example=1"),
    "by another authority": ("-h", "-n", "127.0.0.1"),
    "none": None,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_beside_an_authority_a_server_without_a_valid_certificate_is_refused(
    tmp_path: Path, authority: Path, plain_base: Path, what: str
) -> None:
    known, believed = tmp_path / "known", tmp_path / "believed"
    stranger, options = make_key(tmp_path / "stranger"), FOREIGN[what]
    signer = stranger if what == "by another authority" else authority
    shown = [f"HostCertificate {sign(signer, plain_base / 'host_key', *options)}"] if options else []
    with openssh(plain_base, *shown) as server:
        believed.write_text(f"@cert-authority [127.0.0.1]:{server.port} {public(authority)}\n")
        trust: dict[str, Any] = {"known_hosts": known, "known_hosts_files": (believed,)}
        with session_of(server, **trust) as session:
            for call in (session.connect, lambda: session.exists("."), lambda: session.test_connection(learn=True)):
                with pytest.raises(HostKeyMismatch) as failure:
                    call()
                assert server.host_key in failure.value.message
                assert fingerprint(authority) in failure.value.message
            *_, last = diagnose(session.settings)
            assert (last.name, last.code) == ("host_key", "host_key_mismatch")
        assert not known.exists()
        wait_for_line(server, "[preauth]")
        assert "Accepted" not in "".join(server.log)
        assert "Failed" not in "".join(server.log)
        # Listed as it is, the key is believed beside an authority, as with OpenSSH.
        known.write_text(f"[127.0.0.1]:{server.port} {public(plain_base / 'host_key')}\n")
        with session_of(server, **trust) as session:
            assert session.exists(".")


def test_an_authority_in_our_own_file_counts_as_one_in_a_read_only_file(
    tmp_path: Path, authority: Path, plain_base: Path
) -> None:
    known = tmp_path / "known"
    with openssh(plain_base) as server:
        line = f"@cert-authority [127.0.0.1]:{server.port} {public(authority)}\n"
        known.write_text(line)
        with session_of(server, known_hosts=known) as session:
            for learn in (False, True):
                with pytest.raises(HostKeyMismatch, match="first use"):
                    session.test_connection(learn=learn)
        assert known.read_text() == line


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.0.*", "hashed"])
def test_an_authority_of_a_host_is_one_on_every_port_of_it(
    tmp_path: Path, authority: Path, plain_base: Path, name: str
) -> None:
    """OpenSSH looks for a server on another port under the host's name, too."""
    believed = tmp_path / "believed"
    pattern = str(paramiko.HostKeys.hash_host("127.0.0.1")) if name == "hashed" else name
    believed.write_text(f"@cert-authority {pattern} {public(authority)}\n")
    with (
        openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1")) as server,
        session_of(server, known_hosts_files=(believed,)) as session,
    ):
        assert session.exists(".")
    with (
        openssh(plain_base, port=server.port),
        session_of(server, known_hosts_files=(believed,)) as session,
        pytest.raises(HostKeyMismatch, match="without a certificate"),
    ):
        session.connect()


@pytest.mark.parametrize("pattern", ["*,![127.0.0.1]:*,!127.0.0.1", "other.example", "[127.0.0.1]:1"])
def test_an_authority_of_other_hosts_says_nothing_about_this_one(
    tmp_path: Path, authority: Path, plain_base: Path, pattern: str
) -> None:
    known, believed = tmp_path / "known", tmp_path / "believed"
    believed.write_text(f"@cert-authority {pattern} {public(authority)}\n")
    with openssh(plain_base) as server, session_of(server, known_hosts=known, known_hosts_files=(believed,)) as session:
        assert session.exists(".")
    assert known.read_text().startswith(f"[127.0.0.1]:{server.port} ")


def test_a_pinned_key_that_is_revoked_is_refused(tmp_path: Path, authority: Path, plain_base: Path) -> None:
    believed = tmp_path / "believed"
    with openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1")) as server:
        key = public(plain_base / "host_key")
        for revoked in (key, public(authority)):
            # The pins have the server show its certificate, or its key alone
            for pin in (server.host_key, key):
                believed.write_text(f"@cert-authority * {public(authority)}\n@revoked * {revoked}\n")
                options: dict[str, Any] = {"known_hosts_files": (believed,), "host_keys": (pin,)}
                with session_of(server, **options) as session:
                    if revoked == key:
                        with pytest.raises(HostKeyMismatch, match="revoked"):
                            session.connect()
                    else:
                        assert session.connect().host_key == server.host_key


def test_a_certificate_by_a_revoked_authority_is_refused(tmp_path: Path, authority: Path, plain_base: Path) -> None:
    known, believed = tmp_path / "known", tmp_path / "believed"
    with openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1")) as server:
        lines = [f"@cert-authority * {public(authority)}\n", f"@revoked * {public(authority)}\n"]
        for order in (lines, lines[::-1]):
            believed.write_text("".join(order))
            options = {"known_hosts": known, "known_hosts_files": (believed,)}
            with session_of(server, **options) as session, pytest.raises(HostKeyMismatch, match="revoked"):
                session.exists(".")
            assert not known.exists() or known.read_text() == ""


def test_a_revoked_key_is_refused_in_spite_of_its_certificate(
    tmp_path: Path, authority: Path, plain_base: Path
) -> None:
    known, believed = tmp_path / "known", tmp_path / "believed"
    with openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1")) as server:
        key = public(plain_base / "host_key")
        believed.write_text(f"@cert-authority * {public(authority)}\n@revoked * {key}\n")
        options = {"known_hosts": known, "known_hosts_files": (believed,)}
        with session_of(server, **options) as session, pytest.raises(HostKeyMismatch, match="revoked"):
            session.exists(".")


def test_a_certificate_does_not_take_the_place_of_a_pinned_key(
    tmp_path: Path, authority: Path, plain_base: Path
) -> None:
    believed = tmp_path / "believed"
    with openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1")) as server:
        believed.write_text(f"@cert-authority * {public(authority)}\n")
        options: dict[str, Any] = {"known_hosts_files": (believed,)}
        pins = (fingerprint(authority),)
        with session_of(server, **options, host_keys=pins) as session, pytest.raises(HostKeyMismatch):
            session.exists(".")
        for pin in (server.host_key, public(plain_base / "host_key")):
            with session_of(server, **options, host_keys=(pin,)) as session:
                assert session.exists(".")


def test_a_server_without_a_certificate_is_known_by_its_key_beside_an_authority(
    tmp_path: Path, authority: Path, plain_base: Path
) -> None:
    believed = tmp_path / "believed"
    with openssh(plain_base) as server:
        name = f"[127.0.0.1]:{server.port}"
        believed.write_text(f"@cert-authority {name} {public(authority)}\n{name} {public(plain_base / 'host_key')}\n")
        with session_of(server, known_hosts_files=(believed,)) as session:
            assert session.exists(".")


def test_a_certificate_is_checked_again_at_a_rekey(tmp_path: Path, authority: Path, plain_base: Path) -> None:
    believed = tmp_path / "believed"
    with openssh(plain_base, certified(plain_base, authority, "-n", "127.0.0.1"), "RekeyLimit 1M") as server:
        known = tmp_path / "known"
        (server.directory / "large").write_bytes(bytes(5_000_000))
        for later in (f"@revoked * {public(authority)}\n", f"@cert-authority * {public(make_key(tmp_path / 'new'))}\n"):
            believed.write_text(f"@cert-authority * {public(authority)}\n")
            with session_of(server, known_hosts=known, known_hosts_files=(believed,)) as session:
                session.download_file("large", str(tmp_path / "large"))
                believed.write_text(later)
                with pytest.raises(HostKeyMismatch):
                    session.download_file("large", str(tmp_path / "never"))
            assert not known.exists()
        assert not (tmp_path / "never").exists()


# --- pins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", ["rsa", "ecdsa", "ed25519"])
def test_a_fingerprint_alone_pins_a_key_of_any_type_that_the_server_has(tmp_path: Path, pinned: str) -> None:
    """A fingerprint does not tell the key's type, so the types are asked for in turn."""
    keys = {kind: make_key(tmp_path / "keys" / kind, kind) for kind in ("rsa", "ecdsa")}
    with openssh(tmp_path / "sshd", *(f"HostKey {key}" for key in keys.values())) as server:
        keys["ed25519"] = tmp_path / "sshd" / "host_key"
        pin = fingerprint(keys[pinned])
        with session_of(server, host_keys=(pin,)) as session:
            assert session.exists(".")
            assert session.test_connection().host_key == pin


def test_a_fingerprint_of_none_of_the_servers_keys_is_a_mismatch(tmp_path: Path) -> None:
    keys = [make_key(tmp_path / "keys" / kind, kind) for kind in ("rsa", "ecdsa")]
    pin = fingerprint(make_key(tmp_path / "other"))
    with openssh(tmp_path / "sshd", *(f"HostKey {key}" for key in keys)) as server:
        with session_of(server, host_keys=(pin,)) as session, pytest.raises(HostKeyMismatch, match="pinned") as failure:
            session.exists(".")
        assert pin in failure.value.message
        wait_for_line(server, "[preauth]")
        assert "Accepted" not in "".join(server.log)
        assert "Failed" not in "".join(server.log)
        assert "".join(server.log).count("Connection from") <= 4


def test_a_pinned_key_is_found_again_after_a_change_of_its_type(tmp_path: Path) -> None:
    """Pins for a change of keys: the new key is pinned before the server has it."""
    old, new = make_key(tmp_path / "old", "rsa"), make_key(tmp_path / "new")
    with openssh(tmp_path / "first", f"HostKey {old}") as server:
        session = SFTPSession(settings_of(server, host_keys=(fingerprint(new), fingerprint(old))))
        assert session.connect().host_key == fingerprint(old)
        session.disconnect()
    (tmp_path / "second").mkdir()
    for ending in ("", ".pub"):
        (tmp_path / "second" / f"host_key{ending}").write_bytes(Path(f"{new}{ending}").read_bytes())
        (tmp_path / "second" / f"user_key{ending}").write_bytes((tmp_path / "first" / f"user_key{ending}").read_bytes())
    for private in ("host_key", "user_key"):
        (tmp_path / "second" / private).chmod(0o600)
    with openssh(tmp_path / "second", port=server.port):
        assert session.connect().host_key == fingerprint(new)
        session.disconnect()


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_server_that_grants_one_session_is_asked_for_a_second_once(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    with openssh(tmp_path / "sshd", "MaxSessions 1") as server:
        with session_of(server) as session:
            write_as_long_ago(tmp_path / "source", content)
            session.upload_file(str(tmp_path / "source"), "first")

            def work(number: int) -> bool:
                session.upload_file(str(tmp_path / "source"), f"up-{number}")
                session.download_file(f"up-{number}", str(tmp_path / f"down-{number}"))
                return session.exists(f"up-{number}")

            with ThreadPoolExecutor(6) as pool:
                assert all(pool.map(work, range(6)))
        assert {(tmp_path / f"down-{number}").read_bytes() for number in range(6)} == {content}
        wait_for_line(server, "Closing connection to")
        log = "".join(server.log)
        assert log.count("no more sessions") == 1
        assert log.count("Accepted publickey") == 1


def test_a_server_that_allows_one_try_lets_the_right_key_in(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd", "MaxAuthTries 1") as server, client_of(server) as client:
        assert client.exists(".")


def test_a_key_is_not_offered_again_to_a_server_that_allows_one_attempt(tmp_path: Path) -> None:
    """The password beside the key is not tried either: the connection has ended by then."""
    with openssh(tmp_path / "sshd", "MaxAuthTries 1") as server:
        stranger = Secret.from_file(make_key(tmp_path / "key"))
        options = {"private_key": stranger, "password": Secret("a password")}
        with session_of(server, **options) as session, pytest.raises(AuthenticationFailed):
            session.exists(".", timeout=60)
        wait_for_line(server, "[preauth]")
        assert "".join(server.log).count("Connection from") == 1


def test_no_error_is_among_its_own_causes(openssh_server: Server, tmp_path: Path) -> None:
    """Whoever follows a chain of causes, as loggers and collectors of errors do, comes to its end."""
    stranger = Secret.from_file(make_key(tmp_path / "key"))
    wrong: list[dict[str, Any]] = [
        {"private_key": stranger},
        {"private_key": Secret.from_file(tmp_path / "none")},
        {"port": free_port()},
        {"host": "no-such-host.invalid"},
        {"host_keys": (fingerprint(tmp_path / "key"),)},
    ]
    for options in wrong:
        with session_of(openssh_server, **options) as session:
            for call in (session.connect, session.test_connection, lambda session=session: session.exists("x")):
                with pytest.raises(SFTPError) as failure:
                    call()
                chain: list[BaseException] = []
                error: BaseException | None = failure.value
                while error is not None:
                    assert error not in chain
                    chain.append(error)
                    error = error.__cause__ or error.__context__


# --- old algorithms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("Ciphers aes128-cbc,aes256-cbc,3des-cbc",),
        ("KexAlgorithms diffie-hellman-group1-sha1",),
        ("MACs hmac-md5,hmac-sha1-96", "Ciphers aes128-ctr"),
        ("HostKeyAlgorithms ssh-rsa",),
        (
            "Ciphers 3des-cbc", "KexAlgorithms diffie-hellman-group1-sha1", "MACs hmac-md5",
            "HostKeyAlgorithms ssh-rsa",
        ),
    ],
)  # fmt: skip
def test_a_server_with_nothing_but_old_algorithms_is_told_about_in_one_message(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    make_key(tmp_path / "sshd" / "host_key", "rsa")
    with openssh(tmp_path / "sshd", *options) as server:
        with session_of(server, time_limits=SHORT) as session, pytest.raises(Unsupported) as failure:
            session.exists(".", timeout=60)
        assert "no longer accepted" in failure.value.message
        assert "\n" not in failure.value.message
        wait_for_line(server, "[preauth]")
        log = "".join(server.log)
        assert log.count("Connection from") == 1
        assert "Failed" not in log


def test_a_server_with_an_rsa_key_and_todays_signatures_is_let_be(tmp_path: Path) -> None:
    make_key(tmp_path / "sshd" / "host_key", "rsa")
    for signature in ("rsa-sha2-256", "rsa-sha2-512"):
        with openssh(tmp_path / "sshd", f"HostKeyAlgorithms {signature}") as server:
            for pin in (server.host_key, public(tmp_path / "sshd" / "host_key")):
                with session_of(server, host_keys=(pin,)) as session:
                    assert session.exists(".")


# --- rekeys ----------------------------------------------------------------------------------------------------------


class Asked(HostKeyPolicy):
    """Counts how often it is asked about a key."""

    times = 0

    def check(self, key: paramiko.PKey, certificate: bytes | None = None) -> None:
        self.times += 1
        super().check(key, certificate)


class HeldForAMoment:
    """A lock that somebody holds whenever it is only tried: as senders do that look whether they may go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True) -> bool:  # noqa: FBT002 - as that of a lock
        return blocking and self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


def test_a_rekey_by_the_server_succeeds_while_others_try_to_send(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(5_000_000))
    with openssh(tmp_path / "sshd", "RekeyLimit 1M") as server, session_of(server) as session:
        session.connect()
        transport = connection_of(session).transport
        policy = transport.policy = Asked("127.0.0.1", server.port)
        transport.clear_to_send_lock = HeldForAMoment()  # type: ignore[assignment]
        session.upload_file(str(tmp_path / "source"), "there", timeout=60)
        assert policy.times >= 1
        assert session.counts.connections == 1


def test_transfers_go_on_through_rekeys_and_the_key_is_checked_in_each(tmp_path: Path) -> None:
    content = os.urandom(30_000_000)
    (tmp_path / "source").write_bytes(content)
    with openssh(tmp_path / "sshd", "RekeyLimit 1M") as server, session_of(server) as session:
        session.connect()
        connection = connection_of(session)
        policy = connection.transport.policy = Asked("127.0.0.1", server.port)
        session.upload_file(str(tmp_path / "source"), "there")
        assert (server.directory / "there").read_bytes() == content
        after_upload = policy.times
        assert after_upload >= 5
        session.download_file("there", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == content
        assert policy.times - after_upload >= 5, session.counts
        assert session.exists("there")
        assert connection_of(session) is connection


# --- addresses -------------------------------------------------------------------------------------------------------


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on its loopback interface")
def test_a_server_with_an_ipv6_address_is_remembered_as_openssh_writes_it(tmp_path: Path) -> None:
    known = tmp_path / "known"
    with openssh(tmp_path / "sshd", "ListenAddress ::1") as server:
        wait_for_line(server, "Server listening on ::1")
        with session_of(server, host="::1", known_hosts=known) as session:
            assert session.exists(".")
        assert known.read_text() == f"[::1]:{server.port} {public(tmp_path / 'sshd' / 'host_key')}\n"
        found = subprocess.run(
            ["ssh-keygen", "-F", f"[::1]:{server.port}", "-l", "-f", known], capture_output=True, text=True, check=True
        )
        assert server.host_key in found.stdout
    os.remove(tmp_path / "sshd" / "host_key")
    with (
        openssh(tmp_path / "sshd", "ListenAddress ::1", port=server.port) as changed,
        session_of(changed, host="::1", known_hosts=known) as session,
    ):
        wait_for_line(changed, "Server listening on ::1")
        with pytest.raises(HostKeyMismatch):
            session.exists(".")


Resolver = Callable[..., None]


@pytest.fixture
def resolves_to(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Give the addresses of `gateway.example`.

    The resolver is the one part that is not real in these tests: a name with several addresses, or with one that
    changes, would need a DNS server that the C library asks, and that takes the rights of an administrator.
    """
    real, addresses = socket.getaddrinfo, list[tuple[str, int]]()

    def look_up(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host != "gateway.example":
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]

    def resolve(*new: tuple[str, int]) -> None:
        addresses[:] = new

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return resolve


def test_the_addresses_of_a_name_are_tried_in_order_until_one_accepts(
    openssh_server: Server, resolves_to: Resolver, tmp_path: Path
) -> None:
    port = openssh_server.port
    resolves_to(("127.0.0.2", port), ("127.0.0.3", port), ("127.0.0.1", port))
    with session_of(openssh_server, host="gateway.example", known_hosts=tmp_path / "known") as session:
        assert session.exists(".", timeout=60)
    assert (tmp_path / "known").read_text().startswith(f"[gateway.example]:{port} ssh-ed25519 ")


def test_an_address_that_swallows_everything_takes_only_its_part_of_the_time(
    openssh_server: Server, resolves_to: Resolver
) -> None:
    with black_hole() as hole:
        resolves_to(("127.0.0.1", hole), ("127.0.0.1", openssh_server.port))
        limits = TimeLimits(connect=2)
        with session_of(openssh_server, host="gateway.example", time_limits=limits) as session:
            assert session.exists(".")


def test_a_name_none_of_whose_addresses_accepts_is_unreachable(openssh_server: Server, resolves_to: Resolver) -> None:
    port = openssh_server.port
    resolves_to(("127.0.0.2", port), ("127.0.0.3", port))
    with (
        session_of(openssh_server, host="gateway.example") as session,
        pytest.raises(Unreachable, match=r"gateway\.example"),
    ):
        session.exists(".", timeout=2)


def test_an_address_that_changed_is_found_at_the_next_connection(
    openssh_server: Server, resolves_to: Resolver, tmp_path: Path
) -> None:
    first, second = (Relay((openssh_server.host, openssh_server.port)) for _ in range(2))
    with session_of(openssh_server, host="gateway.example", known_hosts=tmp_path / "known") as session:
        with first.running() as port:
            resolves_to(("127.0.0.1", port))
            assert session.exists(".")
        with second.running() as port:
            resolves_to(("127.0.0.1", port))
            assert session.exists(".", timeout=60)
    assert (first.connections, second.connections) == (1, 1)
    assert len((tmp_path / "known").read_text().splitlines()) == 1


def test_another_server_at_an_address_that_changed_is_a_mismatch(
    openssh_server: Server, resolves_to: Resolver, tmp_path: Path
) -> None:
    with openssh(tmp_path / "other") as other:
        resolves_to(("127.0.0.1", openssh_server.port))
        with session_of(openssh_server, host="gateway.example", known_hosts=tmp_path / "known") as session:
            assert session.exists(".")
            session.disconnect()
            resolves_to(("127.0.0.1", other.port))
            with pytest.raises(HostKeyMismatch) as failure:
                session.exists(".")
            assert other.host_key in failure.value.message
            wait_for_line(other, "[preauth]")
            assert "Failed" not in "".join(other.log)
