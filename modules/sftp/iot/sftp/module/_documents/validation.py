"""pydantic's findings in words for the person who wrote the document: which key, and what is expected there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, PlainValidator
from pydantic_core import PydanticCustomError

from iot.sftp.client._base.text import excerpt

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

PROBLEMS_SHOWN = 3
KEY_MAXIMUM = 60  # characters of a key that is repeated in a message

# In the words of JSON, where pydantic's are Python's
EXPECTATIONS = {
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list",
}


class Document(BaseModel):
    """A model that takes nothing for something else: no unknown keys, no numbers for strings."""

    # Input is hidden because a message must never repeat a value: it may be a secret, or 100 KiB long.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _any_text(value: object) -> str:
    # pydantic's own str refuses lone surrogates, which is how a file name that is not UTF-8 comes back from a listing
    if not isinstance(value, str):
        raise PydanticCustomError("text", "must be a string")
    return value


def _text(value: object) -> str:
    text = _any_text(value)
    if not text:
        raise PydanticCustomError("text", "must not be empty")
    return text


AnyText = Annotated[str, PlainValidator(_any_text)]
Text = Annotated[str, PlainValidator(_text)]


def explain(error: ValidationError, model: type[Document], *, whole: str = "payload") -> str:
    """Say which keys are wrong and what is expected there, never the value that was found.

    Parameters:
        error: what pydantic found.
        model: what was expected.
        whole: the document's own name.
    """
    problems = error.errors(include_url=False, include_input=False)
    shown = [_sentence(problem, model, whole) for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        shown.append(f"and {len(problems) - PROBLEMS_SHOWN} more")
    return "; ".join(shown)


def _sentence(problem: ErrorDetails, model: type[Document], whole: str) -> str:
    if not problem["loc"]:
        return f"'{whole}' must be an object whose keys are text"
    key = excerpt(".".join(str(part) for part in problem["loc"]), KEY_MAXIMUM)
    if problem["type"] == "missing":
        return f"'{key}' is missing"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(field.alias or name for name, field in model.model_fields.items()))
        return f"'{key}' is not known here; known are: {known}"
    expected = EXPECTATIONS.get(problem["type"]) or re.sub(r"^(Input|Keys) should", "must", problem["msg"])
    return f"'{key}' {expected}"
