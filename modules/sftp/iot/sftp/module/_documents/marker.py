"""The markers of a rule: files that say that others are complete, on either side."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client import Markers
from iot.sftp.module._documents.fields import check_name, check_path, read_template
from iot.sftp.module._documents.template import Template, TemplateKind
from iot.sftp.module._documents.template_parts import FileWord
from iot.sftp.module._documents.validation import invalid

KINDS = ("wait", "write", "checksum")
SHOWN = '{"wait": "{name}.done", "write": "{name}.done", "checksum": "{name}.sha256"}'
# What each word may stand for in a name, as a regular expression
_WORDS = {FileWord.NAME: "(?s:.+)", FileWord.STEM: "(?s:.+)", FileWord.EXT: r"(?s:\..+)?"}


@dataclass(frozen=True)
class FileMarker:
    """The names of one kind of marker: see `MarkerName`.

    Attributes:
        name: with the words for one file.
    """

    name: Template

    def __call__(self, name: str) -> str:
        """Return the name of a file's marker by the name of the file."""
        return self.name.fill(path=name)

    def matches(self, name: str) -> bool:
        """Return whether this may be the name of a marker."""
        return self._pattern.fullmatch(name) is not None

    @property
    def is_shared(self) -> bool:
        """Whether `a.csv` and `a.txt` have the same one."""
        words = self._words
        return FileWord.NAME not in words and not {FileWord.STEM, FileWord.EXT} <= words

    @property
    def _words(self) -> set[object]:
        return {part for part in self.name.components[0].parts if isinstance(part, FileWord)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = self.name.components[0].parts
        texts = (_WORDS[part] if isinstance(part, FileWord) else re.escape(str(part)) for part in parts)
        return re.compile("".join(texts))

    def check(self) -> None:
        """Raise `PydanticCustomError` unless each file has a marker that cannot be confused with a file."""
        check_name(self.name)
        if self.name.has_date:
            _refuse("has a date: a marker has to be found again on another day")
        if not {FileWord.NAME, FileWord.STEM} & self._words:
            _refuse("is the same for all files: it needs {name} or {stem}")
        if not any(isinstance(part, str) for part in self.name.components[0].parts):
            _refuse("may be the name of the file itself: add text that only markers have, as in {name}.done")


@dataclass(frozen=True)
class MarkerTemplates:
    """The markers of a rule, by what they are for.

    Attributes:
        wait: at the source, without which a file is left alone.
        write: the empty file that follows an arrival.
        checksum: the file with the SHA-256, before that.
    """

    wait: FileMarker | None = None
    write: FileMarker | None = None
    checksum: FileMarker | None = None

    def as_markers(self) -> Markers:
        """Return the same for the client."""
        return Markers(wait=self.wait, write=self.write, checksum=self.checksum)


def _refuse(reason: str) -> None:
    raise PydanticCustomError("marker", "{reason}", {"reason": reason})


def _marker(value: object, info: ValidationInfo) -> MarkerTemplates | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not value or not value.keys() <= set(KINDS):
        raise PydanticCustomError("marker", "must be an object with 'wait', 'write' or 'checksum', such as " + SHOWN)
    read = {kind: _read(kind, text, info) for kind, text in value.items()}
    if "write" in read and read["write"] == read.get("checksum"):
        raise invalid("must be another name than that of 'write'", "checksum")
    return MarkerTemplates(**read)


def _read(kind: str, text: object, info: ValidationInfo) -> FileMarker:
    try:
        marker = FileMarker(read_template(check_path(text), info, TemplateKind.NAME))
        marker.check()
    except PydanticCustomError as error:
        raise invalid(error.message(), kind) from None
    return marker


def _as_written(markers: MarkerTemplates | None) -> dict[str, str] | None:
    if markers is None:
        return None
    found = {kind: getattr(markers, kind) for kind in KINDS}
    return {kind: str(marker.name) for kind, marker in found.items() if marker is not None}


MarkerField = Annotated[MarkerTemplates | None, PlainValidator(_marker), PlainSerializer(_as_written)]
"""The markers of a rule."""
