"""The connection to the edge hub: made, kept, watched, and given up when it cannot be brought back.

What may be wrong with a connection, how that is noticed, and what then happens:

- it breaks: the SDK says so, and it is connected anew;
- it is there, and twin calls stay without an answer; or nothing can be subscribed to, or a method does not get through
  the SDK's threads to us any more (looked at every few minutes); or the SDK could not renew its token: a new client
  takes the place of the old one;
- connecting fails: it is tried again, with growing pauses, and with a new client (a new token, the trust bundle of
  today) unless it is only that nobody listens there.

What does not help within some minutes ends the process, as a new one may be able to do what this one is not. A process
that never got through to the hub does not end: another one would not get further either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.iot.device import MethodRequest, MethodResponse, exceptions

from iot.sftp.module._base.logging import about
from iot.sftp.module._base.timeouts import in_thread, pauses, within
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._hub.sdk import (
    METHODS,
    TWIN,
    SasTokenError,
    create_client,
    deliver,
    set_handlers,
    shut_down,
    subscribe,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azure.iot.device import Message
    from azure.iot.device.aio import IoTHubModuleClient

    from iot.sftp.module._base.timeouts import T
    from iot.sftp.module._hub.response import Response

PULSE = MethodRequest("", "", None)  # the request that we send through the SDK to ourselves
PULSE_TRIES = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HubLimits:
    """How long is waited for what, in seconds; the SDK itself has no limit for most of it.

    Attributes:
        create: for a client: the workload API is asked for a trust bundle and a signature.
        connect: for a connection; the SDK gives up one without CONNACK after 60.
        subscribe: for the acknowledgement of a subscription.
        twin: for an answer about the twin.
        response: for the acknowledgement of a method's response.
        send: for the acknowledgement of a message.
        shutdown: for the end of a client.
        headstart: for the SDK's own reconnect, as when it renews its token; after 0.02 it tries only every 10.
        pulse: between two looks at a connection that seems to be well.
        unanswered: twin calls in a row, not seconds, after which a connection is not believed any more.
        unfelt: looks in a row, not seconds, at which no method got through the SDK, until the process ends.
        give_up: until the process ends, when the hub or the SDK refuse or say nothing.
        away: the same, when nobody listens where the hub should be. The edge agent forgets restarts after 600.
    """

    create: float = 90.0
    connect: float = 90.0
    subscribe: float = 30.0
    twin: float = 15.0
    response: float = 30.0
    send: float = 30.0
    shutdown: float = 2.0
    headstart: float = 1.0
    pulse: float = 120.0
    unanswered: int = 3
    unfelt: int = 3
    give_up: float = 300.0
    away: float = 900.0


class HubLost(Exception):  # noqa: N818 - the state of the connection, not a failed call
    """The connection to the edge hub cannot be brought back; a new process may be able to make one."""


class Hub:
    """The edge hub as the module sees it; lives in one event loop, and hands everything on to that loop."""

    def __init__(
        self,
        on_request: Callable[[str, Any, float], Awaitable[Response]],
        on_connected: Callable[[], Awaitable[None]],
        on_desired: Callable[[Any], None],
        *,
        may_end: Callable[[], bool] = lambda: True,
        limits: HubLimits | None = None,
    ) -> None:
        """Take who is to be told.

        Parameters:
            on_request: carries out a direct method: its name, payload and the time of its arrival.
            on_connected: the hub is there, for the first time or again; methods come when it is done.
            on_desired: desired properties have changed; what the hub sent is only a signal to fetch the twin.
            may_end: says whether the process may be ended now; asked when there is a reason to.
            limits: how long is waited for what.
        """
        self._on_request = on_request
        self._on_connected = on_connected
        self._on_desired = on_desired
        self._may_end = may_end
        self._limits = limits or HubLimits()
        self._loop = asyncio.get_running_loop()
        self._client: IoTHubModuleClient | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._doubt = ""  # why the client is not believed any more
        self._unanswered = 0  # twin calls in a row
        self._silent_since: float | None = None  # when the first of them began
        self._has_answered = False  # whether any was answered in this life
        self._unfelt = 0  # pulses in a row
        self._felt = asyncio.Event()
        self.reconnects = 0  # connections after one that broke
        self.since = time.time()  # when the connection last came or went, in seconds of the epoch

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there now; may be asked from any thread."""
        client = self._client
        return client is not None and bool(client.connected)

    async def run(self) -> None:
        """Connect, for as long as it takes, and stay connected.

        Raises:
            HubLost: the connection broke, or is of no use, and could not be mended.
        """
        for pause in pauses():
            try:
                await self._connect()
                break
            except Exception as error:  # noqa: BLE001 - at the start nothing is given up: the hub may come at any time
                self._doubt = "" if _is_away(error) else with_causes(error)
                _log.warning("no connection to the edge hub yet, next try in %.0f s: %s", pause, with_causes(error))
            await asyncio.sleep(pause)
        _log.info("connected to the edge hub")
        while True:
            await self._until_it_fails()
            await self._bring_back()
            self.reconnects += 1
            _log.info("connected to the edge hub again", extra=about(__name__))

    async def get_twin(self) -> dict[str, Any]:
        """Return the whole twin: `{"desired": …, "reported": …}`.

        Raises:
            Exception: the SDK's, or `TimeoutError`.
        """
        twin: dict[str, Any] = await self._ask_twin(self._connected_client().get_twin())
        return twin

    async def report(self, patch: dict[str, Any]) -> None:
        """Send a merge patch to the reported properties.

        Raises:
            Exception: the SDK's, or `TimeoutError`: it may have arrived nevertheless.
        """
        await self._ask_twin(self._connected_client().patch_twin_reported_properties(patch))

    async def send(self, message: Message, output: str) -> None:
        """Send a message to an output, which the edge hub routes; it keeps it while the cloud is away.

        Raises:
            Exception: the SDK's, or `TimeoutError`: it may have arrived nevertheless.
        """
        await within(self._limits.send, self._connected_client().send_message_to_output(message, output))

    async def close(self, limit: float) -> None:
        """Let the calls in flight be answered, then leave the hub, all within `limit` seconds."""
        end = time.monotonic() + limit
        await self._until_answered(max(0.0, limit - self._limits.shutdown))
        await self._shut_down(max(0.1, end - time.monotonic()))

    # --- a connection, made

    async def _connect(self) -> None:
        """Connect and subscribe; with a new client, if there is none or the one that there is is not believed."""
        if self._client is None or self._doubt:
            await self._take_new_client()
        client, limits = self._client, self._limits
        assert client is not None  # noqa: S101 - for the type checker
        await within(limits.connect, client.connect())
        await within(limits.subscribe, subscribe(client, TWIN))
        await self._on_connected()
        await within(limits.subscribe, subscribe(client, METHODS))

    async def _take_new_client(self) -> None:
        """Make a client, with a new token and the trust bundle of today; the old one stays until there is one."""
        client = await in_thread(create_client, self._limits.create)
        if self._client is not None:
            await self._until_answered(self._limits.response)
            await self._shut_down(self._limits.shutdown)
        set_handlers(
            client,
            on_request=self._handle_request,
            on_desired=self._handle_desired,
            on_state_change=self._handle_state_change,
            on_background_exception=self._handle_background_exception,
        )
        self._client, self._doubt = client, ""

    async def _until_answered(self, limit: float) -> None:
        if self._answering:
            await asyncio.wait(self._answering, timeout=limit)

    async def _shut_down(self, limit: float) -> None:
        client = self._client
        if client is None:
            return
        try:
            await in_thread(lambda: shut_down(client), limit)
        except Exception as error:  # noqa: BLE001 - it is not used any more
            _log.debug("the SDK did not shut down in time: %r", error)

    # --- a connection, watched

    def _connected_client(self) -> IoTHubModuleClient:
        if self._client is None or not self._client.connected:
            # asked while offline, the SDK would try to connect, and its answer might never come
            message = "there is no connection to the edge hub"
            raise exceptions.NoConnectionError(message)
        return self._client

    async def _until_it_fails(self) -> None:
        """Wait until the connection breaks, or is not believed any more."""
        limits = self._limits
        while True:
            await self._until(lambda: self._doubt or not self.is_connected, limits.pulse)
            if not self.is_connected:
                await self._until(lambda: self.is_connected, limits.headstart)
                if not self.is_connected:
                    _log.warning("the connection to the edge hub broke")
                return
            if not self._doubt:
                await self._feel_pulse()
            if self._doubt:
                _log.warning("the connection to the edge hub is made anew: %s", self._doubt)
                return

    async def _feel_pulse(self) -> None:
        """Subscribe again, which the hub acknowledges and may have forgotten; and send a method through the SDK."""
        reason = ""
        for _ in range(PULSE_TRIES):
            try:
                client = self._connected_client()
                await within(self._limits.subscribe, subscribe(client, (*TWIN, *METHODS)))
                self._felt.clear()
                deliver(client, PULSE)
                await within(self._limits.subscribe, self._felt.wait())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no good sign
                reason = with_causes(error)
            else:
                return
            if not self.is_connected:
                return
        self._unfelt += 1
        self._disbelieve(f"nothing gets through it any more: {reason}")

    async def _ask_twin(self, work: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            result = await within(self._limits.twin, work)
        except TimeoutError:
            self._unanswered += 1
            if self._silent_since is None:
                self._silent_since = began
            if self._unanswered >= self._limits.unanswered:
                self._disbelieve(f"{self._unanswered} twin calls in a row were not answered")
            raise
        self._unanswered, self._silent_since, self._has_answered = 0, None, True
        return result

    def _disbelieve(self, reason: str) -> None:
        self._doubt = self._doubt or reason
        self._unanswered = 0
        self._changed.set()

    # --- a connection, brought back

    async def _bring_back(self) -> None:
        lost = time.monotonic()
        if self._doubt:  # and not only broken
            self._give_up_on_silence()
        for pause in pauses():
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, the process is given up after a while
                self._give_up(time.monotonic() - lost, error)
                if not _is_away(error):
                    self._doubt = self._doubt or with_causes(error)
                _log.warning("no connection to the edge hub, next try in %.0f s: %s", pause, with_causes(error))
            else:
                return
            await self._until(lambda: self.is_connected and not self._doubt, pause)

    def _give_up(self, seconds: float, error: Exception) -> None:
        """Raise `HubLost`, if it is time to."""
        patience = self._limits.away if _is_away(error) else self._limits.give_up
        if seconds > patience and self._may_end():
            message = f"no connection to the edge hub for {seconds:.0f} s: {with_causes(error)}"
            raise HubLost(message) from error

    def _give_up_on_silence(self) -> None:
        """Raise `HubLost` if the hub, which had answered, has not for long; or if no method gets through the SDK.

        New clients have not helped: the SDK's threads are the process's, and a new process has new ones.
        """
        silent = 0.0 if self._silent_since is None else time.monotonic() - self._silent_since
        if self._has_answered and silent > self._limits.give_up and self._may_end():
            message = f"no answer about the twin for {silent:.0f} s"
            raise HubLost(message)
        if self._unfelt >= self._limits.unfelt and self._may_end():
            message = f"nothing has got through the SDK at {self._unfelt} looks in a row"
            raise HubLost(message)

    async def _until(self, holds: Callable[[], object], limit: float) -> None:
        """Wait until something holds, asked after each change of the connection; no longer than `limit`."""
        end = time.monotonic() + limit
        while not holds():
            self._changed.clear()
            remaining = end - time.monotonic()
            if remaining <= 0:
                return
            waiting = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({waiting}, timeout=remaining)
            waiting.cancel()

    # --- The SDK runs these on a loop of its own, which must not be held up: they only pass on

    async def _handle_request(self, request: MethodRequest) -> None:
        received = time.monotonic()
        self._loop.call_soon_threadsafe(self._begin_answer, request, received)

    async def _handle_desired(self, patch: Any) -> None:
        self._loop.call_soon_threadsafe(self._on_desired, patch)

    async def _handle_state_change(self) -> None:
        self.since = time.time()
        self._loop.call_soon_threadsafe(self._changed.set)

    async def _handle_background_exception(self, error: Exception) -> None:
        if isinstance(error, SasTokenError):  # the SDK sets no further alarm, and the token ends in two minutes
            reason = f"its token could not be renewed: {with_causes(error)}"
            self._loop.call_soon_threadsafe(self._disbelieve, reason)

    def _begin_answer(self, request: MethodRequest, received: float) -> None:
        self._unfelt = 0
        if request is PULSE:
            self._felt.set()
            return
        task = self._loop.create_task(self._answer(request, received))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: MethodRequest, received: float) -> None:
        response = await self._on_request(request.name, request.payload, received)
        answer = MethodResponse.create_from_method_request(request, response.status, response.payload)
        try:
            await within(self._limits.response, self._connected_client().send_method_response(answer))
        except Exception as error:  # noqa: BLE001 - there is nobody left to tell
            _log.warning("the answer to %s could not be sent: %s", request.name[:100], with_causes(error))


def _is_away(error: Exception) -> bool:
    """Say whether it is only that nobody listens where the hub should be, which no other client would change."""
    return isinstance(error, exceptions.ConnectionFailedError)
