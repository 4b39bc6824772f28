"""What becomes of files that fail by themselves again and again: the key `on_failure` of a rule."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client import Quarantine
from iot.sftp.module._documents.fields import check_path, read_template
from iot.sftp.module._documents.template import Template

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
    after = value["after"]
    if type(after) is not int or not 1 <= after <= AFTER_MAXIMUM:
        raise PydanticCustomError("on_failure", EXPECTED)
    folder = read_template(check_path(value["move"]), info)
    _check_apart(folder, info)
    return FailingFiles(after, folder)


def _check_apart(folder: Template, info: ValidationInfo) -> None:
    """Refuse a folder from which files would be taken again, or in which they would be replaced."""
    then = info.data.get("then")
    others = {"source": info.data.get("source"), "then": then["move"] if isinstance(then, dict) else None}
    for key, other in others.items():
        if isinstance(other, Template) and _place(other) == _place(folder):
            raise PydanticCustomError("on_failure", f"must name another folder than '{key}'")


def _place(folder: Template) -> str:
    return posixpath.normpath("/".join(map(str, folder.components)))


def _as_written(failing: FailingFiles | None) -> dict[str, int | str] | None:
    return None if failing is None else {"after": failing.after, "move": str(failing.folder)}


FailingFilesField = Annotated[FailingFiles | None, PlainValidator(_failing_files), PlainSerializer(_as_written)]
"""What becomes of files that fail by themselves."""
