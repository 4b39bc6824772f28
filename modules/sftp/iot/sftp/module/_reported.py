"""Reported properties: only differences, at most one update in five seconds, within the twin's limits."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from iot.sftp.module._logging import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Properties = dict[str, Any]

INTERVAL = 5.0  # seconds between two updates
GATHERING = 0.5  # seconds after a change: a configuration and what came of it are sent together
STRING_MAXIMUM = 4096  # bytes of a string in a twin: IoT Hub's limit

_log = logging.getLogger(__name__)


class Reporter:
    """Brings the hub's reported properties to what was last set, as soon as it may.

    It needs to know what the hub has before it sends the first difference, and again whenever it cannot tell any
    more whether an update arrived: `rebase` tells it.
    """

    def __init__(
        self,
        send: Callable[[Properties], Awaitable[None]],
        on_doubt: Callable[[], None],
        *,
        interval: float = INTERVAL,
        gathering: float = GATHERING,
    ) -> None:
        """Take the means.

        Parameters:
            send: sends a merge patch (RFC 7396); raises an exception if it cannot tell that the hub has it.
            on_doubt: asked to bring about a `rebase`.
            interval: seconds between two updates.
            gathering: seconds between a change and its update, for what follows from it.
        """
        self._send = send
        self._on_doubt = on_doubt
        self._interval = interval
        self._gathering = gathering
        self._wanted: Properties = {}
        self._known: Properties | None = None
        self._changed = asyncio.Event()

    def set(self, section: str, value: Mapping[str, Any] | None) -> None:
        """Have a section reported like this; `None` removes it."""
        if value is None:
            self._wanted.pop(section, None)
        else:
            self._wanted[section] = _fitting(value)
        self._changed.set()

    def rebase(self, reported: Mapping[str, Any]) -> None:
        """Take what the hub has, unless it is known already."""
        if self._known is None:
            self._known = {key: value for key, value in reported.items() if not key.startswith("$")}
            self._changed.set()

    def doubt(self) -> None:
        """Forget what the hub has: it may have another memory after a reconnect."""
        self._known = None

    async def run(self) -> None:
        """Send updates for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._gathering)
            self._changed.clear()
            if self._known is None:
                continue  # `rebase` sets the event again
            patch = difference(self._known, self._wanted)
            if patch:
                started = time.monotonic()
                await self._update(self._known, patch)
                await asyncio.sleep(max(0.0, started + self._interval - time.monotonic()))

    async def _update(self, known: Properties, patch: Properties) -> None:
        try:
            await self._send(patch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the same follows: ask what the hub has, try again
            _log.warning("the reported properties may not have arrived, they are sent again: %r", error)
            self._known = None
            self._on_doubt()
        else:
            if self._known is known:
                self._known = merged(known, patch)
                _log.debug("reported: %s", patch)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Properties:
    """Return the merge patch (RFC 7396) that makes `old` into `new`."""
    patch: Properties = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> Properties:
    """Apply a merge patch (RFC 7396, section 2)."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result


def _fitting(value: Mapping[str, Any]) -> Properties:
    """Cut what is longer than a twin takes, and leave out what is not there."""
    result: Properties = {}
    for key, inner in value.items():
        if isinstance(inner, str):
            encoded = printable(inner).encode("utf-8")
            result[key] = encoded[:STRING_MAXIMUM].decode("utf-8", "ignore")
        elif hasattr(inner, "items"):
            result[key] = _fitting(inner)
        elif inner is not None:
            result[key] = inner
    return result
