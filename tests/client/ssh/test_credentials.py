"""Private keys as people have them, and what is said of one that cannot be used."""

from __future__ import annotations

import base64
import math
import subprocess
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clients import session_of
from tests.servers import Server, openssh

from iot.sftp.client import AuthenticationFailed, Secret, ServerSettings, check_private_key
from iot.sftp.client._ssh.credentials import Credentials, load_private_keys

# ssh-keygen writes ed25519 keys in OpenSSH's form (RFC4716) only
KINDS = [("ed25519", "256", "RFC4716")] + [
    (kind, bits, form)
    for kind, bits in (("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "2048"))
    for form in ("RFC4716", "PEM", "PKCS8")
]


def make(path: Path, kind: str, bits: str, *options: str, passphrase: str = "") -> str:
    command = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", passphrase, *options, "-f", str(path)]
    subprocess.run(command, check=True)
    return path.read_text()


def load(text: str, passphrase: str | None = None) -> tuple[paramiko.PKey, ...]:
    return load_private_keys(Secret(text), Secret(passphrase) if passphrase else None)


@pytest.mark.parametrize("kind, bits, form", KINDS)
@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
def test_keys_of_every_type_and_form_are_read(tmp_path: Path, kind: str, bits: str, passphrase: str, form: str) -> None:
    text = make(tmp_path / "key", kind, bits, "-m", form, passphrase=passphrase)
    (key,) = load(text, passphrase or None)
    public = (tmp_path / "key.pub").read_text().split()
    assert [key.get_name(), key.get_base64()] == public[:2]
    if passphrase:
        with pytest.raises(AuthenticationFailed, match="give its passphrase"):
            load(text)
        with pytest.raises(AuthenticationFailed, match="is the passphrase right"):
            load(text, "wrong")
    else:
        load(f"\n{text}\n", "not needed")


def pem_of(*numbers: int) -> str:
    """Return an RSA key as PEM (RFC 8017, appendix A.1.2), whatever its numbers are: version, n, e, d, p, q, ..."""
    fields = b"".join(map(_integer, (0, *numbers)))
    text = base64.encodebytes(b"\x30" + _length(len(fields)) + fields).decode()
    return f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n"


def _integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return b"\x02" + _length(len(content)) + content


def _length(length: int) -> bytes:
    if length < 128:
        return bytes([length])
    content = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([128 + len(content)]) + content


def rsa_numbers(p: int, q: int, e: int, **others: int) -> tuple[int, ...]:
    """Return the numbers of an RSA key that follow from its factors, but for `others`."""

    def inverse(value: int, modulus: int) -> int:
        return pow(value, -1, modulus) if modulus > 0 and math.gcd(value, modulus) == 1 else 1

    d = others.get("d", inverse(e, (p - 1) * (q - 1)))
    follow = {"n": p * q, "e": e, "d": d, "p": p, "q": q, "dp": d % (p - 1), "dq": d % (q - 1), "iqmp": inverse(q, p)}
    return tuple((follow | others).values())


@pytest.fixture(scope="module")
def factors() -> tuple[int, int]:
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    return numbers.p, numbers.q


def test_an_rsa_key_whose_numbers_do_not_belong_together_is_told_about(factors: tuple[int, int]) -> None:
    p, q = factors
    n, e, d, *_, iqmp = rsa_numbers(p, q, 65537)
    (key,) = load(pem_of(*rsa_numbers(p, q, e)))
    key.sign_ssh_data(b"x", "rsa-sha2-256")
    cases = {
        "p is q": rsa_numbers(p, p, e),
        "p is even": rsa_numbers(p + 1, q, e),
        "p is 2": rsa_numbers(2, n, e),
        "e is 1": rsa_numbers(p, q, 1),
        "e is even": rsa_numbers(p, q, e + 1),
        "e is negative": rsa_numbers(p, q, -e),
        "e is longer than n": rsa_numbers(p, q, e + (p - 1) * (q - 1) * 2**64),
        "d is longer than n": rsa_numbers(p, q, e, d=d + (p - 1) * (q - 1) * 2**4096),
        "the inverse is longer than p": rsa_numbers(p, q, e, iqmp=iqmp + p),
        "nothing is left": (0,) * 8,
    }
    names = "n", "d", "dp", "dq", "iqmp"
    cases |= {
        f"{name} is another one": rsa_numbers(p, q, e, **{name: value + 2})
        for name, value in zip(names, (n, d, d % (p - 1), d % (q - 1), iqmp), strict=True)
    }
    accepted = []
    for case, numbers in cases.items():
        with suppress(AuthenticationFailed):
            load(pem_of(*numbers))
            accepted.append(case)
    assert accepted == []


@pytest.mark.parametrize("bits", [4, 512, 1022, 16386, 200_000])
def test_an_rsa_key_of_an_absurd_size_is_told_about_at_once(bits: int) -> None:
    p, q = (1 << (bits // 2 - 1)) + 1, (3 << (bits // 2 - 2)) + 1
    started = time.process_time()
    with pytest.raises(AuthenticationFailed, match="bits is not accepted: make an ed25519 key"):
        load(pem_of(*rsa_numbers(p, q, 3, n=(1 << bits) - 1, iqmp=1)))
    assert time.process_time() - started < 10


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("curve", [ec.SECP256K1, ec.SECP224R1, ec.BrainpoolP256R1])
def test_a_key_on_a_curve_that_ssh_has_no_name_for_is_told_about(
    curve: type[ec.EllipticCurve], form: PrivateFormat
) -> None:
    key = ec.generate_private_key(curve())
    with pytest.raises(AuthenticationFailed, match="of this type cannot be used here"):
        load(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())


@cache
def pems() -> list[list[str]]:
    """Return the lines of a key of each kind, in PEM and in OpenSSH's form."""
    kinds: tuple[ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, ...] = (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
    )
    forms = PrivateFormat.PKCS8, PrivateFormat.OpenSSH
    return [
        key.private_bytes(Encoding.PEM, form, NoEncryption()).decode().splitlines() for key in kinds for form in forms
    ]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_key_is_told_about_whatever_is_wrong_with_it(data: st.DataObject) -> None:
    first, *lines, last = data.draw(st.sampled_from(pems()))
    content = bytearray(base64.b64decode("".join(lines)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF]))
    with suppress(AuthenticationFailed):
        load("\n".join([first, base64.encodebytes(content).decode().strip(), last]))


def test_a_point_that_is_compressed_is_told_about() -> None:
    first, *lines, last = pems()[3]
    content = base64.b64decode("".join(lines))
    point = content.index(b"\0\0\0\x41\x04")
    damaged = content[: point + 4] + b"\x02" + content[point + 5 :]
    with pytest.raises(AuthenticationFailed, match="cannot be read"):
        load("\n".join([first, base64.encodebytes(damaged).decode().strip(), last]))


def test_a_public_key_in_its_place_is_told_about(tmp_path: Path) -> None:
    make(tmp_path / "key", "ed25519", "256")

    with pytest.raises(AuthenticationFailed, match=r"this is a public key.*without '\.pub'"):
        load((tmp_path / "key.pub").read_text())


def test_text_that_is_no_key_is_told_about() -> None:
    for text in (
        "",
        "no key",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
        "\u2603",
    ):
        with pytest.raises(AuthenticationFailed, match="cannot be read"):
            load(text)


def test_a_dsa_key_is_not_accepted_any_more(tmp_path: Path) -> None:
    subprocess.run(
        [
            "openssl",
            "genpkey",
            "-genparam",
            "-algorithm",
            "DSA",
            "-pkeyopt",
            "dsa_paramgen_bits:1024",
            "-out",
            str(tmp_path / "p"),
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run(["openssl", "genpkey", "-paramfile", tmp_path / "p", "-out", tmp_path / "key"], check=True)
    with pytest.raises(AuthenticationFailed, match="not accepted any more"):
        load((tmp_path / "key").read_text())


@pytest.mark.parametrize("kind", ["ed448", "x25519"])
def test_a_key_of_another_type_is_not_called_old(tmp_path: Path, kind: str) -> None:
    subprocess.run(["openssl", "genpkey", "-algorithm", kind, "-out", tmp_path / "key"], check=True)
    with pytest.raises(AuthenticationFailed, match="of this type cannot be used here") as failure:
        load((tmp_path / "key").read_text())
    assert "any more" not in failure.value.message


def test_a_key_with_a_passphrase_logs_in(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd") as server:
        text = make(tmp_path / "key", "ecdsa", "256", passphrase="a passphrase")
        authorized = server.key_file.with_suffix(".pub")  # type: ignore[union-attr]
        authorized.write_text(authorized.read_text() + (tmp_path / "key.pub").read_text())
        with session_of(server, private_key=Secret(text), passphrase=Secret("a passphrase")) as session:
            assert session.exists(".")


def test_a_key_that_is_refused_leaves_the_password_to_try(proftpd_server: Server, tmp_path: Path) -> None:
    text = make(tmp_path / "key", "ecdsa", "256")
    with session_of(proftpd_server, private_key=Secret(text)) as session:
        assert session.exists(".")


def test_a_password_that_cannot_be_sent_is_told_about(proftpd_server: Server) -> None:
    with (
        session_of(proftpd_server, password=Secret("\ud800")) as session,
        pytest.raises(AuthenticationFailed, match="cannot be sent"),
    ):
        session.exists("x")


def test_a_certificate_of_another_key_is_told_about(tmp_path: Path) -> None:
    text = make(tmp_path / "key", "ed25519", "256")
    make(tmp_path / "other", "ed25519", "256")
    make(tmp_path / "authority", "ed25519", "256")
    sign = ["ssh-keygen", "-q", "-s", str(tmp_path / "authority"), "-I", "device", str(tmp_path / "other.pub")]
    subprocess.run(sign, check=True)
    certificate = (tmp_path / "other-cert.pub").read_text()

    with pytest.raises(AuthenticationFailed, match="the certificate is not for this private key"):
        load(f"{text}{certificate}")


def test_what_can_be_known_of_a_key_without_a_server_is_checked(tmp_path: Path) -> None:
    text = make(tmp_path / "key", "ed25519", "256", passphrase="a passphrase")
    check_private_key(Secret(text), Secret("a passphrase"))
    check_private_key(Secret.from_file(tmp_path / "later"))
    check_private_key(Secret(text), Secret.from_environment("LATER"))
    for _ in range(2):
        with pytest.raises(ValueError, match="is the passphrase right"):
            check_private_key(Secret(text), Secret("another"))
    with pytest.raises(ValueError, match="give its passphrase"):
        check_private_key(Secret(text))
    with pytest.raises(ValueError, match="must be the whole text"):
        check_private_key(Secret(text[:80]), Secret.from_file(tmp_path / "later"))


def test_the_next_key_is_offered_first_and_the_other_one_while_it_is_not_known(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd") as server:
        text, following = make(tmp_path / "key", "ed25519", "256"), Secret.from_file(tmp_path / "next")
        authorized = server.key_file.with_suffix(".pub")  # type: ignore[union-attr]
        authorized.write_text((tmp_path / "key.pub").read_text())
        with session_of(server, private_key=Secret(text), next_private_key=following) as session:
            assert session.connect().accepted_keys == (fingerprint(tmp_path / "key"),)

        make(tmp_path / "next", "ed25519", "256")
        with session_of(server, private_key=Secret(text), next_private_key=following) as session:
            assert session.connect().accepted_keys == (fingerprint(tmp_path / "key"),)

        authorized.write_text(authorized.read_text() + (tmp_path / "next.pub").read_text())
        with session_of(server, private_key=Secret(text), next_private_key=following) as session:
            assert session.connect().accepted_keys == (fingerprint(tmp_path / "next"),)


def test_a_damaged_key_keeps_nobody_from_the_other_one_of_a_rotation(tmp_path: Path) -> None:
    make(tmp_path / "key", "ed25519", "256")
    make(tmp_path / "next", "ed25519", "256")
    own, following = Secret.from_file(tmp_path / "key"), Secret.from_file(tmp_path / "next")
    settings = ServerSettings("host", 22, "user", private_key=own, next_private_key=following)
    assert offered(settings) == [fingerprint(tmp_path / "next"), fingerprint(tmp_path / "key")]

    text = (tmp_path / "next").read_text()
    (tmp_path / "next").write_text(text[:80])
    assert offered(settings) == [fingerprint(tmp_path / "key")]

    (tmp_path / "next").write_text(text)
    (tmp_path / "key").write_text("")
    assert offered(settings) == [fingerprint(tmp_path / "next")]

    (tmp_path / "next").write_text("")
    with pytest.raises(AuthenticationFailed, match="must be the whole text"):
        offered(settings)


def offered(settings: ServerSettings) -> list[str]:
    return [key.fingerprint for key in Credentials.read(settings).keys]


def fingerprint(path: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout.split()[1]
