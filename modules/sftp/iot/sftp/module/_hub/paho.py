"""paho-mqtt's network thread, kept alive: the one place that reaches into its private parts.

paho-mqtt 1.6 knows the end of a connection by a `ConnectionError`. TLS that is cut off in its middle is told as an
`ssl.SSLError`, a peer that is out of reach as another `OSError`. Those leave the thread, and end it: the SDK still says
that it is connected, nothing is sent or received any more, and nobody notices.
"""

# mypy: disallow-untyped-calls=False
# The line above: private parts are this file's purpose, and paho-mqtt gives them no types.

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable


def survive_broken_connections() -> None:
    """Have every client of this process take whatever a socket fails with for the end of its connection."""
    for name in ("_sock_recv", "_sock_send"):
        function = getattr(Client, name)
        if not hasattr(function, "__wrapped__"):
            setattr(Client, name, _ending(function))


def _ending(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (BlockingIOError, ConnectionError):
            raise
        except OSError as error:
            raise ConnectionAbortedError(*error.args) from error

    return call
