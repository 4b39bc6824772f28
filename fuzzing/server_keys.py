"""A server's key and its signature, as they come in the key exchange: the first byte is the type that was agreed on."""

from __future__ import annotations

import socket

from iot.sftp.client import SFTPError
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import Internal
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.paramiko_internals.transport import Transport

TYPES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512"),
    *("ssh-ed25519-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com"),
)
LENGTH = 2  # bytes of the length before the key; what is behind the key is the signature
WORDS = tuple(chr(0) * 3 + chr(len(name)) + name for name in (*TYPES, "ssh-rsa", "nistp256", "nistp384", "nistp521"))

_ours, _theirs = socket.socketpair()
_transport = Transport(_ours, HostKeyPolicy("host.example", 22), Deadline(None))


def check(data: bytes) -> None:
    """A key that nobody can have signed with is refused, and it is the server's fault."""
    _transport.host_key_type = TYPES[data[0] % len(TYPES)] if data else TYPES[0]
    _transport.H = b"what is signed"
    end = 1 + LENGTH + int.from_bytes(data[1 : 1 + LENGTH], "big")
    try:
        _transport._verify_key(data[1 + LENGTH : end], data[end:])
    except Exception as error:  # noqa: BLE001 - paramiko's thread takes note of any
        _transport.saved_exception = error
    told = _transport.saved_exception
    assert told is not None, "a signature was forged"
    reason = from_lower_layer(told)
    assert isinstance(reason, SFTPError)
    assert not isinstance(reason, Internal)
    assert reason.message.isprintable()
