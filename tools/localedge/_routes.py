"""Where the edge hub sends what modules say: the routes of the deployment, and the store while there is no cloud.

Understood is `FROM source [WHERE condition] INTO $upstream`; conditions are not evaluated, and other modules, which
are not here, are no target. Without a deployment everything goes to the cloud.

Source: "Learn how to deploy modules and establish routes in IoT Edge" in the IoT Edge documentation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

EVERYTHING = ("FROM /messages/* INTO $upstream",)
"""The route of a runtime without a deployment."""

_ROUTE = re.compile(r"\s*FROM\s+(?P<source>\S+)(\s+WHERE\s.*)?\s+INTO\s+(?P<sink>\S+)\s*", re.IGNORECASE | re.DOTALL)


class Routes:
    """The routes of one device."""

    def __init__(self, routes: Sequence[str]) -> None:
        """Take them as they are written; `ValueError` for one that is none."""
        self._sources = [_source(route) for route in routes if _sink(route) == "$upstream"]

    def lead_upstream(self, module: str, output: str | None) -> bool:
        """Say whether a message of a module, to an output or to none, goes to the cloud."""
        path = f"/messages/modules/{module}" + (f"/outputs/{output}" if output else "")
        return any(source.fullmatch(path) for source in self._sources)


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


def _sink(route: str) -> str:
    return _match(route)["sink"].lower()
