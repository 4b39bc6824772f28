"""Reported properties: only differences, at most one update in five seconds, within the twin's limits.

Each update costs as much as a message to the cloud. So what only counts up or down makes none: a message is reported
without the seconds to the next try, and stays as it was while nothing but its quantities changes (`steady`); and what
changes all the time, such as a link that flaps, gets an update a minute in the long run (`Allowance`).

The limits are IoT Hub's for device and module twins: keys of up to 1 KB without control characters, dots, dollar signs
and spaces; strings of up to 4 KB; whole numbers that a double holds; a depth of 10; 32 KB in all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.text import printable
from iot.sftp.module._base.log_suppression import without_quantities

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Properties = dict[str, Any]

INTERVAL = 5.0  # seconds between two updates
AT_ONCE, IN_THE_LONG_RUN = 100, 60.0  # updates that may follow each other so, and seconds between all further ones
GATHERING = 0.5  # seconds after a change: a configuration and what came of it are sent together
STRING_MAXIMUM = 4096  # bytes of a string
SHORTER = (1_000, 300, 100)  # bytes of the strings that are longer, when the whole is too large
KEY_MAXIMUM = 1024  # bytes of a key
NUMBER_MAXIMUM = 2**52 - 1
DEPTH_MAXIMUM = 10  # objects within objects, a section being the first
TOTAL_MAXIMUM = 31 * 1024  # bytes as JSON, a little under the limit, which counts less than all of these

MESSAGES = ("message", "ad")  # the keys of texts for people
# "…, the same credentials are tried again in 37 s at the earliest": the whole sentence says nothing a minute later
_COUNTDOWN = re.compile(r"\bin \d+(\.\d+)? ?(s|min|h|seconds|minutes|hours)\b")
_SENTENCE = re.compile(r"(?<=[.;])\s+")
_NOT_IN_KEYS = re.compile(r"[.$#\s]")

_log = logging.getLogger(__name__)


class Allowance:
    """So many at once, and in the long run one per period: a token bucket; thread-safe."""

    def __init__(self, at_once: int, period: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a full bucket.

        Parameters:
            at_once: how many may follow each other.
            period: seconds after which there is another one.
            clock: tells the seconds.
        """
        self._at_once = at_once
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._left = float(at_once)
        self._counted = clock()

    def wait(self) -> float:
        """Return the seconds until there is one."""
        with self._lock:
            now = self._clock()
            self._left = min(self._at_once, self._left + (now - self._counted) / self._period)
            self._counted = now
            return max(0.0, (1 - self._left) * self._period)

    def take(self) -> None:
        """Take one, whether there is one or not."""
        with self._lock:
            self._left -= 1


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
        self._allowance = Allowance(AT_ONCE, IN_THE_LONG_RUN)

    def set(self, section: str, value: Mapping[str, Any] | None) -> None:
        """Have a section reported like this; `None` removes it."""
        if value is None:
            self._wanted.pop(_fitting_key(section), None)
        else:
            key = _fitting_key(section)
            self._wanted[key] = steady(self._wanted.get(key), _fitting(value, DEPTH_MAXIMUM - 1))
        self._changed.set()

    @property
    def wanted(self) -> Properties:
        """What is to be reported now, all of it; may be asked from any thread."""
        return dict(self._wanted)

    @property
    def document(self) -> Properties:
        """The same, as far as a twin holds it."""
        return within_limits(self.wanted)

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
            patch = difference(self._known, self.document)
            if patch:
                started = time.monotonic()
                self._allowance.take()
                await self._update(self._known, patch)
                pause = max(started + self._interval - time.monotonic(), self._allowance.wait())
                await asyncio.sleep(max(0.0, pause))

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


def steady(old: Any, new: Any) -> Any:
    """Return what is to be reported in place of `old`: `new`, without what differs from one try to the next."""
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
    lasting = [sentence for sentence in _SENTENCE.split(new) if not _COUNTDOWN.search(sentence)]
    text = " ".join(lasting).rstrip(".;") if lasting and len(lasting) < len(_SENTENCE.split(new)) else new
    text = _COUNTDOWN.sub("later", text)
    return old if isinstance(old, str) and without_quantities(old) == without_quantities(text) else text


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


def within_limits(sections: Properties) -> Properties:
    """Cut texts until a twin holds all sections; if that is not enough, leave out the largest ones."""
    fitting = sections
    for longest in SHORTER:
        if _size(fitting) <= TOTAL_MAXIMUM:
            return fitting
        fitting = {key: _cut(value, longest) for key, value in sections.items()}
    while _size(fitting) > TOTAL_MAXIMUM:
        largest = max(fitting, key=lambda key: _size(fitting[key]))
        _log.warning("%s is not reported: a twin does not hold so much", largest)
        fitting = {key: value for key, value in fitting.items() if key != largest}
    return fitting


def _fitting(value: Any, depth: int) -> Any:
    """Make a value one that a twin takes: cut what is too long, leave out what is not there or too deep."""
    if isinstance(value, Mapping):
        if depth == 0:
            return "…"
        fitted = ((key, _fitting(inner, depth - 1)) for key, inner in value.items())
        return {_fitting_key(key): inner for key, inner in fitted if inner is not None}
    if isinstance(value, list | tuple):
        return "…" if depth == 0 else [_fitting(inner, depth - 1) for inner in value if inner is not None]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) <= NUMBER_MAXIMUM else "…"
    return _cut(printable(str(value)), STRING_MAXIMUM)


def _fitting_key(key: object) -> str:
    return str(_cut(_NOT_IN_KEYS.sub("_", printable(str(key))), KEY_MAXIMUM)) or "_"


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8")[:longest].decode("utf-8", "ignore")
    if isinstance(value, dict):
        return {key: _cut(inner, longest) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner, longest) for inner in value]
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8"))
