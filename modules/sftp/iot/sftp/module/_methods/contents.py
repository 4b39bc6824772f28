"""The content of a file as a result: text if it is text and fits into a response, base64 otherwise."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._documents.contents import encode_content
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, encoded_size

if TYPE_CHECKING:
    from iot.sftp.client import FileContent
    from iot.sftp.module._documents.contents import Encoding

READ_MAXIMUM = 64 * 1024  # bytes of a file: as base64, they always fit into a response
WRITE_MAXIMUM = 128 * 1024  # bytes of a file: more never fit into a request; a message may hold more


def content_document(read: FileContent) -> dict[str, Any]:
    """Return what was read of a file, as responses show it.

    A control character takes six bytes in JSON: text may be too long, where base64 is not.
    """
    with suppress(UnicodeDecodeError):
        document = _document(read, "utf-8")
        if encoded_size(document) <= RESPONSE_MAXIMUM:
            return document
    return _document(read, "base64")


def _document(read: FileContent, encoding: Encoding) -> dict[str, Any]:
    return {
        "content": encode_content(read.content, encoding),
        "encoding": encoding,
        "size": len(read.content),
        "modified": None if read.modified is None else rfc3339(read.modified),
    }
