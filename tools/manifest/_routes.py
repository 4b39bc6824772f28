"""Whether routes, modules and the section `events` of the module fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from iot.sftp.module._documents.twin import EventsSection, read_desired
from iot.sftp.module._methods.message_calls import INPUT
from iot.sftp.module._work.outgoing import ANSWERS, FILES, OUTPUTS, TASKS
from localedge._routes import Routes

_DESIRED = "properties.desired"
_MODULE = "sftp"
_SOURCE = re.compile(r"/messages/modules/(?P<module>[^/*]+)(/outputs/(?P<output>[^/*]+))?(/.*)?")


def route_problems(content: Mapping[str, Any]) -> Iterator[str]:
    """Give a line for each route that leads from or to nothing, and for each message that no route takes.

    Parameters:
        content: the `modulesContent` of a manifest. Of a layered deployment, modules and routes may be in other layers:
            only the names of this module's own inputs and outputs are looked at.
    """
    written = _routes(content)
    routes: dict[str, Routes] = {}
    for place, route in written.items():
        try:
            routes[place] = Routes([route])
        except ValueError:
            if "BrokeredEndpoint" in route:
                yield f'{place}.route must lead INTO BrokeredEndpoint("/modules/NAME/inputs/INPUT")'
    deployed = _modules(content)
    for place, read in routes.items():
        source = _SOURCE.fullmatch(written[place].split()[1])
        ends = [(target.module, "input", target.input) for target in read.inputs]
        ends += [] if source is None else [(source["module"], "output", source["output"])]
        for module, kind, name in ends:
            known = (INPUT,) if kind == "input" else OUTPUTS
            if deployed is not None and module not in deployed:
                yield f"{place}: there is no module {module!r}"
            elif module == _MODULE and name not in {None, *known}:
                yield f"{place}: the module {_MODULE} has no {kind} {name!r}; it has {', '.join(known)}"
    if deployed is not None and _MODULE in deployed:
        yield from _untaken(content, list(routes.values()))


def _untaken(content: Mapping[str, Any], routes: list[Routes]) -> Iterator[str]:
    """Give a line for each output of the module that has messages, and no route that takes them."""
    desired = content.get(_MODULE, {}).get(_DESIRED, {})
    events = read_desired({"events": desired.get("events"), "$version": 1}).events.value or EventsSection()
    has_calls = any(target.module == _MODULE for route in routes for target in route.inputs)
    reasons = {
        TASKS: "events are on" if events.tasks else "",
        FILES: "events.files is on" if events.files else "",
        ANSWERS: f"a route leads to its input {INPUT}" if has_calls else "",
    }
    for output, reason in reasons.items():
        if reason and not any(route.take(_MODULE, output) for route in routes):
            yield f"$edgeHub: {reason}, and no route takes /messages/modules/{_MODULE}/outputs/{output}"


def _routes(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the routes by their places."""
    found: dict[str, str] = {}
    for key, value in content.get("$edgeHub", {}).items():
        routes = value
        if key == _DESIRED:
            key, routes = f"{_DESIRED}.routes", value.get("routes", {})  # noqa: PLW2901 - one place for both forms
        elif key.startswith(f"{_DESIRED}.routes."):
            routes = {key.removeprefix(f"{_DESIRED}.routes."): value}
        place = f"$edgeHub.{key if key.endswith('.routes') else _DESIRED + '.routes'}"
        for name, route in routes.items() if isinstance(routes, dict) else ():
            text = route.get("route", "") if isinstance(route, dict) else route
            found[f"{place}.{name}"] = str(text)
    return found


def _modules(content: Mapping[str, Any]) -> set[str] | None:
    """Return the modules of a whole deployment; `None` for a layered one."""
    agent = content.get("$edgeAgent", {}).get(_DESIRED)
    return None if agent is None else set(agent.get("modules", {}))
