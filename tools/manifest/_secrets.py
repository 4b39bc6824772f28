"""Secrets that are written into a template, where everybody who reads the project would read them, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from manifest._expand import is_placeholder

# Names of values that are secret, and values that are so under any name. A public key, and where a key lies, are not.
_SECRET_NAME = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|(private|access|account|api|shared)_?key", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|SharedAccess(Key|Signature)=[^;$]|AccountKey=[^;$]|[?&]sig=[^&$]"
)
_REFERENCES = ({"file"}, {"env"})


def secrets_in(template: Any, path: str = "") -> Iterator[str]:
    """Give a line for each secret in a template: where it is, never what it is."""
    if isinstance(template, dict):
        for key, value in template.items():
            place = f"{path}.{key}" if path else key
            if _SECRET_NAME.search(key) and not _is_harmless(value):
                yield f'{place} is a secret in the file: write "${{NAME}}", or {{"file": "/run/secrets/…"}}'
            else:
                yield from secrets_in(value, place)
    elif isinstance(template, list):
        for position, value in enumerate(template):
            yield from secrets_in(_variable(value), f"{path}[{position}]")
    elif isinstance(template, str) and path.rpartition(".")[2].startswith("createOptions"):
        yield from secrets_in(_options(template), path)
    elif isinstance(template, str) and _SECRET_VALUE.search(template):
        yield f"{path} holds a key: write a placeholder, and give its value by the environment"


def _is_harmless(value: Any) -> bool:
    if isinstance(value, str):
        return not value or is_placeholder(value)
    if isinstance(value, list):
        return all(isinstance(item, str) and is_placeholder(item) for item in value)
    if isinstance(value, dict):
        # {"value": …} is a module's variable
        return value.keys() in _REFERENCES or (value.keys() == {"value"} and _is_harmless(value["value"]))
    return value is None


def _variable(value: Any) -> Any:
    """Take "NAME=value" of createOptions.Env for what it is."""
    if isinstance(value, str) and re.match(r"[A-Za-z_]\w*=", value):
        name, _, content = value.partition("=")
        return {name: content}
    return value


def _options(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
