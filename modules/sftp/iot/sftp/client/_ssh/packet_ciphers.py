"""The ciphers of SSH packets, from buffer to buffer: AES-GCM, and AES-CTR with a MAC; `chacha` has the third one.

An object is one direction of a connection. Section numbers are those of RFC 4253, but where another one is named.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.ciphers import CipherContext
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LENGTH, BLOCK = 4, 16  # bytes


class PacketCipher(Protocol):
    """Seals packets, or opens them, each with its number in the sequence.

    Attributes:
        head: how many bytes tell the length of a packet.
        unpadded: how many bytes at its start are not counted when it is padded to whole blocks.
        tag: how many bytes of authentication are behind it.
    """

    head: int
    unpadded: int
    tag: int

    def length(self, number: int, head: memoryview) -> int:
        """Return the length that a packet announces; called once for each, before it is opened."""

    def open_into(self, number: int, packet: memoryview, plain: memoryview) -> None:
        """Verify a packet with its length and its tag, and decrypt what is between them.

        Raises:
            InvalidTag: it was changed in transit.
        """

    def seal_into(self, number: int, packet: memoryview, sealed: memoryview) -> None:
        """Encrypt a packet that begins with its length, and append its tag."""


class AESGCMPackets:
    """AES-GCM (RFC 5647): the length is authenticated and not encrypted."""

    head = unpadded = LENGTH
    tag = 16

    def __init__(self, engine: AESGCM, iv: bytes) -> None:
        """Take the key, and the nonce of the first packet."""
        self._engine = engine
        self._fixed, self._invocation = iv[:4], int.from_bytes(iv[4:], "big")  # section 7.1

    def length(self, _number: int, head: memoryview) -> int:
        """See `PacketCipher`."""
        return int.from_bytes(head, "big")

    def open_into(self, _number: int, packet: memoryview, plain: memoryview) -> None:
        """See `PacketCipher`."""
        self._engine.decrypt_into(self._next_nonce(), packet[LENGTH:], packet[:LENGTH], plain)

    def seal_into(self, _number: int, packet: memoryview, sealed: memoryview) -> None:
        """See `PacketCipher`."""
        length = sealed[:LENGTH] = packet[:LENGTH]
        self._engine.encrypt_into(self._next_nonce(), packet[LENGTH:], length, sealed[LENGTH:])

    def _next_nonce(self) -> bytes:
        invocation = self._invocation
        self._invocation = (invocation + 1) & 0xFFFFFFFFFFFFFFFF
        return self._fixed + invocation.to_bytes(8, "big")


class AESCTRPackets:
    """AES-CTR (RFC 4344) with a MAC: of what is encrypted (`etm`, OpenSSH's PROTOCOL, section 1.5), or of what is not.

    It is what older servers and those of small devices have. In the second form (section 6.4) the length is encrypted
    too, so that the first block tells it.
    """

    def __init__(
        self, engine: CipherContext, key: bytes, digest: Callable[..., object], tag: int, *, etm: bool
    ) -> None:
        """Take the cipher, which counts its blocks itself, and the MAC: its key, its hash, and its length in bytes."""
        self.head = LENGTH if etm else BLOCK
        self.unpadded = LENGTH if etm else 0
        self.tag = tag
        self._engine = engine
        self._etm = etm
        self._mac = hmac.new(key, digestmod=digest)  # type: ignore[arg-type] # hashlib's, as paramiko names it
        self._first = memoryview(bytearray(BLOCK))  # of the packet that is being opened

    def length(self, _number: int, head: memoryview) -> int:
        """See `PacketCipher`."""
        if not self._etm:
            self._engine.update_into(head, self._first)
            head = self._first[:LENGTH]
        return int.from_bytes(head, "big")

    def open_into(self, number: int, packet: memoryview, plain: memoryview) -> None:
        """See `PacketCipher`."""
        end = len(packet) - self.tag
        if self._etm:
            tag = self._tag_of(number, packet[:end])
        else:
            known = BLOCK - LENGTH
            plain[:known] = self._first[LENGTH:]
            self._engine.update_into(packet[BLOCK:end], plain[known:])
            tag = self._tag_of(number, self._first[:LENGTH], plain)
        if not hmac.compare_digest(tag, packet[end:]):
            raise InvalidTag
        if self._etm:
            self._engine.update_into(packet[LENGTH:end], plain)

    def seal_into(self, number: int, packet: memoryview, sealed: memoryview) -> None:
        """See `PacketCipher`."""
        end = len(packet)
        clear = self.unpadded
        sealed[:clear] = packet[:clear]
        self._engine.update_into(packet[clear:], sealed[clear:end])
        sealed[end:] = self._tag_of(number, sealed[:end] if self._etm else packet)

    def _tag_of(self, number: int, *parts: memoryview) -> bytes:
        mac = self._mac.copy()
        mac.update(number.to_bytes(4, "big"))
        for part in parts:
            mac.update(part)
        return mac.digest()[: self.tag]
