"""From a template to a manifest: placeholders, names of images, createOptions as strings.

As the Azure IoT Edge tools do it: `${MODULES.sftp}` is the image that `modules/sftp/module.json` names for the
platform, `${MODULES.sftp.arm32v7}` for a platform of its own; every other `${NAME}` or `$NAME` in capitals is an
environment variable; createOptions become a string, which is split at 512 characters into createOptions,
createOptions01 … createOptions07. Unlike them, an unset variable is an error, not left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manifest._errors import ManifestError

OPTIONS_LENGTH = 512
OPTIONS_PARTS = 8

Images = Mapping[str, str]
"""Names of images: `sftp` for the platform, and `sftp.amd64` and so on."""

# "$edgeHub", "$upstream" and "$version" are no placeholders, and are not in capitals
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}|\$([A-Z][A-Z0-9_]*)")
_MODULES = "MODULES."


def expanded(template: Any, images: Images, variables: Mapping[str, str]) -> Any:
    """Return the manifest of a template.

    Raises:
        ManifestError: a placeholder has no value, or createOptions are too long; it names them all.
    """
    content = {key: value for key, value in template.items() if key != "$schema-template"}
    missing = sorted(
        set(_missing(content, {**{f"{_MODULES}{name}": tag for name, tag in images.items()}, **variables}))
    )
    if missing:
        raise ManifestError("\n".join(missing))
    values = {**variables, **{f"{_MODULES}{name}": tag for name, tag in images.items()}}
    return _with_text_options(_replaced(content, values), "")


def images_of(root: Path, platform: str, variables: Mapping[str, str]) -> Images:
    """Return the names of the images that the projects' `modules/*/module.json` describe.

    Raises:
        ManifestError: a file is not as the Azure tools want it, or there is no such platform.
    """
    images: dict[str, str] = {}
    for file in sorted(root.glob("modules/*/module.json")):
        module, name = json.loads(file.read_text(encoding="utf-8")), file.parent.name
        image = module["image"]
        tag = image["tag"]
        if platform not in tag["platforms"]:
            known = ", ".join(tag["platforms"])
            raise ManifestError(f"{file}: there is no platform {platform!r}. PLATFORM is one of {known}.")
        repository = _value_of(image["repository"], variables, file)
        images |= {f"{name}.{other}": f"{repository}:{tag['version']}-{other}" for other in tag["platforms"]}
        images[name] = images[f"{name}.{platform}"]
    return images


def placeholders_in(text: str) -> Iterator[str]:
    """Give the names of the placeholders in a text."""
    for braced, bare in _PLACEHOLDER.findall(text):
        yield braced or bare


def is_placeholder(text: str) -> bool:
    """Say whether a text is one placeholder and nothing else."""
    return _PLACEHOLDER.fullmatch(text) is not None


def _value_of(text: str, variables: Mapping[str, str], file: Path) -> str:
    missing = [name for name in placeholders_in(text) if not variables.get(name)]
    if missing:
        raise ManifestError("\n".join(_in_words(name, f"image.repository of {file}") for name in missing))
    return str(_replaced(text, variables))


def _missing(value: Any, values: Mapping[str, str], path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _missing(inner, values, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _missing(inner, values, f"{path}[{position}]")
    elif isinstance(value, str):
        yield from (_in_words(name, path) for name in placeholders_in(value) if name not in values)


def _in_words(name: str, path: str) -> str:
    if name.startswith(_MODULES):
        return f"{path}: ${{{name}}} is no image: there is no modules/{name.removeprefix(_MODULES)}/module.json"
    return (
        f"{path}: ${{{name}}} has no value. Set the environment variable {name}, or write {name}=… into the file .env"
    )


def _replaced(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    return _PLACEHOLDER.sub(lambda match: values[match.group(1) or match.group(2)], value)


def _with_text_options(value: Any, path: str) -> Any:
    """Replace each object under `createOptions` by its text in parts."""
    if not isinstance(value, dict):
        return value
    result = {key: _with_text_options(inner, f"{path}.{key}".lstrip(".")) for key, inner in value.items()}
    options = value.get("createOptions")
    if not isinstance(options, dict):
        return result
    text = json.dumps(options, separators=(",", ":"), ensure_ascii=False)
    parts = [text[start : start + OPTIONS_LENGTH] for start in range(0, len(text), OPTIONS_LENGTH)]
    if len(parts) > OPTIONS_PARTS:
        raise ManifestError(f"{path}.createOptions: {len(text)} characters; {OPTIONS_LENGTH * OPTIONS_PARTS} fit")
    names = ["createOptions", *(f"createOptions{number:02}" for number in range(1, OPTIONS_PARTS))]
    return {**result, **dict(zip(names, parts, strict=False))}
