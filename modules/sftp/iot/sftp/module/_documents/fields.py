"""The types of fields that several documents have: texts, paths, times, and what becomes of a source."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.module._documents.template import Placeholders, Template, TemplateKind
from iot.sftp.module._documents.template_parts import TemplateError
from iot.sftp.module._documents.validation import invalid

PATH_MAXIMUM = 4096  # bytes: PATH_MAX of Linux. A longer text is not a path, and tasks are written to the journal
HAS_DOTS = "must not contain '..': a local path is written from the local root"
ID_MAXIMUM = 128  # characters
AGE_MAXIMUM = 366 * 86_400  # seconds

T = TypeVar("T")


@dataclass(frozen=True)
class TemplateContext:
    """What fields with placeholders are read with: the context of pydantic's validation.

    Attributes:
        placeholders: the values on this device.
        server: the one that the document is about, unless it names one itself.
    """

    placeholders: Placeholders = field(default_factory=Placeholders)
    server: str = ""


def whole_number(value: object) -> object:
    """Return a number that JSON writes as `1e6` or `5.0` as the whole number that it is; else what was given."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_seconds(value: object, lowest: float, highest: float) -> float:
    """Return a number of seconds within bounds, for a validator."""
    # Compared before the conversion to float: an integer may be too large for one, and NaN fails any comparison
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or not lowest <= number <= highest:
        raise PydanticCustomError("seconds", f"must be a number of seconds from {lowest} to {highest}")
    return float(number)


def seconds(lowest: int, highest: int) -> PlainValidator:
    """Return the validator of a number of seconds within bounds."""
    return PlainValidator(lambda value: check_seconds(value, lowest, highest))


def _any_text(value: object) -> str:
    # pydantic's own str refuses lone surrogates, which is how a listing returns a file name that is not UTF-8
    if not isinstance(value, str):
        raise PydanticCustomError("text", "must be a string")
    return value


def check_text(value: object) -> str:
    """Return a string that is not empty, for a validator."""
    text = _any_text(value)
    if not text:
        raise PydanticCustomError("text", "must not be empty")
    return text


def _pattern(value: object) -> str:
    text = _any_text(value)
    if len(text.encode("utf-8", "surrogatepass")) > PATH_MAXIMUM:
        raise PydanticCustomError("text", f"must have {PATH_MAXIMUM} bytes at most")
    return text


def check_path(value: object) -> str:
    """Return a string that may be a path, for a validator."""
    return _pattern(check_text(value))


def _id(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= ID_MAXIMUM or not value.isprintable():
        raise PydanticCustomError("id", f"must be a string of 1 to {ID_MAXIMUM} printable characters")
    return value


def _then(value: object) -> str | dict[str, str]:
    if value in ("keep", "delete"):
        return str(value)
    if isinstance(value, dict) and value.keys() == {"move"}:
        folder = value["move"]
        if isinstance(folder, str) and folder:
            return {"move": below("move", lambda: check_path(folder))}
    raise PydanticCustomError("then", 'must be "keep", "delete" or {"move": "folder"}')


def _then_of_request(value: object, info: ValidationInfo) -> str | dict[str, str]:
    checked = _then(value)
    if isinstance(checked, dict):
        check_apart(checked["move"], info, "source", key="move")
    return checked


def template(check: Callable[[object], str], kind: TemplateKind = TemplateKind.DEVICE) -> PlainValidator:
    """Return the validator of a text with placeholders.

    A field `server` in front of it says which one `{server}` stands for.

    Parameters:
        check: checks the text itself.
        kind: which words it may hold.
    """
    return PlainValidator(lambda value, info: read_template(check(value), info, kind))


def then_template() -> PlainValidator:
    """Return the validator of `Then` with placeholders in its folder."""

    def check(value: object, info: ValidationInfo) -> str | dict[str, Template]:
        checked = _then(value)
        if isinstance(checked, str):
            return checked
        folder = below("move", lambda: read_template(checked["move"], info))
        check_local(folder, info, of="upload", key="move")
        check_apart(folder, info, "source", key="move")
        check_found_once(folder, info, key="move")
        return {"move": folder}

    return PlainValidator(check)


def below(key: str, read: Callable[[], T]) -> T:
    """Return what a function reads from a key of a field, which is named in its error."""
    try:
        return read()
    except PydanticCustomError as error:
        raise invalid(error.message(), key) from None


def check_apart(folder: str | Template, info: ValidationInfo, *others: str, key: str) -> None:
    """Refuse a folder that is the same one as another field's: from there, files would be taken or replaced again.

    Parameters:
        folder: the one that is checked.
        info: the validation, with the fields in front of this one.
        others: their names.
        key: of the folder, within its field.
    """
    for name in others:
        other = info.data.get(name)
        if name == "then":  # as a text it is what becomes of files, and no folder of that name
            other = other["move"] if isinstance(other, Mapping) else None
        if isinstance(other, str | Template) and _place(other) == _place(folder):
            raise invalid(f"must be another folder than '{name}'", key)


def check_name(name: Template) -> None:
    """Refuse a name that only our temporary files have: it would be hidden from listings, and cleaned up."""
    if "".join(map(str, name.components)).startswith(TEMPORARY_PREFIX):
        raise invalid(f"must not begin with '{TEMPORARY_PREFIX}': temporary files are called so")


def check_found_once(folder: Template, info: ValidationInfo, *, key: str) -> None:
    """Refuse a folder of another name each day inside of a recursive source: its files would be found again."""
    source = info.data.get("source")
    if not info.data.get("recursive") or folder.is_fixed or not isinstance(source, Template):
        return
    if _place(folder.split()[0]) == _place(source):
        raise invalid("has a date directly in 'source', whose folders are taken too: add a folder in front of it", key)


def check_local(folder: Template, info: ValidationInfo, *, of: str, key: str) -> None:
    """Refuse `..` in a folder that is a local one of a rule in the direction `of`: each file would fail for it."""
    if info.data.get("direction") == of and any(str(component) == ".." for component in folder.components):
        raise invalid(HAS_DOTS, key)


def _place(folder: str | Template) -> str:
    return posixpath.normpath(folder if isinstance(folder, str) else "/".join(map(str, folder.components)))


def read_template(text: str, info: ValidationInfo, kind: TemplateKind = TemplateKind.DEVICE) -> Template:
    """Return a text with placeholders as a template, for a validator."""
    if "\0" in text:
        raise invalid("must not contain a NUL character")
    context = info.context if isinstance(info.context, TemplateContext) else TemplateContext()
    server = info.data.get("server") or context.server
    try:
        return Template.parse(text, context.placeholders, server=server, kind=kind)
    except TemplateError as error:
        raise PydanticCustomError("template", "{reason}", {"reason": str(error)}) from None


def as_written(value: str | Template | Mapping[str, Template]) -> str | dict[str, str]:
    """Return a field with templates as its author wrote it."""
    if isinstance(value, Mapping):
        return {key: str(template) for key, template in value.items()}
    return str(value)


WholeNumber = BeforeValidator(whole_number)
"""Takes a whole number that is written with a point or an exponent."""
AnyText = Annotated[str, PlainValidator(_any_text)]
"""Any string, also an empty one, or one with lone surrogates."""
Text = Annotated[str, PlainValidator(check_text)]
"""A string that is not empty."""
Pattern = Annotated[str, PlainValidator(_pattern)]
"""A string that is not longer than a path."""
Path = Annotated[str, PlainValidator(check_path)]
"""A path, local or remote."""
Id = Annotated[str, PlainValidator(_id)]
"""An id that the caller chooses."""
AsWritten = PlainSerializer(as_written)
"""Dumps a template as its author wrote it."""
Then = Annotated[str | dict[str, str], PlainValidator(_then_of_request)]
"""What becomes of a source that has arrived."""
