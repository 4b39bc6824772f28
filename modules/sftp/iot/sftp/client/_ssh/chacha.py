"""The cipher chacha20-poly1305@openssh.com, from buffer to buffer (OpenSSH's PROTOCOL.chacha20poly1305).

It is the first choice of OpenSSH and the only cipher of some servers (TinySSH). The length of a packet is encrypted
with a key of its own; the nonce is the packet's sequence number.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305

from iot.sftp.client._ssh.algorithms import CHACHA20_POLY1305

NAME = CHACHA20_POLY1305
KEY, LENGTH, TAG, BLOCK = 64, 4, 16, 64  # bytes; the block is ChaCha20's
_FIRST_BLOCK = bytes(BLOCK)


class ChaChaPoly:
    """The cipher of one direction of a connection: see `PacketCipher`."""

    head = unpadded = LENGTH
    tag = TAG

    def __init__(self, key: bytes) -> None:
        """Take the key of the packets, followed by that of their lengths."""
        self._packets = Cipher(ChaCha20(key[: KEY // 2], bytes(16)), None).encryptor()
        self._lengths = Cipher(ChaCha20(key[KEY // 2 :], bytes(16)), None).encryptor()

    @staticmethod
    def is_available() -> bool:
        """Return whether this version of `cryptography` has the cipher, and can change its nonce."""
        try:
            ChaChaPoly(bytes(KEY)).length(0, bytes(LENGTH))
        except Exception:  # noqa: BLE001 - an older version, or a build of OpenSSL without it
            return False
        return True

    def length(self, number: int, header: bytes | memoryview) -> int:
        """Return the length of the packet with this sequence number."""
        self._lengths.reset_nonce(_nonce(number))
        return int.from_bytes(self._lengths.update(header), "big")

    def open_into(self, number: int, packet: memoryview, plain: memoryview) -> None:
        """Verify and decrypt a packet.

        Parameters:
            number: its sequence number.
            packet: its length, its payload and its tag, encrypted.
            plain: where the payload is written.

        Raises:
            InvalidTag: it was changed in transit; nothing is written.
        """
        end = len(packet) - TAG
        try:
            Poly1305.verify_tag(self._first_key(number), packet[:end], bytes(packet[end:]))
        except InvalidSignature:
            raise InvalidTag from None
        self._packets.update_into(packet[LENGTH:end], plain)

    def seal_into(self, number: int, packet: memoryview, sealed: memoryview) -> None:
        """Encrypt a packet that begins with its length, and append its tag."""
        end = len(packet)
        key = self._first_key(number)
        self._lengths.reset_nonce(_nonce(number))
        self._lengths.update_into(packet[:LENGTH], sealed[:LENGTH])
        self._packets.update_into(packet[LENGTH:], sealed[LENGTH:end])
        sealed[end : end + TAG] = Poly1305.generate_tag(key, sealed[:end])

    def _first_key(self, number: int) -> bytes:
        """Return the key of a packet's tag. The cipher is then behind its first block, where the packet begins."""
        self._packets.reset_nonce(_nonce(number))
        return self._packets.update(_FIRST_BLOCK)[:32]


def _nonce(number: int) -> bytes:
    """Return the nonce as OpenSSL has it: the block's number, little endian, and the nonce itself, 8 bytes each."""
    return struct.pack("<Q", 0) + struct.pack(">Q", number)
