"""The sections `variables` and `timeZone`: what the author of the document adds to what is known of the device."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._documents.template import BUILT_IN, check_value
from iot.sftp.module._documents.template_parts import TemplateError

VARIABLES_MAXIMUM = 50  # they are reported, in a twin of 32 KB with everything else
VALUE_MAXIMUM = 128  # characters, as many as a device id has
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # a key of a twin holds no `.`, `$`, `#` and spaces
SHOWN = 60  # characters of a name that is quoted in a message


def read_variables(content: Any) -> dict[str, str]:
    """Return the variables by their names.

    Raises:
        ValueError: they cannot be used; the message says which one, and why.
    """
    if not isinstance(content, dict):
        raise ValueError("'variables' must be an object of strings")  # noqa: TRY004 - the caller handles one kind
    if len(content) > VARIABLES_MAXIMUM:
        raise ValueError(f"'variables' holds more than {VARIABLES_MAXIMUM} variables")
    problems = [
        f"'{excerpt(name, SHOWN)}' {problem}" for name, value in content.items() if (problem := _problem(name, value))
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return dict(content)


def _problem(name: str, value: object) -> str | None:
    if not NAME.fullmatch(name):
        return "must have a name of 1 to 64 letters, digits, hyphens and underscores"
    if name in BUILT_IN:
        return "has the name of a placeholder that is always there: choose another one"
    if not isinstance(value, str):
        return "must be a string, in quotes"
    if len(value) > VALUE_MAXIMUM:
        return f"must have {VALUE_MAXIMUM} characters at most"
    try:
        check_value(value)
    except TemplateError as error:
        return str(error)
    return None


def read_time_zone(content: Any) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: there is none of this name.
    """
    expected = "must be the IANA name of a time zone such as 'Europe/Berlin'"
    if not isinstance(content, str):
        raise ValueError(f"'timeZone' {expected}")  # noqa: TRY004 - the caller handles one kind
    try:
        return ZoneInfo(content)
    except (KeyError, ValueError, OSError):  # whatever a file of this name holds, or a directory
        raise ValueError(f"'timeZone' {expected}, not '{excerpt(content, SHOWN)}'") from None
