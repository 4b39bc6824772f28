"""The parts of a template: what is filled in for each file, or with the time, and the components that hold it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from enum import Enum

from iot.sftp.client import NotConfigured, PathNotAllowed
from iot.sftp.module._base.times import rfc3339

# Before this there was no version that knows placeholders: a clock that shows less is not set yet
CLOCK_STARTS = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()


def check_clock(now: float, consequence: str = "{date:…} cannot be filled in") -> None:
    """Check that a moment, in seconds since 1970, can be the present one.

    Parameters:
        now: the moment.
        consequence: what follows if it cannot, for the message.

    Raises:
        NotConfigured: the clock is not set.
    """
    if now < CLOCK_STARTS:
        message = (
            f"{consequence}, as the clock of the device is not set yet ({rfc3339(now)}): "
            "nothing is done with it until the clock is right"
        )
        raise NotConfigured(message)


class TemplateError(ValueError):
    """A text is no template; the message continues a sentence that begins with the name of its key."""


class FileWord(Enum):
    """What is filled in for each file."""

    NAME = "name"
    STEM = "stem"
    EXT = "ext"
    FOLDER = "folder"

    def of(self, path: str) -> str:
        """Return its value for a file.

        Parameters:
            path: the file's, relative to the source.
        """
        folder, name = posixpath.split(path)
        stem, extension = posixpath.splitext(name)
        values = {FileWord.NAME: name, FileWord.STEM: stem, FileWord.EXT: extension, FileWord.FOLDER: folder}
        return values[self]


@dataclass(frozen=True)
class DateWord:
    """A part of a date: the format of `strftime`, without slashes, and the time zone."""

    format: str
    zone: tzinfo

    def at(self, now: float) -> str:
        """Return the date at a moment, in seconds since 1970.

        Raises:
            NotConfigured: the clock is not set.
        """
        check_clock(now)
        return datetime.fromtimestamp(now, self.zone).strftime(self.format)


Part = str | DateWord | FileWord


@dataclass(frozen=True)
class Component:
    """What is between two slashes of a template."""

    parts: tuple[Part, ...]
    has_value: bool = field(compare=False)  # whether it holds, or held, a placeholder

    @property
    def is_fixed(self) -> bool:
        """Whether it always gives the same."""
        return all(isinstance(part, str) for part in self.parts)

    def fill(self, now: float | None, path: str | None) -> str | None:
        """Return its text; `None` for a `{folder}` that is the source itself, which is no component at all."""
        text = "".join(_filled(part, now, path) for part in self.parts)
        if self.parts == (FileWord.FOLDER,):
            return text or None
        if self.has_value and text in {"", ".", ".."}:
            raise PathNotAllowed(f"a placeholder makes a part of the path {text!r}, which is no name", path=path)
        return text

    def __str__(self) -> str:
        """Return it as its author may have written it."""
        return "".join(written(part) for part in self.parts)


def _filled(part: Part, now: float | None, path: str | None) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, DateWord):
        assert now is not None  # noqa: S101 - a caller whose template may have a date gives the time
        return part.at(now)
    assert path is not None  # noqa: S101 - as above, of words for one file
    return part.of(path)


def written(part: Part) -> str:
    """Return a part as its author may have written it."""
    if isinstance(part, str):
        return part.replace("{", "{{").replace("}", "}}")
    return f"{{date:{part.format}}}" if isinstance(part, DateWord) else f"{{{part.value}}}"
