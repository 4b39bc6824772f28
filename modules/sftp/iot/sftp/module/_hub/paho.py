"""paho-mqtt's network thread, kept alive: the only file that uses private parts of paho-mqtt, the SDK's MQTT client.

paho-mqtt 1.6 recognises the end of a connection by a `ConnectionError`. A TLS connection that is cut in the middle of a
record raises an `ssl.SSLError`, an unreachable peer another `OSError`. Those end the thread: the SDK still reports a
connection, nothing is sent or received any more, and nobody notices.

And it wakes up each second, to see whether it is to send a ping, or to end. Here it does so every five: pings are due
after 60 s, and a hub waits for 90. What has to be sent wakes it anyway, and here its end does as well.
"""

# mypy: disallow-untyped-calls=False
# ruff: noqa: SLF001
# The two lines above: private parts are this file's purpose, and paho-mqtt has no types for them.

from __future__ import annotations

import functools
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable


PATIENCE = 5.0  # seconds


def survive_broken_connections() -> None:
    """Make every client of this process treat each error of a socket as the end of its connection, and wait longer."""
    changes: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
        "_sock_recv": _with_connection_errors,
        "_sock_send": _with_connection_errors,
        "_thread_main": _patient,
        "loop_stop": _waking,
    }
    for name, change in changes.items():
        function = getattr(Client, name)
        if not hasattr(function, "__wrapped__"):
            setattr(Client, name, change(function))


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


def _patient(main: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(main)
    def run(client: Any) -> None:
        client.loop_forever(timeout=PATIENCE, retry_first_connection=True)

    return run


def _waking(stop: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stop)
    def call(client: Any, *arguments: Any) -> Any:
        client._thread_terminate = client._thread is not None
        with suppress(OSError, AttributeError):  # there is no thread
            client._sockpairW.send(b"0")  # as paho does when there is something to send
        return stop(client, *arguments)

    return call
