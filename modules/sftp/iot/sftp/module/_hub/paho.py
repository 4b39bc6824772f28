"""paho-mqtt's network thread, kept alive: the only file that uses private parts of paho-mqtt, the SDK's MQTT client.

paho-mqtt 1.6 recognises the end of a connection by a `ConnectionError`. A TLS connection that is cut in the middle of a
record raises an `ssl.SSLError`, an unreachable peer another `OSError`. Those end the thread: the SDK still reports a
connection, nothing is sent or received any more, and nobody notices.
"""

# mypy: disallow-untyped-calls=False
# The line above: private parts are this file's purpose, and paho-mqtt has no types for them.

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable


def survive_broken_connections() -> None:
    """Make every client of this process treat each error of a socket as the end of its connection."""
    for name in ("_sock_recv", "_sock_send"):
        function = getattr(Client, name)
        if not hasattr(function, "__wrapped__"):
            setattr(Client, name, _with_connection_errors(function))


def _with_connection_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (BlockingIOError, ConnectionError):
            raise
        except OSError as error:
            raise ConnectionAbortedError(*error.args) from error

    return call
