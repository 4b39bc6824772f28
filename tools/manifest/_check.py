"""The project's own checks of a manifest: what the edge agent and the module would refuse, or ignore without a word."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from iot.sftp.module._documents.template import BUILT_IN, Placeholders
from iot.sftp.module._documents.twin import read_desired
from localedge import LocalEdgeError
from localedge._twin import check_document
from manifest._docker import CREATE_OPTIONS, HOST_CONFIG
from manifest._expand import placeholders_in
from manifest._routes import route_problems

_DESIRED = "properties.desired"
_WORD = re.compile(r"\{([A-Za-z0-9_-]{1,64})\}")  # a placeholder of a path
_AGENT = {"schemaVersion": "1.1", "runtime": {}, "systemModules": {}, "modules": {}}
_HUB_VERSION = "1.2"
_SYSTEM_MODULE = {"type", "settings", "env", "imagePullPolicy", "status", "restartPolicy", "startupOrder", "version"}
_REQUIRED = ("type", "status", "restartPolicy", "settings")
_CHOICES = {
    "type": ("docker",),
    "status": ("running", "stopped"),
    "restartPolicy": ("always", "never", "on-failure", "on-unhealthy"),
    "imagePullPolicy": ("on-create", "never"),
}
_ROUTE = re.compile(
    r"FROM\s+/\S+(\s+WHERE\s+.+)?\s+INTO\s+(\$upstream|BrokeredEndpoint\(\s*\"/\S+\"\s*\))", re.IGNORECASE
)
_VARIABLES = {"SFTP_LOCAL_ROOT", "SFTP_STATE_DIR", "SFTP_METRICS_PORT", "LOG_LEVEL"}
_PRIORITIES = range(10)

Problems = Iterator[str]


def problems_of(manifest: Mapping[str, Any]) -> Problems:
    """Give a line for everything that is wrong with a manifest, each with its place."""
    yield from _unknown(manifest, {"modulesContent", "content", "$schema-version"}, "")
    content = manifest.get("modulesContent")
    if not isinstance(content, dict):
        yield "modulesContent is missing: this is no deployment"
        return
    yield from _left_over(content, "modulesContent")
    deployed: set[str] = set()
    for name, twin in content.items():
        for key, value in twin.items() if isinstance(twin, dict) else ():
            place = f"{name}.{key}"
            if key != _DESIRED and not key.startswith(f"{_DESIRED}."):
                yield f"{place}: unknown key; known is {_DESIRED}, and in a layered deployment {_DESIRED}.SECTION"
            elif not isinstance(value, dict):
                yield f"{place} must be a JSON object"
            elif name == "$edgeAgent":
                deployed |= _names(key, value)
                yield from _agent(key, value, place)
            elif name == "$edgeHub":
                yield from _hub(key, value, place)
            else:
                yield from _module_twin(key, value, place)
    yield from _sections(content.get("sftp"))
    yield from route_problems(content)
    for name in content:
        if not name.startswith("$") and name not in deployed:
            yield f"{name}: has desired properties, and $edgeAgent deploys no module of this name"


def _names(key: str, value: Mapping[str, Any]) -> set[str]:
    if key == _DESIRED:
        return set(value.get("modules", {}))
    return {key.removeprefix(f"{_DESIRED}.modules.")}


def _agent(key: str, value: Mapping[str, Any], place: str) -> Problems:
    if key.startswith(f"{_DESIRED}.modules."):
        yield from _module(key.removeprefix(f"{_DESIRED}.modules."), value, place)
        return
    if key != _DESIRED:
        yield f"{place}: a layered deployment adds {_DESIRED}.modules.NAME, and changes nothing else of the agent"
        return
    yield from _unknown(value, _AGENT, place)
    yield from (f"{place}.{name} is missing" for name in _AGENT if name not in value)
    if value.get("schemaVersion") != _AGENT["schemaVersion"]:
        yield f"{place}.schemaVersion must be {_AGENT['schemaVersion']!r}: startupOrder needs it"
    for name, module in value.get("systemModules", {}).items():
        if name not in {"edgeAgent", "edgeHub"}:
            yield f"{place}.systemModules.{name}: unknown key; known are edgeAgent and edgeHub"
        yield from _module(name, module, f"{place}.systemModules.{name}")
    for name, module in value.get("modules", {}).items():
        yield from _module(name, module, f"{place}.modules.{name}")


def _module(name: str, module: Mapping[str, Any], place: str) -> Problems:
    yield from _unknown(module, _SYSTEM_MODULE, place)
    required = ("type", "settings") if name == "edgeAgent" else _REQUIRED
    yield from (f"{place}.{key} is missing" for key in required if key not in module)
    for key, choices in _CHOICES.items():
        if key in module and module[key] not in choices:
            yield f"{place}.{key} is {module[key]!r}, not one of {', '.join(choices)}"
    order = module.get("startupOrder", 0)
    if type(order) is not int or order < 0:
        yield f"{place}.startupOrder must be a whole number from 0"
    yield from _variables(name, module.get("env", {}), f"{place}.env")
    yield from _settings(module.get("settings", {}), f"{place}.settings")


def _variables(module: str, variables: Mapping[str, Any], place: str) -> Problems:
    for name, entry in variables.items():
        if not isinstance(entry, dict) or entry.keys() != {"value"} or isinstance(entry["value"], dict | list):
            yield f'{place}.{name} must be {{"value": …}} with a string, a number, true or false'
        if module == "sftp" and name.startswith("SFTP_") and name not in _VARIABLES and name not in _secret_names(name):
            yield f"{place}.{name}: unknown key; known are {', '.join(sorted(_VARIABLES))}"


def _secret_names(name: str) -> set[str]:
    """Let variables be that the twin's {"env": "NAME"} may point to."""
    return {name} if re.search(r"PASS|SECRET|KEY", name) else set()


def _settings(settings: Mapping[str, Any], place: str) -> Problems:
    if not re.fullmatch(r"[a-z0-9][\w.:/-]*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", str(settings.get("image", ""))):
        yield f"{place}.image is no name of an image"
    names = ["createOptions", *(f"createOptions{number:02}" for number in range(1, 8))]
    yield from _unknown(settings, {"image", *names}, place)
    present = [name for name in names if name in settings]
    if present != names[: len(present)]:
        yield f"{place}: the parts of createOptions are {', '.join(present)}, and one between them is missing"
    text = "".join(str(settings[name]) for name in present)
    if not text:
        return
    try:
        options = json.loads(text)
    except ValueError as error:
        yield f"{place}.createOptions is not JSON: {error}"
        return
    yield from _create_options(options, f"{place}.createOptions")


def _create_options(options: Mapping[str, Any], place: str) -> Problems:
    # The container engine ignores what it does not know: a misspelt ReadonlyRootfs would protect nothing.
    yield from _unknown(options, CREATE_OPTIONS, place)
    host = options.get("HostConfig", {})
    yield from _unknown(host, HOST_CONFIG, f"{place}.HostConfig")
    for bind in host.get("Binds", []):
        if not re.fullmatch(r"(/[^:]*|[\w.-]+):/[^:]+(:[\w,]+)?", bind):
            yield f"{place}.HostConfig.Binds: {bind!r} is not SOURCE:/PLACE or SOURCE:/PLACE:ro"


def _hub(key: str, value: Mapping[str, Any], place: str) -> Problems:
    if key == _DESIRED:
        yield from _unknown(value, {"schemaVersion", "routes", "storeAndForwardConfiguration", "mqttBroker"}, place)
        if value.get("schemaVersion") != _HUB_VERSION:
            yield f"{place}.schemaVersion must be {_HUB_VERSION!r}: priorities of routes need it"
        if "timeToLiveSecs" not in value.get("storeAndForwardConfiguration", {}):
            yield f"{place}.storeAndForwardConfiguration.timeToLiveSecs is missing"
        routes = value.get("routes", {})
    elif key == f"{_DESIRED}.routes":
        routes = value
    elif key.startswith(f"{_DESIRED}.routes."):
        routes = {key.removeprefix(f"{_DESIRED}.routes."): value}
    else:
        yield f"{place}: a layered deployment adds {_DESIRED}.routes.NAME, and changes nothing else of the hub"
        return
    for name, route in routes.items():
        yield from _route(route if isinstance(route, dict) else {"route": route}, f"{place}.{name}")


def _route(route: Mapping[str, Any], place: str) -> Problems:
    yield from _unknown(route, {"route", "priority", "timeToLiveSecs"}, place)
    if not _ROUTE.fullmatch(str(route.get("route", ""))):
        yield f'{place}.route is not FROM /… [WHERE …] INTO $upstream or BrokeredEndpoint("/…")'
    if route.get("priority", 0) not in _PRIORITIES:
        yield f"{place}.priority must be 0 (first) to 9"
    seconds = route.get("timeToLiveSecs", 0)
    if type(seconds) is not int or seconds < 0:
        yield f"{place}.timeToLiveSecs must be a whole number from 0"


def _module_twin(key: str, value: Mapping[str, Any], place: str) -> Problems:
    try:
        check_document(_document(key, value), place)
    except LocalEdgeError as error:
        yield str(error)


def _document(key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the desired properties that a key of a deployment sets, which may name a part of them."""
    desired: dict[str, Any] = dict(value)
    for part in reversed(key.removeprefix(_DESIRED).lstrip(".").split(".")):
        desired = {part: desired} if part else desired
    return desired


def _sections(twin: Any) -> Problems:
    """Read the module's desired properties as it does: what it would answer with 400 in its reported properties."""
    twin = twin if isinstance(twin, dict) else {}
    parts = {key: value for key, value in twin.items() if key.startswith(_DESIRED) and isinstance(value, dict)}
    # Those of a layer above may not be here: each word in braces may be a variable of it
    words = _WORD.findall(json.dumps(parts)) if _DESIRED not in parts else []
    variables = dict.fromkeys((word for word in words if word not in BUILT_IN), "value")
    for key, value in parts.items():
        given = _document(key, value).get("variables")
        if isinstance(given, dict):
            variables |= {name: text for name, text in given.items() if isinstance(text, str)}
    some_device = Placeholders("device", "sftp", "hub", variables)  # a manifest is for many: any value does
    for key, value in parts.items():
        document = _document(key, value)
        read = read_desired({"variables": variables, **document, "$version": 1}, some_device)
        for section, content in vars(read).items():
            if getattr(content, "error", None):
                yield f"sftp.{key}: {section}: {content.error}"
            for name, words in (getattr(content, "errors", None) or {}).items():
                yield f"sftp.{key}: {section}: {name}: {words}"
        for section in read.unknown:
            yield f"sftp.{key}: {section}: unknown section; docs/twin.md has the known ones"


def _unknown(value: Any, known: Collection[str], place: str) -> Problems:
    if not isinstance(value, Mapping):
        yield f"{place} must be a JSON object"
        return
    for key in value:
        if key not in known:
            yield f"{place}.{key}: unknown key".lstrip(".")


def _left_over(value: Any, place: str) -> Problems:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _left_over(inner, f"{place}.{key}")
    elif isinstance(value, str) and "${" in value:
        # A value of the environment that is itself written like a placeholder
        yield from (f"{place}: ${{{name}}} is left over" for name in placeholders_in(value))
