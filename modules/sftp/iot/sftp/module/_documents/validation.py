"""pydantic's errors in words for the author of the document: which key is wrong, and what is expected there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from iot.sftp.client._base.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

T = TypeVar("T")

PROBLEMS_SHOWN = 3
KEY_SHOWN = 60  # characters of a key that is quoted in a message

# The words of JSON, in place of pydantic's, which are Python's
EXPECTATIONS = {
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "model_type": "must be an object",
    "string_unicode": "must be text without lone surrogates",
    "tuple_type": "must be a list",
}


@dataclass(frozen=True)
class Section(Generic[T]):
    """One section of the document: its value, or what is wrong with it; neither, if it is missing."""

    value: T | None = None
    error: str | None = None


class Document(BaseModel):
    """A strict model: no unknown keys, no conversion of types."""

    # Input is hidden because a message must never quote a value: it may be a secret, or 100 KiB long.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def explain(error: ValidationError, model: type[Document], *, whole: str = "payload") -> str:
    """Return which keys are wrong and what is expected there, never the value that was found.

    Parameters:
        error: pydantic's.
        model: the model that was expected.
        whole: the name of the document itself.
    """
    problems = error.errors(include_url=False, include_input=False)
    shown = [_sentence(problem, model, whole) for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        shown.append(f"and {len(problems) - PROBLEMS_SHOWN} more")
    return "; ".join(shown)


def invalid(reason: str, *below: str | int) -> PydanticCustomError:
    """Return the error of a field, or of what is at a place below it.

    Parameters:
        reason: continues a sentence that begins with the path of what is wrong.
        below: the keys on the way to that.
    """
    return PydanticCustomError("invalid", "{reason}", {"reason": reason, "below": [str(key) for key in below]})


def invalid_below(error: ValidationError, model: type[Document], *below: str | int) -> PydanticCustomError:
    """Return the error of a field for the first problem of a document that is at a place below it."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return invalid(_expectation(problem, model), *below, *problem["loc"])


def _sentence(problem: ErrorDetails, model: type[Document], whole: str) -> str:
    if not problem["loc"]:
        return f"'{whole}' must be an object whose keys are text"
    path = [*problem["loc"], *problem.get("ctx", {}).get("below", ())]
    key = excerpt(".".join(str(part) for part in path), KEY_SHOWN)
    return f"'{key}' {_expectation(problem, model)}"


def _expectation(problem: ErrorDetails, model: type[Document]) -> str:
    """Return what is wrong, to continue a sentence that begins with the key."""
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] == "extra_forbidden":
        fields = _model_of(model, problem["loc"][:-1]).model_fields
        known = ", ".join(sorted(field.alias or name for name, field in fields.items()))
        return f"is not known here; known are: {known}"
    words = problem["msg"].replace(" after validation", "")
    return EXPECTATIONS.get(problem["type"]) or re.sub(r"^(Input|Keys|Value) should", "must", words)


def _model_of(model: type[Document], place: tuple[int | str, ...]) -> type[Document]:
    """Return the model of what is at a place within a document; as deep as there are models."""
    for key in place:
        found = [field for name, field in model.model_fields.items() if key in (name, field.alias)]
        model = next((inner for field in found for inner in _models_in(field.annotation)), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[Document]]:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
