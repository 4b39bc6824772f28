"""Listings: names and attributes as a server gives them; the first byte tells how many of them are wanted."""

from __future__ import annotations

import json
import posixpath
from contextlib import suppress

from fuzzing.script import Script
from iot.sftp.client import FileInfo, SFTPError
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._base.text import printable
from iot.sftp.client._files.listing import list_files
from iot.sftp.client._files.local_files import check_name
from iot.sftp.client._folders.folder_page import FolderPage
from iot.sftp.client._folders.folder_walk import list_on_server
from iot.sftp.client._ssh.packets import decode_path, encode_path

WORDS = ("\x68\x00\x00\x00\x01", "\x65\x00\x00\x00\x01", "\x80\x00\x00\x0f", "\x00\x00\xa1\xff", "..", "/", "\x1b[2J")


def check(data: bytes) -> None:
    """What is listed has names that stay where they belong, and no other failure than a named one comes of it."""
    limit, answers = (data[0] or None) if data else None, data[1:]
    with suppress(SFTPError):
        paths = list_files(Script(answers).files(), "on/server", "in", None, limit=limit)
        assert paths == sorted(paths)
        assert limit is None or len(paths) <= limit
        for path in paths:
            assert path.startswith("in/")
            _is_a_name(path.removeprefix("in/"))
    with suppress(SFTPError):
        page = FolderPage(Budget())
        list_on_server(Script(answers).files(), "in", "sub", page, recursive=True)
        for path in (*page.next_level(), *(file.path for file in page.files())):
            assert posixpath.dirname(path) == "sub"
            _is_a_name(posixpath.basename(path))
    with suppress(SFTPError):
        for entry in Script(answers).files().entries("in"):
            info = FileInfo.of(decode_path(entry.name), entry.attributes)
            assert printable(info.path).isprintable()
            assert json.dumps(vars(info)).isascii()


def _is_a_name(name: str) -> None:
    assert check_name(name) == name
    assert decode_path(encode_path(name)) == name
    assert len(encode_path(name)) <= 4096
