"""The types of fields that several documents have: texts, paths, times, and what becomes of a source."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

PATH_MAXIMUM = 4096  # bytes: PATH_MAX of Linux. A longer text is not a path, and tasks are written to the journal
ID_MAXIMUM = 128  # characters
AGE_MAXIMUM = 366 * 86_400  # seconds


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


def _text(value: object) -> str:
    text = _any_text(value)
    if not text:
        raise PydanticCustomError("text", "must not be empty")
    return text


def _pattern(value: object) -> str:
    text = _any_text(value)
    if len(text.encode("utf-8", "surrogatepass")) > PATH_MAXIMUM:
        raise PydanticCustomError("text", f"must have {PATH_MAXIMUM} bytes at most")
    return text


def _path(value: object) -> str:
    return _pattern(_text(value))


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
            return {"move": _path(folder)}
    raise PydanticCustomError("then", 'must be "keep", "delete" or {"move": "folder"}')


AnyText = Annotated[str, PlainValidator(_any_text)]
"""Any string, also an empty one, or one with lone surrogates."""
Text = Annotated[str, PlainValidator(_text)]
"""A string that is not empty."""
Pattern = Annotated[str, PlainValidator(_pattern)]
"""A string that is not longer than a path."""
Path = Annotated[str, PlainValidator(_path)]
"""A path, local or remote."""
Id = Annotated[str, PlainValidator(_id)]
"""An id that the caller chooses."""
Then = Annotated[str | dict[str, str], PlainValidator(_then)]
"""What becomes of a source that has arrived."""
