"""What becomes of files that fail by themselves again and again: the key `on_failure` of a rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client import Quarantine
from iot.sftp.module._documents.fields import (
    below,
    check_apart,
    check_found_once,
    check_local,
    check_path,
    read_template,
    whole_number,
)
from iot.sftp.module._documents.template import Template
from iot.sftp.module._documents.validation import invalid

AFTER_MAXIMUM = 1_000  # failures
EXPECTED = 'must be {"after": 5, "move": "folder"}, with a whole number from 1 to 1000'


@dataclass(frozen=True)
class FailingFiles:
    """When and where files are put aside that fail by themselves.

    Attributes:
        after: so many failures.
        folder: on the source's side.
    """

    after: int
    folder: Template

    def as_quarantine(self, now: float) -> Quarantine:
        """Return the same for the client, at a moment in seconds since 1970.

        Raises:
            NotConfigured: the folder has a date, and the clock is not set.
        """
        below = None if self.folder.is_fixed else self.folder.split()[0]
        return Quarantine(self.after, self.folder.fill(now), below)


def _failing_files(value: object, info: ValidationInfo) -> FailingFiles | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"after", "move"}:
        raise PydanticCustomError("on_failure", EXPECTED)
    after = whole_number(value["after"])
    if not isinstance(after, int) or isinstance(after, bool) or not 1 <= after <= AFTER_MAXIMUM:
        raise invalid(f"must be a whole number of failures from 1 to {AFTER_MAXIMUM}", "after")
    folder = below("move", lambda: read_template(check_path(value["move"]), info))
    check_local(folder, info, of="upload", key="move")
    check_apart(folder, info, "source", "then", key="move")
    check_found_once(folder, info, key="move")
    return FailingFiles(after, folder)


def _as_written(failing: FailingFiles | None) -> dict[str, int | str] | None:
    return None if failing is None else {"after": failing.after, "move": str(failing.folder)}


FailingFilesField = Annotated[FailingFiles | None, PlainValidator(_failing_files), PlainSerializer(_as_written)]
"""What becomes of files that fail by themselves."""
