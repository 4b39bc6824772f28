"""Folders to transfer, in either direction, and what is in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from iot.sftp.client import FolderTransfer, SFTPSession

OLD = 1_600_000_000  # a time, in 2020


class Way(NamedTuple):
    """One direction: its source and its destination on this machine, and the call."""

    source: Path
    dest: Path
    session: SFTPSession
    download: bool
    folder: str

    def transfer(self, **options: object) -> FolderTransfer:
        if self.download:
            return self.session.download_files(f"{self.folder}/in", str(self.dest), **options)  # type: ignore[arg-type]
        return self.session.upload_files(str(self.source), f"{self.folder}/out", **options)  # type: ignore[arg-type]

    def beside(self, name: str) -> str:
        """Name a folder beside the source, in the terms of its side."""
        return f"{self.folder}/{name}" if self.download else str(self.source.parent / name)

    def shown(self, name: str) -> str:
        """Return the path under which a file of the source is told of."""
        return f"{self.folder}/in/{name}" if self.download else str(self.source / name)


@dataclass(frozen=True)
class Suffix:
    """Markers whose name is that of the file, or its stem, and a suffix."""

    suffix: str
    of_stem: bool = False

    @property
    def is_shared(self) -> bool:
        return self.of_stem

    def __call__(self, name: str) -> str:
        return (os.path.splitext(name)[0] if self.of_stem else name) + self.suffix

    def matches(self, name: str) -> bool:
        return name.endswith(self.suffix) and name != self.suffix


def write_as_long_ago(path: Path, content: bytes, when: int = OLD) -> None:
    """Write a file that is not young: a download waits a second until a further write to a young one would show."""
    path.write_bytes(content)
    os.utime(path, (when, when))


def fill(directory: Path, files: dict[str, bytes], when: int = OLD) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_as_long_ago(path, content, when)


def content_of(directory: Path) -> dict[str, bytes]:
    """Return what is in a directory, by relative path; a server may still be about to remove what is unfinished."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if not path.name.startswith(".iot-sftp-") and path.is_file()
    }


def many(number: int, size: int = 300) -> dict[str, bytes]:
    return {f"file-{n:05}": os.urandom(size) for n in range(number)}
