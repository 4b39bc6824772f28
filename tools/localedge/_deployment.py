"""Reading a deployment template: what an edge agent would start a module with.

Understood are a device's whole deployment, and a layered one, with keys such as `properties.desired.modules.sftp` and
`properties.desired.sftp`. `${NAME}` in the values of the module's environment and desired properties is
replaced; elsewhere, as in the image's name, it does not matter here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localedge._errors import DeploymentError
from localedge._routes import EVERYTHING, Routes

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_DESIRED = "properties.desired"
_RESTART_POLICIES = ("always", "never", "on-failure", "on-unhealthy")


@dataclass(frozen=True)
class ModuleDeployment:
    """What a deployment says about one module."""

    environment: dict[str, str]
    desired: dict[str, Any]
    restart_policy: str
    routes: tuple[str, ...] = EVERYTHING


def read_deployment(template: Path, module: str, values: Mapping[str, str]) -> ModuleDeployment:
    """Read what `template` says about `module`, with the placeholders replaced from `values`.

    Raises `DeploymentError` if the file cannot be read, does not deploy the module, or has a placeholder without a
    value; the message names it.
    """
    content = _modules_content(template)
    agent = _desired(content, "$edgeAgent", template)
    settings = _get(_get(agent, "modules"), module)
    if not settings:
        known = ", ".join(sorted(_get(agent, "modules"))) or "none"
        raise DeploymentError(f"{template} deploys no module {module!r}; the modules in it: {known}.")
    policy = settings.get("restartPolicy", "always")
    if policy not in _RESTART_POLICIES:
        raise DeploymentError(f"{template}: restartPolicy is {policy!r}, not one of {', '.join(_RESTART_POLICIES)}.")
    expand = _Placeholders(template, values)
    return ModuleDeployment(
        environment=expand(_environment(settings, template)),
        desired=expand(_desired(content, module, template)),
        restart_policy=policy,
        routes=_routes(content, template),
    )


def _modules_content(template: Path) -> dict[str, Any]:
    try:
        document = json.loads(template.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeploymentError(f"The deployment template {template} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DeploymentError(f"The deployment template {template} is not JSON: {error}.") from error
    # A deployment as the portal stores it has its content one level down.
    content = _get(_get(document, "content"), "modulesContent") or _get(document, "modulesContent")
    if not content:
        raise DeploymentError(f"{template} is no deployment: it has no modulesContent.")
    return content


def _desired(content: dict[str, Any], module: str, template: Path) -> dict[str, Any]:
    """Put the desired properties together: the whole, and the sections that a layered deployment names by a path."""
    desired: dict[str, Any] = {}
    for key, value in sorted(_get(content, module).items()):
        if not isinstance(value, dict):
            raise DeploymentError(f"{template}: {module} {key} must be a JSON object.")
        place = desired
        for name in key.removeprefix(_DESIRED).lstrip(".").split("."):
            place = place.setdefault(name, {}) if name else place
        place.update(value)
    return desired


def _routes(content: dict[str, Any], template: Path) -> tuple[str, ...]:
    """Return the edge hub's routes; each is a string, or an object that holds one."""
    if "$edgeHub" not in content:
        return EVERYTHING  # a layered deployment, which leaves them as they are
    routes = _get(_desired(content, "$edgeHub", template), "routes").values()
    written = tuple(str(route["route"] if isinstance(route, dict) and "route" in route else route) for route in routes)
    try:
        Routes(written)
    except ValueError as error:
        raise DeploymentError(f"{template}: {error}.") from error
    return written


def _environment(settings: dict[str, Any], template: Path) -> dict[str, str]:
    """Return the variables of createOptions (`Env`) and of the module's `env`, which wins."""
    options = _create_options(settings, template)
    environment = dict(str(item).partition("=")[::2] for item in options.get("Env") or [])
    for name, entry in _get(settings, "env").items():
        environment[name] = str(entry["value"] if isinstance(entry, dict) and "value" in entry else entry)
    return environment


def _create_options(settings: dict[str, Any], template: Path) -> dict[str, Any]:
    """Return createOptions: an object in a template, a string in a manifest, split if it is over 512 characters."""
    parts = _get(settings, "settings")
    options = parts.get("createOptions") or {}
    if isinstance(options, dict):
        return options
    text = "".join([options, *(parts[name] for name in sorted(parts) if re.fullmatch(r"createOptions\d\d", name))])
    try:
        return _get({"options": json.loads(text)}, "options")
    except ValueError as error:
        raise DeploymentError(f"{template}: createOptions are not JSON: {error}.") from error


def _get(document: object, key: str) -> dict[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}


class _Placeholders:
    """Replaces `${NAME}` in every string of a JSON value."""

    def __init__(self, template: Path, values: Mapping[str, str]) -> None:
        self._template = template
        self._values = values

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self(inner) for inner in value]
        return _PLACEHOLDER.sub(self._value, value) if isinstance(value, str) else value

    def _value(self, match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in self._values:
            raise DeploymentError(
                f"{self._template} needs a value for ${{{name}}}: set the environment variable {name}."
            )
        return self._values[name]
