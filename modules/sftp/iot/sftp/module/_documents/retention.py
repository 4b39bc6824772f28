"""The section `retention` of the desired document: which local files are deleted when they are too old, or too many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel

from iot.sftp.client import Selection
from iot.sftp.module._documents.fields import HAS_DOTS, TemplateContext, WholeNumber, seconds, whole_number
from iot.sftp.module._documents.rule import Folder
from iot.sftp.module._documents.selection import Globs
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._documents.template import Placeholders, Template
from iot.sftp.module._documents.validation import Document, explain, invalid

ENTRIES_MAXIMUM = 20  # as of rules: all of them are reported
MAX_AGE_MAXIMUM = 10 * 366 * 86_400  # seconds
BYTES_MAXIMUM = 2**60
_PERCENT = re.compile(r"(\d{1,2}(?:\.\d{1,3})?)%")


@dataclass(frozen=True)
class FreeSpace:
    """How much of a file system has to be free: bytes, or a part of its size.

    Attributes:
        amount: bytes, or percent.
        is_percent: which of both.
    """

    amount: float
    is_percent: bool = False

    def of(self, size: int) -> int:
        """Return the bytes that this is on a file system of `size` bytes."""
        return int(size * self.amount / 100) if self.is_percent else int(self.amount)

    def as_written(self) -> str | int:
        """Return it as its author may have written it."""
        return f"{self.amount:g}%" if self.is_percent else int(self.amount)


def _free_space(value: object) -> FreeSpace | None:
    if value is None:
        return None
    value = whole_number(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= BYTES_MAXIMUM:
        return FreeSpace(value)
    percent = _PERCENT.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if percent is None or not float(percent[1]):
        raise invalid('must be a whole number of bytes from 1, or a part of the disk below "100%", such as "10%"')
    return FreeSpace(float(percent[1]), is_percent=True)


def _as_written(value: FreeSpace | None) -> str | int | None:
    return None if value is None else value.as_written()


def _local(path: Template) -> Template:
    if any(str(component) == ".." for component in path.components):
        raise invalid(HAS_DOTS)
    return path


class RetentionEntry(Document, alias_generator=to_camel):
    """One folder whose files are deleted when they are too old, or too many."""

    path: Annotated[Folder, AfterValidator(_local)]
    include: Globs = ()
    max_age: Annotated[float, seconds(0, MAX_AGE_MAXIMUM)] | None = None
    max_bytes: Annotated[Annotated[int, Field(ge=0, le=BYTES_MAXIMUM)] | None, WholeNumber] = None
    min_free: Annotated[FreeSpace | None, PlainValidator(_free_space), PlainSerializer(_as_written)] = None
    only_delivered: bool = True

    def selection(self) -> Selection:
        """Return which files of the folder, and of the folders in it, are meant."""
        return Selection(include=self.include, recursive=True)

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported."""
        return self.model_dump(by_alias=True, exclude_none=True)


def read_retention(content: Any, placeholders: Placeholders) -> tuple[RetentionEntry, ...]:
    """Read the section, with the placeholders in force.

    Raises:
        ValueError: it cannot be used; one entry that is invalid makes all of it invalid.
    """
    if not isinstance(content, list):
        raise ValueError("'retention' must be a list of objects")  # noqa: TRY004 - of a document, not of a program
    if len(content) > ENTRIES_MAXIMUM:
        raise ValueError(f"'retention' holds more than {ENTRIES_MAXIMUM} objects")
    entries, problems = list[RetentionEntry](), list[str]()
    for number, item in enumerate(content, 1):
        if not isinstance(item, dict):
            problems.append(f"entry {number}: must be an object")
            continue
        try:
            entry = RetentionEntry.model_validate(item, context=TemplateContext(placeholders, DEFAULT_SERVER))
        except ValidationError as error:
            problems.append(f"entry {number}: {explain(error, RetentionEntry)}")
            continue
        if entry.max_age is None and entry.max_bytes is None and entry.min_free is None:
            problems.append(f"entry {number}: needs at least one of maxAge, maxBytes and minFree")
        entries.append(entry)
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(entries)
