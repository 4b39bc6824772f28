"""The private parts of libraries that we use: these tests fail when they move, before a user finds out."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
from importlib.metadata import requires, version

import paramiko
from packaging.requirements import Requirement
from paramiko.packet import Packetizer

from iot.sftp.client._paramiko import BoundedPacketizer, FastPacketizer, packetizer_class
from iot.sftp.client._pysftp import DSAKeysAreGone, pysftp


def test_pysftp_still_needs_the_name_that_we_supply() -> None:
    """When this fails: delete `_pysftp.py`, import pysftp where it is used, and delete this test."""
    run = subprocess.run([sys.executable, "-c", "import pysftp"], capture_output=True, text=True, check=False)
    assert run.returncode != 0, "pysftp imports by itself: the workaround in _pysftp.py can go"
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
    assert "self.saved_exception" in inspect.getsource(transport)
    assert "self._verify_key" not in inspect.getsource(transport), "who calls it now?"


def test_every_key_exchange_of_paramiko_verifies_the_key() -> None:
    for kex in set(paramiko.Transport._kex_info.values()):  # type: ignore[attr-defined]
        source = "".join(inspect.getsource(cls) for cls in kex.__mro__ if cls is not object)
        assert "transport._verify_key(" in source, f"{kex.__name__} does not verify the host key where we do"


def test_the_parts_of_paramiko_that_the_fast_way_uses_are_where_it_reaches_for_them() -> None:
    """Each of them: what is declared for the type checker, what is overridden, and what is called."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        packetizer = Packetizer(ours)
        annotated = [*FastPacketizer.__annotations__, *BoundedPacketizer.__annotations__]
        declared = [name for name in annotated if name.startswith("_Packetizer__")]
        assert len(declared) > 15
        assert [name for name in declared if not hasattr(packetizer, name)] == []
        packetizer.close()
    assert list(inspect.signature(Packetizer._inc_iv_counter).parameters) == ["self", "iv"]  # type: ignore[attr-defined]
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
    assert list(inspect.signature(channel._wait_for_send_window).parameters) == ["self", "size"]  # type: ignore[attr-defined]
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
    assert packetizer_class() is FastPacketizer
