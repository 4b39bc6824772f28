"""Which files of a folder are meant: the keys that requests and rules share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client import Append, InvalidRequest, Order, Selection
from iot.sftp.module._documents.fields import AGE_MAXIMUM, Pattern, seconds
from iot.sftp.module._documents.validation import Document


def _globs(value: object, info: ValidationInfo) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("globs", "must be a list of patterns")
    # Without `recursive`, a pattern for files in folders only is of no use: an error here
    recursive = info.data.get("recursive", True) if info.field_name == "include" else True
    try:
        Selection(include=value, recursive=recursive)
    except InvalidRequest as error:
        raise PydanticCustomError("globs", error.message.removeprefix("include ")) from None
    return tuple(value)


Globs = Annotated[tuple[str, ...], PlainValidator(_globs)]
"""Patterns of paths relative to the source."""


class SelectionDocument(Document):
    """The keys that say which files of a folder are meant, and which come first."""

    file_pattern: Pattern | None = None
    recursive: bool = False  # in front of the patterns, which look at it
    include: Globs = ()
    exclude: Globs = ()
    order: Literal["name", "oldest", "newest"] = "name"
    min_age: Annotated[float, seconds(0, AGE_MAXIMUM)] = 0.0

    def selection(self) -> Selection:
        """Return the same for the client."""
        return Selection(
            include=self.include,
            exclude=self.exclude,
            file_pattern=self.file_pattern,
            recursive=self.recursive,
            min_age=self.min_age,
            order=Order(self.order),
        )

    def append(self) -> Append | None:
        """Return how growing files are kept up with: here they are not."""
        return None
