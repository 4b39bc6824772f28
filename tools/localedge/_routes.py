"""Where the edge hub sends what modules say: the routes of the deployment.

Understood is `FROM source [WHERE condition] INTO $upstream`, and `INTO BrokeredEndpoint("/modules/NAME/inputs/INPUT")`;
conditions are not evaluated. Without a deployment everything goes to the cloud.

Source: "Learn how to deploy modules and establish routes in IoT Edge" in the IoT Edge documentation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

EVERYTHING = ("FROM /messages/* INTO $upstream",)
"""The route of a runtime without a deployment."""

_ROUTE = re.compile(r"\s*FROM\s+(?P<source>\S+)(\s+WHERE\s.*)?\s+INTO\s+(?P<sink>\S.*?)\s*", re.IGNORECASE | re.DOTALL)
_ENDPOINT = re.compile(
    r'BrokeredEndpoint\(\s*"/modules/(?P<module>[^/"]+)/inputs/(?P<input>[^/"]+)"\s*\)', re.IGNORECASE
)


class Target(NamedTuple):
    """An input of a module."""

    module: str
    input: str


class Routes:
    """The routes of one device."""

    def __init__(self, routes: Sequence[str]) -> None:
        """Take them as they are written; `ValueError` for one that is none."""
        read = [(_source(route), _sink(route)) for route in routes]
        self._upstream = [source for source, target in read if target is None]
        self._inputs = [(source, target) for source, target in read if target is not None]

    @property
    def inputs(self) -> list[Target]:
        """The inputs of modules that they lead to."""
        return [target for _, target in self._inputs]

    def take(self, module: str, output: str | None) -> bool:
        """Say whether a message of a module goes anywhere."""
        return self.lead_upstream(module, output) or bool(self.targets(module, output))

    def lead_upstream(self, module: str, output: str | None) -> bool:
        """Say whether a message of a module, to an output or to none, goes to the cloud."""
        return any(source.fullmatch(_path(module, output)) for source in self._upstream)

    def targets(self, module: str, output: str | None) -> list[Target]:
        """Return the inputs of modules that a message of a module goes to, each once."""
        found = (target for source, target in self._inputs if source.fullmatch(_path(module, output)))
        return list(dict.fromkeys(found))


def _path(module: str, output: str | None) -> str:
    return f"/messages/modules/{module}" + (f"/outputs/{output}" if output else "")


def _match(route: str) -> re.Match[str]:
    match = _ROUTE.fullmatch(route)
    if match is None:
        raise ValueError(f"{route!r} is no route: FROM source INTO sink")
    return match


def _source(route: str) -> re.Pattern[str]:
    # `*` is for one part in the middle, and for all that follows at the end
    source = _match(route)["source"]
    tail = "(/.*)?" if source.endswith("/*") else ""
    return re.compile(re.escape(source.removesuffix("/*")).replace(r"\*", "[^/]*") + tail)


def _sink(route: str) -> Target | None:
    """Return the input that a route leads to; `None` for the cloud."""
    sink = _match(route)["sink"]
    if sink.lower() == "$upstream":
        return None
    endpoint = _ENDPOINT.fullmatch(sink)
    if endpoint is None:
        raise ValueError(f'{route!r} leads neither to $upstream nor to BrokeredEndpoint("/modules/NAME/inputs/INPUT")')
    return Target(endpoint["module"], endpoint["input"])
