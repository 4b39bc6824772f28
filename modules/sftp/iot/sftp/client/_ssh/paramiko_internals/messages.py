"""SSH messages without copies of their data, and with bounds on what a server may put into them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.errors import ConnectionLost
from iot.sftp.client._ssh.algorithms import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.packet_ciphers import BLOCK, LENGTH
from iot.sftp.client._ssh.packets import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

Data = bytes | memoryview

LEAST_PADDING = 4  # bytes (RFC 4253, section 6)
MOST_FRAMING = 64  # bytes of a packet beside the data: its length, its type and channel, and its padding
PACKET_HEADER = struct.Struct(">IB")  # length of what follows, and of the padding
DATA_HEADER = struct.Struct(">BII")  # message type, channel, length of the data
LONGEST_KEY = 16 * 1024  # bytes; to compute with a key of 300,000 takes seconds
LONGEST_NUMBER = 2050  # bytes of a number in a key exchange: 16,384 bits and a sign
KEY_EXCHANGE = range(30, 42)  # message types (RFC 4250, section 4.1.2)


class ChannelData(Message):
    """Data to send on a channel, in one CHANNEL_DATA message or several (RFC 4254, section 5.2).

    It is copied once, into the encryption buffer.
    """

    def __init__(self, channel: int, data: memoryview, longest: int) -> None:
        """Take the channel's number, the data, and how much of it one message may hold."""
        super().__init__()
        self._channel = channel
        self._data = data
        self._longest = longest

    def asbytes(self) -> bytes:
        """Return one message with all of it, for a cipher that takes paramiko's own path."""
        return b"".join(self._message(self._data))

    def messages(self) -> Iterator[tuple[Data, Data]]:
        """Give the parts of each message's payload."""
        data, longest = self._data, self._longest
        for start in range(0, len(data), longest):
            yield self._message(data[start : start + longest])

    def one_by_one(self) -> Iterator[ChannelData]:
        """Give the same in messages of their own."""
        data, longest = self._data, self._longest
        for start in range(0, len(data), longest):
            yield ChannelData(self._channel, data[start : start + longest], longest)

    def _message(self, data: memoryview) -> tuple[Data, Data]:
        return data_message(self._channel, data)


def data_message(channel: int, data: memoryview) -> tuple[Data, Data]:
    """Return the parts of one CHANNEL_DATA message's payload (RFC 4254, section 5.2)."""
    return DATA_HEADER.pack(MSG_CHANNEL_DATA, channel, len(data)), data


def packet_into(buffer: memoryview, unpadded: int, *parts: Data) -> memoryview:
    """Assemble a packet from the parts of its payload (RFC 4253, section 6), and return it.

    Parameters:
        buffer: where it is put.
        unpadded: how many bytes at its start are not counted when it is padded to whole blocks.
        parts: of the payload.
    """
    size = sum(map(len, parts))
    padding = BLOCK - (LENGTH - unpadded + 1 + size) % BLOCK
    padding += BLOCK if padding < LEAST_PADDING else 0
    PACKET_HEADER.pack_into(buffer, 0, 1 + size + padding, padding)
    end = LENGTH + 1
    for part in parts:
        start, end = end, end + len(part)
        buffer[start:end] = part
    # Zeros, as paramiko and OpenSSH use with stream ciphers: random padding that is encrypted anyway gains nothing.
    buffer[end : end + padding] = _ZEROS[:padding]
    return buffer[: end + padding]


_ZEROS = bytes(2 * BLOCK)


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
