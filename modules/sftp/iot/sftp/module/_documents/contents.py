"""The content of a small file as JSON has it: text as it is, any bytes as base64."""

from __future__ import annotations

import base64
import binascii
from typing import Literal

from pydantic_core import PydanticCustomError

Encoding = Literal["utf-8", "base64"]


def decode_content(content: object, encoding: Encoding) -> bytes:
    """Return the bytes that a text stands for.

    Raises:
        PydanticCustomError: it is none, or stands for none.
    """
    if not isinstance(content, str):
        raise PydanticCustomError("content", "must be a string")
    if encoding == "utf-8":
        try:
            return content.encode()
        except UnicodeEncodeError:
            words = 'holds a lone surrogate, which is not text: send bytes as base64, with "encoding": "base64"'
            raise PydanticCustomError("content", words) from None
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        words = "must be base64 (RFC 4648, section 4), with its padding and without line breaks"
        raise PydanticCustomError("content", words) from None


def encode_content(content: bytes, encoding: Encoding) -> str:
    """Return bytes as text.

    Raises:
        UnicodeDecodeError: they are not UTF-8.
    """
    return content.decode() if encoding == "utf-8" else base64.b64encode(content).decode("ascii")
