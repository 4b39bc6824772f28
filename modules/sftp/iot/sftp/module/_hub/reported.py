"""Reported properties: differences only, one update in five seconds at most, and one a minute in the long run.

Each update costs as much as a message to the cloud. So a value that only counts up or down causes none: a message is
reported without the time to the next attempt, and stays as it is while nothing but its quantities changes (`steady`). A
value that changes all the time, such as the state of a flapping link, is limited by a token bucket.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Any

from iot.sftp.module._base.log_suppression import without_quantities
from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._hub.merge_patch import Properties, difference, merged
from iot.sftp.module._hub.twin_limits import accepted_key, accepted_section, within_limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

INTERVAL = 5.0  # seconds between two updates
BURST, LONG_TERM_INTERVAL = 100, 60.0  # updates that may follow each other so; seconds between all further ones
GATHERING = 0.5  # seconds after a change: a configuration and its consequences are sent together

MESSAGES = ("message", "ad")  # the keys of texts for people
# "…, the same credentials are tried again in 37 s at the earliest": the whole sentence is out of date a minute later
_COUNTDOWN = re.compile(r"\bin \d+(\.\d+)? ?(s|min|h|seconds|minutes|hours)\b")
_SENTENCE = re.compile(r"(?<=[.;])\s+")

_log = logging.getLogger(__name__)


class Reporter:
    """Brings the hub's reported properties to what was last set, as soon as it may.

    It needs to know what the hub has before it sends the first difference, and again whenever it is not certain that
    an update has arrived: then `rebase` has to be called.
    """

    def __init__(
        self,
        send: Callable[[Properties], Awaitable[None]],
        on_doubt: Callable[[], None],
        *,
        interval: float = INTERVAL,
        gathering: float = GATHERING,
    ) -> None:
        """Report nothing yet.

        Parameters:
            send: sends a merge patch; raises an exception if it is not certain that the hub has it.
            on_doubt: asked to bring about a `rebase`.
            interval: seconds between two updates.
            gathering: seconds between a change and its update, for the consequences of the change.
        """
        self._send = send
        self._on_doubt = on_doubt
        self._interval = interval
        self._gathering = gathering
        self._wanted: Properties = {}
        self._known: Properties | None = None  # what the hub has
        self._changed = asyncio.Event()
        self._bucket = TokenBucket(BURST, LONG_TERM_INTERVAL)

    def set(self, section: str, value: Mapping[str, Any] | None) -> None:
        """Report a section with this value from now on; `None` removes it."""
        key = accepted_key(section)
        if value is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = steady(self._wanted.get(key), accepted_section(value))
        self._changed.set()

    @property
    def wanted(self) -> Properties:
        """Everything that is to be reported now; thread-safe."""
        return dict(self._wanted)

    @property
    def document(self) -> Properties:
        """The same, as far as a twin can hold it."""
        return within_limits(self.wanted)

    def rebase(self, reported: Mapping[str, Any]) -> None:
        """Take note of what the hub has, unless that is known."""
        if self._known is None:
            self._known = {key: value for key, value in reported.items() if not key.startswith("$")}
            self._changed.set()

    def doubt(self) -> None:
        """Forget what the hub has: after a reconnect it may be another hub, or have lost its state."""
        self._known = None

    async def run(self) -> None:
        """Send updates, without end."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._gathering)
            self._changed.clear()
            if self._known is None:
                continue  # `rebase` sets the event again
            patch = difference(self._known, self.document)
            if patch:
                started = time.monotonic()
                self._bucket.take()
                await self._update(self._known, patch)
                pause = max(started + self._interval - time.monotonic(), self._bucket.wait())
                await asyncio.sleep(max(0.0, pause))

    async def _update(self, known: Properties, patch: Properties) -> None:
        try:
            await self._send(patch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the remedy is the same: fetch the twin, and retry
            _log.warning("the reported properties may not have arrived, they are sent again: %s", with_causes(error))
            self._known = None
            self._on_doubt()
        else:
            if self._known is known:
                self._known = merged(known, patch)
                _log.debug("reported: %s", patch)


def steady(old: Any, new: Any) -> Any:
    """Return the value to report in place of `old`: `new`, without what differs from one attempt to the next."""
    if not isinstance(new, dict):
        return new
    before = old if isinstance(old, dict) else {}
    return {
        key: _steady_message(before.get(key), value) if key in MESSAGES else steady(before.get(key), value)
        for key, value in new.items()
    }


def _steady_message(old: Any, new: Any) -> Any:
    if not isinstance(new, str):
        return new
    sentences = _SENTENCE.split(new)
    lasting = [sentence for sentence in sentences if not _COUNTDOWN.search(sentence)]
    text = " ".join(lasting).rstrip(".;") if lasting and len(lasting) < len(sentences) else new
    text = _COUNTDOWN.sub("later", text)
    return old if isinstance(old, str) and without_quantities(old) == without_quantities(text) else text
