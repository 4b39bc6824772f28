"""A server's key is believed when it is pinned, known or seen first; any other is refused before anything is sent."""

from __future__ import annotations

import base64
import errno
import logging
import re
import stat
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clients import client_of, connection_of, session_of
from tests.servers import Server, openssh

from iot.sftp.client import ConnectionLost, HostKeyMismatch, NoSpace, SFTPError, Unreachable, check_pin
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.known_hosts import is_for, known_hosts_name, parse_line, write_lines


@pytest.fixture(scope="module")
def key() -> paramiko.PKey:
    return paramiko.ECDSAKey.generate()


@pytest.fixture(scope="module")
def other() -> paramiko.PKey:
    return paramiko.ECDSAKey.generate()


def line(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def test_the_first_key_is_remembered_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    known_hosts = tmp_path / "state" / "known_hosts"
    with openssh(tmp_path / "a") as first, session_of(first, known_hosts=known_hosts) as session:
        session.connect()
        assert stat.S_IMODE(known_hosts.stat().st_mode) == 0o600
        found = subprocess.run(
            ["ssh-keygen", "-F", f"[127.0.0.1]:{first.port}", "-l", "-f", known_hosts],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert first.host_key in found.stdout
    with openssh(tmp_path / "b", port=first.port) as second, session_of(second, known_hosts=known_hosts) as session:
        with pytest.raises(HostKeyMismatch) as failure:
            session.exists("x")
        assert first.host_key in failure.value.message
        assert second.host_key in failure.value.message
        assert "Accepted" not in "".join(second.log)
        assert "Failed" not in "".join(second.log)
        session.test_connection(learn=True)
        assert session.exists(".")


def test_only_pinned_keys_are_accepted(openssh_server: Server, other: paramiko.PKey, tmp_path: Path) -> None:
    public = (openssh_server.key_file.parent / "host_key.pub").read_text()  # type: ignore[union-attr]
    for pins in ((openssh_server.host_key,), (public,), (other.fingerprint, public)):
        with session_of(openssh_server, host_keys=pins) as session:
            assert session.exists(".")
    with session_of(openssh_server, host_keys=(other.fingerprint,), known_hosts=tmp_path / "known") as session:
        for learn in (False, True):
            with pytest.raises(HostKeyMismatch, match="pinned"):
                session.test_connection(learn=learn)
        assert not (tmp_path / "known").exists()


def test_the_key_type_that_is_known_is_asked_for_first(tmp_path: Path) -> None:
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa], check=True)
    fingerprint = paramiko.RSAKey.from_private_key_file(str(rsa)).fingerprint
    with openssh(tmp_path / "sshd", f"HostKey {rsa}") as server:
        with session_of(server) as session:
            assert session.connect().host_key == server.host_key
        with session_of(server, host_keys=(rsa.with_suffix(".pub").read_text(),)) as session:
            assert session.connect().host_key == fingerprint


def test_known_keys_of_types_that_are_not_implemented_are_ignored(openssh_server: Server, tmp_path: Path) -> None:
    """Old files name DSA keys, new ones keys of hardware: paramiko refuses to be asked for either."""
    public = (openssh_server.key_file.parent / "host_key.pub").read_text()  # type: ignore[union-attr]
    known_hosts, name = tmp_path / "known_hosts", f"[127.0.0.1]:{openssh_server.port}"
    old = "ssh-dss " + base64.b64encode(b"\0\0\0\x07ssh-dss").decode()
    known_hosts.write_text(f"{name} {old}\n{name} sk-ssh-ed25519@openssh.com AAAA\n{name} {public}")
    with session_of(openssh_server, known_hosts=known_hosts) as session:
        assert session.exists(".")
    with session_of(openssh_server, host_keys=(old, public)) as session:
        assert session.exists(".")
    with session_of(openssh_server, host_keys=(old,)) as session, pytest.raises(HostKeyMismatch):
        session.connect()


def test_lines_of_other_hosts_are_kept_byte_by_byte(key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    others = f"# \u2028 \x0b \x85\r\n\nother {line(key)} caf".encode() + b"\xe9\n"
    known.write_bytes(others)
    policy = HostKeyPolicy("host", 22, known_hosts=known)
    policy.check(key)
    assert known.read_bytes() == others + f"host {line(key)}\n".encode()
    policy.learning().check(other)
    assert known.read_bytes() == others + f"host {line(other)}\n".encode()


@pytest.mark.parametrize("damage", ["\x00", "!", "\u00e9"])
def test_learning_replaces_a_damaged_line_with_the_same_fingerprint(
    key: paramiko.PKey, tmp_path: Path, damage: str
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"host {line(key)}{damage}\n")
    policy = HostKeyPolicy("host", 22, known_hosts=known)
    with pytest.raises(HostKeyMismatch):
        policy.check(key)
    policy.learning().check(key)
    assert known.read_text() == f"host {line(key)}\n"
    policy.check(key)


def test_the_users_known_hosts_are_believed(openssh_server: Server, own_home: Path, other: paramiko.PKey) -> None:
    ssh = own_home / ".ssh"
    ssh.mkdir()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{openssh_server.port} {line(other)}\n")
    with client_of(openssh_server) as client:
        assert client.last_error is not None
        assert client.last_error.code == "host_key_mismatch"
    public = (openssh_server.key_file.parent / "host_key.pub").read_text()  # type: ignore[union-attr]
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{openssh_server.port} {public}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", ssh / "known_hosts"], check=True, capture_output=True)
    assert "127.0.0.1" not in (ssh / "known_hosts").read_text()
    with client_of(openssh_server) as client:
        assert client.is_connected()
        assert not (own_home / ".local").exists(), "a key that is known is not remembered again"


def test_a_key_that_cannot_be_written_is_kept_while_the_process_lives(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        policy = HostKeyPolicy("unwritable.example", 22, known_hosts=tmp_path / "file" / "known_hosts")
        policy.check(key)
    assert "kept until this process ends" in caplog.text
    again = HostKeyPolicy("unwritable.example", 22, known_hosts=tmp_path / "file" / "known_hosts")
    again.check(key)
    with pytest.raises(HostKeyMismatch):
        again.check(other)
    again.learning().check(other)
    again.check(other)
    with pytest.raises(HostKeyMismatch):
        again.check(key)


def test_a_key_that_could_not_be_written_is_written_as_soon_as_that_works(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    known = tmp_path / "file" / "known_hosts"
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            HostKeyPolicy("host", 22, known_hosts=known).check(key)
        assert caplog.text.count("kept until this process ends") == 1
        (tmp_path / "file").unlink()
        for _ in range(3):
            HostKeyPolicy("host", 22, known_hosts=known).check(key)
        assert caplog.text.count("Remembered the key") == 1
    assert known.read_text() == f"host {line(key)}\n"
    with pytest.raises(HostKeyMismatch):
        HostKeyPolicy("host", 22, known_hosts=known).check(other)


def test_a_file_that_can_be_read_again_counts_more_than_memory(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.symlink_to("/proc/self/mem")  # which is there, and cannot be read, not even by root
    HostKeyPolicy("host", 22, known_hosts=known).check(other)
    assert known.is_symlink(), "lines that cannot be read are not lost"
    known.unlink()
    known.write_text(f"host {line(key)}\n")
    with pytest.raises(HostKeyMismatch):
        HostKeyPolicy("host", 22, known_hosts=known).check(other)
    HostKeyPolicy("host", 22, known_hosts=known).check(key)
    assert known.read_text() == f"host {line(key)}\n"


def test_a_key_that_is_found_written_down_is_not_written_again(key: paramiko.PKey, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.symlink_to("/proc/self/mem")
    HostKeyPolicy("host", 22, known_hosts=known).check(key)
    known.unlink()
    known.write_text(f"host {line(key)}\n")
    HostKeyPolicy("host", 22, known_hosts=known).check(key)
    assert known.read_text() == f"host {line(key)}\n"


def test_learning_that_is_refused_forgets_nothing_and_names_the_file(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.symlink_to("/proc/self/mem")
    HostKeyPolicy("host", 22, known_hosts=known).check(key)
    with pytest.raises(SFTPError) as failure:
        HostKeyPolicy("host", 22, known_hosts=known).learning().check(other)
    assert failure.value.path == str(known)
    assert known.is_symlink()
    with pytest.raises(HostKeyMismatch):
        HostKeyPolicy("host", 22, known_hosts=known).check(other)


def test_a_place_that_cannot_be_entered_holds_up_no_learning(key: paramiko.PKey, tmp_path: Path) -> None:
    known = tmp_path / ("x" * 300) / "known_hosts"  # too long: what is not permitted looks the same, but not to root
    HostKeyPolicy("unreachable.example", 22, known_hosts=known).learning().check(key)
    HostKeyPolicy("unreachable.example", 22, known_hosts=known).check(key)


def test_learning_from_a_server_that_shows_no_key_forgets_nothing(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    with openssh(tmp_path / "first") as first:
        with session_of(first, known_hosts=known) as session:
            session.connect()
        before = known.read_text()
    with session_of(first, known_hosts=known) as session, pytest.raises(Unreachable):
        session.test_connection(learn=True)
    assert known.read_text() == before


def test_what_is_logged_about_a_key_is_logged_on_behalf_of_whoever_connects(
    openssh_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caller = ContextVar("caller", default="nobody")
    told: dict[str, str] = {}

    def note(record: logging.LogRecord) -> bool:
        told[record.getMessage()] = caller.get()
        return True

    caller.set("a call")
    caplog.set_level(logging.INFO, "iot.sftp.client")
    caplog.handler.addFilter(note)
    with session_of(openssh_server, known_hosts=tmp_path / "known_hosts") as session:
        session.connect()
    caplog.handler.removeFilter(note)
    assert [who for text, who in told.items() if "Remembered the key" in text] == ["a call"]


def test_a_key_that_is_learnt_twice_is_written_once_and_told_of(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = tmp_path / "known_hosts"
    policy = HostKeyPolicy("host", 22, known_hosts=known)
    policy.check(key)
    for _ in range(2):
        policy.learning().check(other)
    assert known.read_text() == f"host {line(other)}\n"
    assert caplog.text.count(f"The key {key.fingerprint} of host is forgotten, as was asked for") == 1


def test_a_key_of_a_file_that_is_only_believed_is_not_replaced_by_learning(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_text(f"host {line(key)}\n")
    policy = HostKeyPolicy("host", 22, known_hosts=tmp_path / "ours", known_hosts_files=[tmp_path / "theirs"])
    with pytest.raises(HostKeyMismatch):
        policy.learning().check(other)
    policy.learning().check(key)
    assert not (tmp_path / "ours").exists()


def test_a_revoked_key_is_refused_even_if_it_is_known(key: paramiko.PKey, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(
        f"host {line(key)}\n@revoked * {line(key)}\n@cert-authority * {line(key)}\n# comment\n\nshort line\n"
    )
    with pytest.raises(HostKeyMismatch, match="revoked"):
        HostKeyPolicy("host", 22, known_hosts_files=[known]).check(key)


def test_a_pinned_key_that_is_revoked_in_any_file_is_refused(key: paramiko.PKey, tmp_path: Path) -> None:
    files = [tmp_path / "ours", tmp_path / "theirs"]
    for file in files:
        for name in ("host", "*", "[host]:2222", str(paramiko.HostKeys.hash_host("[host]:2222"))):
            file.write_text(f"@revoked {name} {line(key)}\n")
            policy = HostKeyPolicy(
                "host", 2222, pinned=[key.fingerprint], known_hosts=files[0], known_hosts_files=files[1:]
            )
            with pytest.raises(HostKeyMismatch, match="revoked"):
                policy.check(key)
        file.unlink()


def test_a_hosts_key_on_its_usual_port_is_accepted_on_other_ports(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    """As with OpenSSH, where nothing is known of the other port."""
    known, theirs = tmp_path / "known", tmp_path / "theirs"
    theirs.write_text(f"host {line(key)}\n")
    policy = HostKeyPolicy("host", 2222, known_hosts=known, known_hosts_files=[theirs])
    policy.check(key)
    assert not known.exists()
    policy.check(other)
    assert known.read_text() == f"[host]:2222 {line(other)}\n"
    with pytest.raises(HostKeyMismatch):
        policy.check(key)


def test_a_key_that_was_kept_in_memory_is_not_believed_beside_an_authority(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    HostKeyPolicy("host", 22, known_hosts_files=[theirs]).check(key)
    theirs.write_text(f"@cert-authority host {line(other)}\n")
    with pytest.raises(HostKeyMismatch, match="first use"):
        HostKeyPolicy("host", 22, known_hosts_files=[theirs]).check(key)


def test_one_key_is_learnt_and_no_other_one_at_a_rekey(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    learning = HostKeyPolicy("host", 22, known_hosts=known).learning()
    learning.check(key)
    learning.check(key)
    with pytest.raises(HostKeyMismatch):
        learning.check(other)
    assert known.read_text() == f"host {line(key)}\n"


def test_learning_changes_the_file_in_one_step_or_not_at_all(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    HostKeyPolicy("host", 22, known_hosts=known).check(key)
    written: list[list[str]] = []

    def write(path: Path, lines: Iterable[str]) -> None:
        written.append(list(lines))
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_lines(path, written[-1])

    HostKeyPolicy("host", 22, known_hosts=known, write=write).learning().check(other)
    assert known.read_text() == f"host {line(other)}\n"
    with pytest.raises(NoSpace):
        HostKeyPolicy("host", 22, known_hosts=known, write=write).learning().check(key)
    assert known.read_text() == f"host {line(other)}\n"


def test_learning_needs_no_file_for_a_key_that_is_only_in_memory(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    HostKeyPolicy("somebody", 22, known_hosts=known).check(other)

    def refuse(_path: Path, _lines: Iterable[str]) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    policy = HostKeyPolicy("host", 22, known_hosts=known, write=refuse)
    policy.check(key)
    policy.learning().check(other)
    policy.check(other)
    with pytest.raises(HostKeyMismatch):
        policy.check(key)


def test_learning_does_not_touch_lines_that_are_about_other_hosts_too(
    key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    for names in ("host,another", "*.example,host", "ho?t"):
        known.write_text(f"{names} {line(key)}\n")
        with pytest.raises(HostKeyMismatch):
            HostKeyPolicy("host", 22, known_hosts=known).learning().check(other)
        assert known.read_text() == f"{names} {line(key)}\n"


def test_learning_leaves_other_hosts_alone(key: paramiko.PKey, other: paramiko.PKey, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    HostKeyPolicy("one", 22, known_hosts=known).check(key)
    HostKeyPolicy("two", 2222, known_hosts=known).check(other)
    HostKeyPolicy("one", 22, known_hosts=known).learning().check(other)
    assert known.read_text() == f"[two]:2222 {line(other)}\none {line(other)}\n"


def test_every_test_that_the_table_of_who_is_believed_names_is_there() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(test_\w{20,})`", page))
    written = "".join(path.read_text() for path in (root / "tests" / "client").rglob("test_*.py"))
    assert len(named) > 15
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


@pytest.mark.parametrize(
    "patterns, name, matches",
    [
        ("host", "host", True), ("HOST", "host", True), ("other,host", "host", True), ("*.example", "a.example", True),
        ("*.example,!a.example", "a.example", False), ("h?st", "host", True), ("[host]:2222", "[host]:2222", True),
        ("[host]:2222", "host", False), ("host", "[host]:2222", False), ("|1|broken", "host", False),
        ("::1", "::1", True), ("[::1]:22222", "[::1]:22222", True), ("[*]:22222", "[::1]:22222", True),
    ],
)  # fmt: skip
def test_names_match_as_openssh_matches_them(patterns: str, name: str, matches: bool) -> None:
    assert is_for(patterns, name) is matches


def test_a_name_carries_the_port_only_if_it_is_another_one() -> None:
    assert known_hosts_name("Host", 22) == "host"
    assert known_hosts_name("host", 2222) == "[host]:2222"


@given(st.text())
def test_no_line_of_a_known_hosts_file_breaks_the_reader(text: str) -> None:
    for known in parse_line(text, "host"):
        assert known.text


@given(st.text())
def test_a_pin_is_taken_or_refused_by_name(text: str) -> None:
    try:
        assert check_pin(text)
    except ValueError as error:
        assert "SHA256:" in str(error)  # noqa: PT017 - both outcomes are right


def test_pins_are_checked_before_they_are_used(key: paramiko.PKey) -> None:
    assert check_pin(f" {key.fingerprint} ") == key.fingerprint
    assert check_pin(line(key) + " comment") == line(key) + " comment"
    wrong_type = f"ssh-rsa {key.get_base64()}"
    short = "SHA256:" + base64.b64encode(b"short").decode()
    for pin in ("", "SHA256:", short, "MD5:00", "ssh-ed25519 ####", wrong_type, "ssh-ed25519"):
        with pytest.raises(ValueError, match="SHA256"):
            check_pin(pin)


def test_a_changed_key_is_noticed_at_a_rekey(openssh_server: Server) -> None:
    """The policy is asked again in every key exchange: what it refuses at a rekey ends the session."""
    with session_of(openssh_server) as session:
        session.connect()
        connection = connection_of(session)
        transport = connection.transport
        asked: list[str] = []

        class Refusing(HostKeyPolicy):
            def check(self, key: paramiko.PKey, certificate: bytes | None = None) -> None:  # noqa: ARG002 - any
                asked.append(key.fingerprint)
                raise HostKeyMismatch("another key at a rekey")

        transport.policy = Refusing("host", 22)
        transport.packetizer.REKEY_BYTES = 1

        end = time.monotonic() + 60
        while connection.alive and time.monotonic() < end:  # paramiko begins with the new keys when it gets to it
            with suppress(HostKeyMismatch):  # if a call was under way just then; the next one would connect again
                session.exists(".", timeout=60)
        reason = connection.lost(ConnectionLost("it broke"))
        assert isinstance(reason, HostKeyMismatch)
        assert "at a rekey" in reason.message
        assert asked == [openssh_server.host_key]
