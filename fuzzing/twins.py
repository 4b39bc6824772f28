"""Desired documents: they are read whatever they hold, and no secret in them is ever repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iot.sftp.module._documents.server import ServerSection
from iot.sftp.module._documents.twin import SECTIONS, TransfersSection, read_desired
from iot.sftp.module._hub.sdk import parse_payload

MARK = "c4n4ry"  # is put into every secret
SECRETS = ("password", "privateKey", "passphrase")
PLACES = ({"file"}, {"env"})  # where a secret is, which is none itself
DEEPEST = 20

WORDS = (
    *(f'"{name}"' for name in (*SECTIONS, "$version", "name", "direction", "source", "dest", "every", "then", "move")),
    *(f'"{name}"' for name in ("days", "between", "at", "from", "to", "Mon-Fri", "22:00", "06:00", "24:00")),
    *(f'"{field.alias or name}"' for name, field in ServerSection.model_fields.items()),
    *(f'"{field.alias or name}"' for name, field in TransfersSection.model_fields.items()),
    *('"file"', '"env"', '"sha256"', '"upload"', '"SHA256:', "null", "true", "NaN", "1e999", '"\\ud800"', "[{}]"),
)


def check(data: bytes) -> None:
    """A document is read: each section is valid, or wrong in words that hold no secret."""
    document = parse_payload(data)
    if not isinstance(document, dict):
        return
    server = document.get("sftp")
    if isinstance(server, dict):
        for key in [key for key in server if key in SECRETS]:
            server[key] = _marked(server[key])
    desired = read_desired(document)
    said: list[Any] = [desired, str(desired), desired.rules]
    for section in (desired.sftp, desired.transfers, desired.log_level, desired.events):
        assert section.value is None or section.error is None
        assert section.error is None or section.error.isprintable()
    if desired.sftp.value is not None:
        said.append(desired.sftp.value.as_settings(Path("known_hosts"), Path("transfers")))
        said.append(json.dumps(desired.sftp.value.as_properties(), allow_nan=False))
    assert MARK not in repr(said)


def _marked(secret: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        return secret
    if isinstance(secret, str):
        return secret + MARK if secret else secret
    if isinstance(secret, list):
        return [_marked(line, depth + 1) for line in secret]
    if isinstance(secret, dict) and secret.keys() not in PLACES:
        return {key + MARK: _marked(value, depth + 1) for key, value in secret.items()}
    return secret
