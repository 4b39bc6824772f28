"""The schemas of edge agent and edge hub: not ours to ship, and used where they lie beside the project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

_SHOWN = 200


def schema_problems(manifest: dict[str, Any], folder: Path) -> Iterator[str]:
    """Give a line for each thing that the schemas in `folder` object to.

    A schema is used if the manifest has what it is about: a layered deployment has no whole edge agent.
    """
    content = manifest.get("modulesContent", {})
    for file in sorted(folder.glob("*.json")):
        schema = json.loads(file.read_text(encoding="utf-8"))
        subject = {name: content[name] for name in schema["required"] if "properties.desired" in content.get(name, {})}
        if not subject:
            continue
        for error in jsonschema.Draft4Validator(schema).iter_errors(subject):
            place = ".".join(str(part) for part in error.absolute_path)
            yield f"{place}: {error.message[:_SHOWN]} ({file.name})"
