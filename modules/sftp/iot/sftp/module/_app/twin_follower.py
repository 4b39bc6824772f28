"""Fetches the twin whenever there is a reason to, until it is as new as the hub has announced."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from azure.iot.device import exceptions

from iot.sftp.module._base.timeouts import pauses
from iot.sftp.module._base.wording import with_causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Properties = dict[str, Any]

STALE_ATTEMPTS = 5  # fetches of a twin that is older than the one that was announced

_log = logging.getLogger(__name__)


class TwinFollower:
    """Keeps the configuration as new as the twin; lives in the event loop."""

    def __init__(
        self,
        get_twin: Callable[[], Awaitable[dict[str, Any]]],
        apply: Callable[[Properties, Properties], None],
        *,
        backoff: Callable[[], Iterator[float]] = pauses,
    ) -> None:
        """Take the twin's source and who applies it.

        Parameters:
            get_twin: returns the whole twin; raises an exception if it cannot.
            apply: puts the desired properties into force, and takes note of the reported ones.
            backoff: gives the seconds between two attempts to fetch it.
        """
        self._get_twin = get_twin
        self._apply = apply
        self._backoff = backoff
        self._wanted = asyncio.Event()
        self._applied = asyncio.Event()
        self._announced = 0  # the highest $version that the hub has announced

    def fetch(self) -> None:
        """Have the twin fetched soon."""
        self._wanted.set()

    def announce(self, patch: Any) -> None:
        """Have the twin fetched, as its desired properties have changed: the patch itself is only a signal."""
        self._announced = max(self._announced, version_of(patch))
        self.fetch()

    async def fetch_now(self, limit: float) -> None:
        """Have the twin fetched, and wait until it is applied, no longer than `limit` seconds."""
        self._applied.clear()
        self.fetch()
        waiting = asyncio.ensure_future(self._applied.wait())
        await asyncio.wait({waiting}, timeout=limit)
        waiting.cancel()

    async def run(self) -> None:
        """Fetch and apply, without end."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._follow()

    async def _follow(self) -> None:
        """Fetch and apply until the twin is as new as announced, or the hub is away."""
        fetched = 0
        for pause in self._backoff():
            try:
                twin = await self._get_twin()
                desired, reported = dict(twin["desired"]), dict(twin["reported"])
            except exceptions.NoConnectionError:
                return  # it is wanted again as soon as the hub is back
            except Exception as error:  # noqa: BLE001 - whatever it is, the twin is still wanted
                _log.warning("the twin cannot be fetched, next attempt in %.0f s: %s", pause, with_causes(error))
            else:
                fetched += 1
                self._apply(desired, reported)
                self._applied.set()
                if version_of(desired) >= self._announced or fetched == STALE_ATTEMPTS:
                    self._announced = 0
                    return
            await asyncio.sleep(pause)


def version_of(desired: Any) -> int:
    """Return the `$version` of desired properties or of a patch; 0 if there is none."""
    version = desired.get("$version") if isinstance(desired, dict) else None
    return version if isinstance(version, int) else 0
