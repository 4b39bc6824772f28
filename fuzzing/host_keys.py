"""Host keys: a line of a known_hosts file, a pin, a certificate; any bytes may be meant as any of them."""

from __future__ import annotations

from contextlib import suppress

from paramiko import Ed25519Key

from iot.sftp.client import HostKeyMismatch, check_pin
from iot.sftp.client._ssh.algorithms import HOST_CERTIFICATE_TYPES
from iot.sftp.client._ssh.certificates import read_host_certificate
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.known_hosts import fingerprint, is_for, parse_line
from iot.sftp.client._ssh.packets import string

KEY = Ed25519Key(data=string(b"ssh-ed25519") + string(b"\x02" + bytes(31)))
OFFERED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
SPOKEN = {*OFFERED, *HOST_CERTIFICATE_TYPES}

WORDS = (
    *(*SPOKEN, "ssh-rsa", "ssh-dss", "sk-ssh-ed25519@openssh.com", "@revoked", "@cert-authority", "SHA256:", "|1|"),
    *(KEY.get_base64(), KEY.fingerprint, "host.example", "[host.example]:2222", "*", "!host"),
)


def check(data: bytes) -> None:
    """A line is a key or none, a pin is usable or refused, a certificate holds or not."""
    text = data.decode("utf-8", "surrogateescape")
    for known in parse_line(text, "host.example"):
        assert known.text
        assert fingerprint(known.text)
    assert is_for(text, "host.example") in {True, False}
    certificate = read_host_certificate(data)
    assert certificate is None or certificate.authority
    with suppress(ValueError):
        _is_a_pin(check_pin(text))


def _is_a_pin(pin: str) -> None:
    policy = HostKeyPolicy("host.example", 22, pinned=[pin])
    assert set(policy.wanted_types(OFFERED)) <= SPOKEN
    with suppress(HostKeyMismatch):
        policy.check(KEY)
        assert KEY.fingerprint in pin or KEY.get_base64().rstrip("=") in pin
