"""Host certificates as OpenSSH's ssh-keygen makes them, and bytes that are none."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import HostKeyMismatch
from iot.sftp.client._ssh.certificates import read_host_certificate
from iot.sftp.client._ssh.host_keys import HostKeyPolicy


def make_key(path: Path, kind: str = "ed25519") -> Path:
    size = ("-b", "2048") if kind == "rsa" else ()  # larger ones take seconds to make
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", str(path)], check=True)
    return path


def sign(authority: Path, key: Path, *options: str) -> bytes:
    """Sign a key, and return the certificate's bytes."""
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options, f"{key}.pub"]
    subprocess.run(command, check=True)
    return base64.b64decode(Path(f"{key}-cert.pub").read_text().split()[1])


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("authority_kind", ["ed25519", "ecdsa", "rsa"])
def test_certificates_of_every_type_and_by_every_type_are_read(tmp_path: Path, kind: str, authority_kind: str) -> None:
    authority, key = make_key(tmp_path / "authority", authority_kind), make_key(tmp_path / "key", kind)
    blob = sign(authority, key, "-h", "-n", "a.example,*.b.example", "-V", "20200101:20300101")
    certificate = read_host_certificate(blob)
    assert certificate is not None
    assert certificate.authority == Path(f"{authority}.pub").read_text().split()[1]
    assert certificate.refusal("A.example") is None
    assert certificate.refusal("x.b.example") is None
    assert "not for c.example" in (certificate.refusal("c.example") or "")
    assert "clock" in (certificate.refusal("a.example", now=lambda: 2e9) or "")
    assert "clock" in (certificate.refusal("a.example", now=lambda: 1e9) or "")


def test_a_certificate_without_names_is_for_any_host(tmp_path: Path) -> None:
    blob = sign(make_key(tmp_path / "authority"), make_key(tmp_path / "key"), "-h")
    certificate = read_host_certificate(blob)
    assert certificate is not None
    assert certificate.refusal("any.example") is None


def test_a_condition_that_is_not_known_is_a_refusal(tmp_path: Path) -> None:
    authority, key = make_key(tmp_path / "authority"), make_key(tmp_path / "key")
    blob = sign(authority, key, "-h", "-O", "critical:new@example=1")
    certificate = read_host_certificate(blob)
    assert certificate is not None
    assert "conditions" in (certificate.refusal("a.example") or "")


def test_a_certificate_for_users_is_none_for_hosts(tmp_path: Path) -> None:
    assert read_host_certificate(sign(make_key(tmp_path / "authority"), make_key(tmp_path / "key"))) is None


def test_a_user_certificate_or_a_changed_one_is_refused_beside_an_authority(tmp_path: Path) -> None:
    authority, key = make_key(tmp_path / "authority"), make_key(tmp_path / "key")
    known = tmp_path / "known"
    known.write_text(f"@cert-authority *.example {Path(f'{authority}.pub').read_text()}")
    loaded = paramiko.PKey.from_path(key)
    policy = HostKeyPolicy("a.example", 22, known_hosts=known)
    for options in ((), ("-n", "a.example")):
        with pytest.raises(HostKeyMismatch, match="not one for hosts, or was changed"):
            policy.check(loaded, sign(authority, key, *options))
    blob = bytearray(sign(authority, key, "-h", "-n", "a.example"))
    policy.check(loaded, bytes(blob))
    blob[-1] ^= 1
    with pytest.raises(HostKeyMismatch, match="not one for hosts, or was changed"):
        policy.check(loaded, bytes(blob))
    assert "a.example ssh-ed25519" not in known.read_text()


def test_brackets_in_a_name_of_a_certificate_are_no_pattern(tmp_path: Path) -> None:
    blob = sign(make_key(tmp_path / "authority"), make_key(tmp_path / "key"), "-h", "-n", "[ab].example,c?.example")
    certificate = read_host_certificate(blob)
    assert certificate is not None
    assert certificate.refusal("a.example") is not None
    assert certificate.refusal("cd.example") is None


@given(data=st.data())
def test_a_certificate_that_was_changed_anywhere_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blob = bytearray(_certificate(tmp_path_factory))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    assert read_host_certificate(bytes(blob)) is None


@given(st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_none(blob: bytes) -> None:
    assert read_host_certificate(blob) is None


def test_a_plain_key_is_no_certificate() -> None:
    assert read_host_certificate(paramiko.ECDSAKey.generate().asbytes()) is None


_made: list[bytes] = []


def _certificate(factory: pytest.TempPathFactory) -> bytes:
    if not _made:
        folder = factory.mktemp("certificate")
        _made.append(sign(make_key(folder / "authority"), make_key(folder / "key"), "-h", "-n", "a.example"))
    return _made[0]
