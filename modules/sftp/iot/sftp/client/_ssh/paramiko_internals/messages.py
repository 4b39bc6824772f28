"""SSH messages without copies of their data, and with bounds on what a server may put into them."""

from __future__ import annotations

import struct

from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.errors import ConnectionLost
from iot.sftp.client._ssh.algorithms import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.packets import Reader

Data = bytes | memoryview

LENGTH, BLOCK, LEAST_PADDING = 4, 16, 4  # bytes (RFC 4253, section 6)
DATA_HEADER = struct.Struct(">BII")  # message type, channel, length of the data
LONGEST_KEY = 16 * 1024  # bytes; to compute with a key of 300,000 takes seconds
LONGEST_NUMBER = 2050  # bytes of a number in a key exchange: 16,384 bits and a sign
KEY_EXCHANGE = range(30, 42)  # message types (RFC 4250, section 4.1.2)


class ChannelData(Message):
    """A CHANNEL_DATA message to send (RFC 4254, section 5.2): its data is copied once, into the encryption buffer."""

    def __init__(self, channel: int, data: memoryview) -> None:
        super().__init__()
        self._channel = channel
        self._data = data

    def asbytes(self) -> bytes:
        """Return the message, for a cipher that takes paramiko's own path."""
        return DATA_HEADER.pack(MSG_CHANNEL_DATA, self._channel, len(self._data)) + self._data

    def packet_into(self, buffer: memoryview) -> memoryview:
        """Assemble the whole packet in `buffer`, and return it."""
        return packet_into(buffer, DATA_HEADER.pack(MSG_CHANNEL_DATA, self._channel, len(self._data)), self._data)


def packet_into(buffer: memoryview, *parts: Data) -> memoryview:
    """Assemble a packet from the parts of its payload (RFC 4253, section 6; RFC 5647, section 7.2)."""
    size = sum(map(len, parts))
    padding = BLOCK - (1 + size) % BLOCK
    padding += BLOCK if padding < LEAST_PADDING else 0
    struct.pack_into(">IB", buffer, 0, 1 + size + padding, padding)
    end = LENGTH + 1
    for part in parts:
        start, end = end, end + len(part)
        buffer[start:end] = part
    # Zeros, as paramiko and OpenSSH use with stream ciphers: random padding that is encrypted anyway gains nothing.
    buffer[end : end + padding] = bytes(padding)
    return buffer[: end + padding]


class ReceivedData(Message):
    """A received CHANNEL_DATA message: its fields are read from a view that is valid until the next message."""

    def __init__(self, payload: memoryview) -> None:
        super().__init__()
        self._payload = payload

    def get_int(self) -> int:
        """Read the channel's number."""
        (number,) = struct.unpack_from(">I", self._payload)
        self._payload = self._payload[4:]
        return int(number)

    def get_binary(self) -> memoryview:  # type: ignore[override] # the consumer wants bytes, and no copy of them
        """Read the data."""
        length = self.get_int()
        return self._payload[:length]


class KeyExchangeMessage(Message):
    """A message with bounded numbers: paramiko pads a missing number to a megabyte, and computes for a minute."""

    def get_mpint(self) -> int:
        """Read a number."""
        number = self.get_binary()
        if len(number) > LONGEST_NUMBER:
            message = f"the server sent a number of {len(number)} bytes, which no key exchange has"
            raise SSHException(message)
        return int.from_bytes(number, "big", signed=True)


def bounded(kind: int, message: Message) -> Message:
    """Return a message of this type with its numbers bounded."""
    if kind not in KEY_EXCHANGE:
        return message
    same = KeyExchangeMessage(message.asbytes())
    same.seqno = message.seqno
    return same


def check_numbers(host_key: bytes, signature: bytes) -> None:
    """Check that a key and a signature have plausible lengths and are complete: see `KeyExchangeMessage`.

    Raises:
        SSHException: one is too long, or is truncated.
    """
    if max(len(host_key), len(signature)) > LONGEST_KEY:
        message = f"the server's key or signature has more than {LONGEST_KEY} bytes, which none has"
        raise SSHException(message)
    try:
        key, signed = Reader(host_key), Reader(signature)
        kind = key.string()
        if kind.endswith(CERTIFICATE_SUFFIX.encode()):
            key.string()  # nonce
        if b"rsa" in kind:
            key.string(), key.string()
        if b"ecdsa" in signed.string():
            numbers = Reader(signed.string())
            numbers.string(), numbers.string()
    except ConnectionLost as error:
        raise SSHException(error.message) from None
