"""The private parts of libraries that we use: these tests fail when they move, before a user finds out."""

from __future__ import annotations

import inspect
import re
import socket
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import paramiko
from packaging.requirements import Requirement
from paramiko.packet import Packetizer

import iot.sftp.client
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.pysftp import DSAKeysAreGone, pysftp
from iot.sftp.client._ssh import algorithms, chacha
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.paramiko_internals.login_answers import LoginAnswers
from iot.sftp.client._ssh.paramiko_internals.packetizers import BoundedPacketizer, FastPacketizer
from iot.sftp.client._ssh.paramiko_internals.reading import packetizer_class
from iot.sftp.client._ssh.paramiko_internals.transport import ALGORITHM_LISTS, MACS_OF, Transport


def test_pysftp_still_needs_the_name_that_we_supply() -> None:
    """When this fails: delete `_base/pysftp.py`, import pysftp where it is used, and delete this test."""
    run = subprocess.run([sys.executable, "-c", "import pysftp"], capture_output=True, text=True, check=False)
    assert run.returncode != 0, "pysftp imports by itself: the workaround in _base/pysftp.py can go"
    assert "DSSKey" in run.stderr


def test_the_supplied_name_is_taken_away_again() -> None:
    assert not hasattr(paramiko, "DSSKey")
    assert pysftp.DSSKey is DSAKeysAreGone


def test_the_supported_versions_are_bounded_and_installed() -> None:
    needed = {r.name: r for r in map(Requirement, requires("iot-sftp-client") or []) if r.marker is None}
    for name in ("paramiko", "pysftp"):
        assert needed[name].specifier.contains(version(name))
        assert any(clause.operator in {"==", "<"} for clause in needed[name].specifier)


def test_the_parts_of_pysftp_are_where_we_override_them() -> None:
    assert list(inspect.signature(pysftp.Connection._start_transport).parameters) == ["self", "host", "port"]
    assert len(inspect.signature(pysftp.Connection._set_authentication).parameters) == 4
    source = inspect.getsource(pysftp.Connection.__init__)
    steps = ["_set_username", "_set_logging", "_start_transport", "use_compression", "_set_authentication", "connect("]
    assert [source.find(step) for step in steps] == sorted(source.find(step) for step in steps)
    assert -1 not in [source.find(step) for step in steps]


def test_the_parts_of_paramiko_are_where_we_override_them() -> None:
    transport = paramiko.Transport
    assert list(inspect.signature(transport._verify_key).parameters) == ["self", "host_key", "sig"]  # type: ignore[attr-defined]
    assert list(inspect.signature(transport._parse_disconnect).parameters) == ["self", "m"]  # type: ignore[attr-defined]
    assert list(inspect.signature(transport._parse_ext_info).parameters) == ["self", "msg"]  # type: ignore[attr-defined]
    assert "self.server_extensions = extensions" in inspect.getsource(transport._parse_ext_info)  # type: ignore[attr-defined]
    assert "MSG_EXT_INFO: self._parse_ext_info" in inspect.getsource(transport.__init__)
    assert "self.saved_exception" in inspect.getsource(transport)
    assert "self._verify_key" not in inspect.getsource(transport), "who calls it now?"


def test_a_login_is_handled_where_paramiko_has_its_own_handler() -> None:
    """All that paramiko asks of it, beside the calls that log in its own way, which nobody makes."""
    source = inspect.getsource(paramiko.Transport)
    asked = set(re.findall(r"self\.auth_handler\.(\w+)", source))
    logins = {name for name in asked if name.startswith("auth_")} | {"wait_for_response"}
    assert asked - logins == {"_handler_table", "abort", "is_authenticated", "get_username", "banner"}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = Transport(ours, HostKeyPolicy("host.example", 22), Deadline(None))
        handler: object = transport.auth_handler
        assert isinstance(handler, LoginAnswers)
        assert [name for name in asked - logins if not hasattr(handler, name)] == []
        transport.packetizer.close()
    run = inspect.getsource(paramiko.Transport.run)
    assert "and ptype in self.auth_handler._handler_table" in run
    assert "name = MSG_NAMES[ptype]" in run, "types of messages without a name need no answer of ours any more"


def test_the_greeting_is_read_where_we_read_it() -> None:
    assert "self._check_banner()\n" in inspect.getsource(paramiko.Transport.run)
    banner = inspect.getsource(paramiko.Transport._check_banner)  # type: ignore[attr-defined]
    assert "self.remote_version = buf" in banner
    assert set(re.findall(r"self\.(\w+) =", banner)) == {"remote_version"}
    assert "self.__closed" in inspect.getsource(Packetizer.closed.fget)  # type: ignore[attr-defined]


def test_what_paramikos_thread_answers_goes_through_the_two_methods_that_we_replace() -> None:
    """It never waits to send: see `SendingTransport`."""
    source = inspect.getsource(paramiko.Transport)
    assert source.count("self.packetizer.send_message") == 1
    assert "self._send_message(data)" in inspect.getsource(paramiko.Transport._send_user_message)  # type: ignore[attr-defined]
    assert "packetizer" not in inspect.getsource(paramiko.Channel)
    assert "if self.packetizer.need_rekey() and not self.in_kex:" in inspect.getsource(paramiko.Transport.run)


def test_algorithms_are_agreed_on_where_we_look() -> None:
    transport = paramiko.Transport
    parameters = inspect.signature(transport._really_parse_kex_init).parameters  # type: ignore[attr-defined]
    assert list(parameters) == ["self", "m", "ignore_first_byte"]
    agree = inspect.getsource(transport._parse_kex_init)  # type: ignore[attr-defined]
    assert "parsed = self._really_parse_kex_init(m)" in agree
    for _, theirs, ours in ALGORITHM_LISTS:
        assert f'{theirs} = parsed["{theirs}"]' in agree
        assert f"self.{ours}" in agree
    assert {*MACS_OF, *MACS_OF.values()} <= {theirs for _, theirs, _ in ALGORITHM_LISTS}
    assert "filter(kex_algo_list.__contains__, self.preferred_kex)" in agree, "who decides on the key exchange now?"


def test_a_cipher_is_made_from_the_table_that_ours_is_in() -> None:
    transport = paramiko.Transport
    gcm = transport._cipher_info["aes128-gcm@openssh.com"]  # type: ignore[attr-defined]
    ours = Transport._cipher_info[chacha.NAME]
    assert set(ours) == set(gcm)
    assert chacha.NAME not in transport._cipher_info, "paramiko has this cipher itself"  # type: ignore[attr-defined]
    assert "        if aead:\n            return algorithm\n" in inspect.getsource(transport._get_engine)  # type: ignore[attr-defined]
    for activate in (transport._activate_inbound, transport._activate_outbound):  # type: ignore[attr-defined]
        source = inspect.getsource(activate)
        assert 'iv_size = info.get("iv-size", block_size)' in source
        assert "block_engine=engine," in source
    for reset in (Packetizer.reset_seqno_in, Packetizer.reset_seqno_out):
        assert "self.__sequence_number_" in inspect.getsource(reset)


def test_the_names_of_a_key_exchange_are_those_that_paramiko_lacks() -> None:
    """When this fails: paramiko has learnt RFC 8731's name, and `Transport._kex_info` can be its own."""
    assert "curve25519-sha256" not in paramiko.Transport._kex_info  # type: ignore[attr-defined]
    assert Transport._preferred_kex == algorithms.KEY_EXCHANGES
    assert set(algorithms.KEY_EXCHANGES) <= set(Transport._kex_info)


def test_all_algorithms_that_are_offered_are_implemented() -> None:
    transport = paramiko.Transport
    assert set(algorithms.CIPHERS) <= set(Transport._cipher_info)
    assert set(algorithms.MACS) <= set(transport._mac_info)  # type: ignore[attr-defined]
    assert {*algorithms.HOST_KEY_TYPES, *algorithms.HOST_CERTIFICATE_TYPES} <= set(transport._key_info)  # type: ignore[attr-defined]


def test_nothing_else_reaches_into_private_parts_of_paramiko() -> None:
    client = Path(iot.sftp.client.__file__).parent
    place = client / "_ssh" / "paramiko_internals"
    reaching = [path for path in client.rglob("*.py") if "SLF001" in path.read_text() and place not in path.parents]
    assert reaching == []


def test_every_key_exchange_of_paramiko_verifies_the_key() -> None:
    for kex in set(paramiko.Transport._kex_info.values()):  # type: ignore[attr-defined]
        source = "".join(inspect.getsource(cls) for cls in kex.__mro__ if cls is not object)
        assert "transport._verify_key(" in source, f"{kex.__name__} does not verify the host key where we do"


def test_the_parts_of_paramiko_that_the_fast_path_uses_are_in_place() -> None:
    """Each of them: what is declared for the type checker, what is overridden, and what is called."""
    transport = paramiko.Transport
    ours, theirs = socket.socketpair()
    with ours, theirs:
        packetizer = Packetizer(ours)
        annotated = [*FastPacketizer.__annotations__, *BoundedPacketizer.__annotations__]
        declared = [name for name in annotated if name.startswith("_Packetizer__")]
        assert len(declared) > 12
        assert [name for name in declared if not hasattr(packetizer, name)] == []
        packetizer.close()
    for activate, iv in ((transport._activate_inbound, "iv_in"), (transport._activate_outbound, "iv_out")):  # type: ignore[attr-defined]
        for option in ("block_engine", "mac_engine", "mac_size", "mac_key", "etm", iv):
            assert f"{option}=" in inspect.getsource(activate), "new keys come another way"
        assert f"{iv}={iv} if aead else None" in inspect.getsource(activate)
    assert list(inspect.signature(Packetizer._trigger_rekey).parameters) == ["self"]  # type: ignore[attr-defined]
    assert list(inspect.signature(Packetizer.read_all).parameters) == ["self", "n", "check_rekey"]
    assert list(inspect.signature(Packetizer.readline).parameters) == ["self", "timeout"]
    assert list(inspect.signature(Packetizer._read_timeout).parameters) == ["self", "timeout"]  # type: ignore[attr-defined]
    assert list(inspect.signature(Packetizer.send_message).parameters) == ["self", "data"]
    assert list(inspect.signature(Packetizer.read_message).parameters) == ["self"]
    for limit in ("REKEY_BYTES", "REKEY_PACKETS", "REKEY_BYTES_OVERFLOW_MAX"):
        assert isinstance(getattr(Packetizer, limit), int)
    read, sent = inspect.getsource(Packetizer.read_message), inspect.getsource(Packetizer.send_message)
    for name in declared:
        assert name.removeprefix("_Packetizer") in inspect.getsource(Packetizer), name
    assert "self.read_all(" in read, "other ciphers do not read what was received already"
    assert "data.asbytes()" in sent, "other ciphers do not put our messages together"


def test_the_parts_of_a_channel_that_we_divert_are_where_they_were() -> None:
    channel = paramiko.Channel
    adjusted = inspect.getsource(channel._window_adjust)  # type: ignore[attr-defined]
    assert "self.out_window_size += nbytes" in adjusted
    assert "self.out_buffer_cv.notify_all()" in adjusted
    assert list(inspect.signature(channel._check_add_window).parameters) == ["self", "n"]  # type: ignore[attr-defined]
    fed, extended = inspect.getsource(channel._feed), inspect.getsource(channel._feed_extended)  # type: ignore[attr-defined]
    assert "m.get_binary()" in fed
    assert "self.in_buffer.feed(" in fed
    assert "self.in_stderr_buffer.feed(" in extended
    assert "self.in_buffer.close()" in inspect.getsource(channel._set_closed)  # type: ignore[attr-defined]


def test_the_turns_of_senders_and_new_keys_are_taken_where_we_step_in() -> None:
    transport = paramiko.Transport
    run = inspect.getsource(transport.run)
    assert "if self.packetizer.need_rekey() and not self.in_kex:\n" in run
    assert "except NeedRekeyException:\n" in run
    assert "m.get_int()" in run, "channel data is handed on otherwise"
    assert "if len(self._expected_packet) > 0:" in run, "what else is refused during a key exchange?"
    begin = inspect.getsource(transport._send_kex_init)  # type: ignore[attr-defined]
    assert "self.clear_to_send_lock.acquire()" in begin
    assert "self.clear_to_send.clear()" in begin
    answer = inspect.getsource(transport._negotiate_keys)  # type: ignore[attr-defined]
    assert answer.index("self.clear_to_send.clear()") < answer.index("self._send_kex_init()")
    assert answer.index("self._send_kex_init()") < answer.index("self.kex_engine.start_kex()")
    assert "self._negotiate_keys," in inspect.getsource(transport.__init__), "the server's wish comes another way"
    assert "self.close()" in inspect.getsource(paramiko.Channel.__del__), "the garbage collector may send nothing"
    send = inspect.getsource(transport._send_user_message)  # type: ignore[attr-defined]
    assert "self.clear_to_send_lock.acquire()" in send
    assert "packetizer_class" in inspect.signature(transport.__init__).parameters
    assert issubclass(packetizer_class(), FastPacketizer)
