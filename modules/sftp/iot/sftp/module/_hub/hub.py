"""The life of the connection to the edge hub: made, probed, replaced, and given up when that does not help.

What can go wrong with a connection, how that is detected, and what happens then:

- it breaks: the SDK reports it, and the module reconnects;
- it is there, and twin requests are not answered; or nothing can be subscribed to, or a method does not get through
  the SDK's threads any more (probed every two minutes); or the SDK could not renew its token: a new client replaces the
  old one;
- connecting fails: it is retried with exponential backoff, and with a new client (a new token, the current trust
  bundle) unless the only problem is that nothing listens at the hub's address.

What does not help within some minutes makes the process exit, as a new one may succeed where this one does not. A
process that never reached the hub does not exit: a new one would not succeed either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from azure.iot.device import exceptions

from iot.sftp.module._base.logging import about
from iot.sftp.module._base.timeouts import pauses
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._hub.client import HubClient, not_connected
from iot.sftp.module._hub.health import ConnectionHealth
from iot.sftp.module._hub.limits import HubLimits
from iot.sftp.module._hub.receiver import MethodReceiver
from iot.sftp.module._hub.sdk import INPUTS, METHODS, TWIN, Handlers, SasTokenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azure.iot.device import Message, MethodRequest

    from iot.sftp.module._base.timeouts import T
    from iot.sftp.module._hub.input_message import InputMessage
    from iot.sftp.module._hub.response import Response

PROBE_ATTEMPTS = 2

_log = logging.getLogger(__name__)


class HubLost(Exception):  # noqa: N818 - the state of the connection, not a failed call
    """The connection to the edge hub cannot be restored; a new process may be able to make one."""


class Hub:
    """The edge hub as the module sees it; lives in one event loop, and passes everything to that loop.

    It stays in one piece because it is one state machine (connect, watch, reconnect or give up) with the four callbacks
    of the SDK that drive it; requests, timeouts and health are in files of their own.
    """

    def __init__(
        self,
        on_request: Callable[[str, Any, float], Awaitable[Response]],
        on_connected: Callable[[], Awaitable[None]],
        on_desired: Callable[[Any], None],
        *,
        on_input: Callable[[InputMessage], None] = lambda _message: None,
        may_exit: Callable[[], bool] = lambda: True,
        limits: HubLimits | None = None,
    ) -> None:
        """Take the handlers.

        Parameters:
            on_request: executes a direct method: its name, payload and the time of its arrival.
            on_connected: the hub is there, for the first time or again; methods are subscribed to when it has returned.
            on_desired: desired properties have changed; what the hub sent is only a signal to fetch the twin.
            on_input: takes a message to an input, in a thread of the SDK; when it returns, the message is acknowledged.
                Must not raise, and must not block for long.
            may_exit: whether the process may exit now; asked when there is a reason to.
            limits: timeouts and limits.
        """
        self._on_connected = on_connected
        self._on_desired = on_desired
        self._on_input = on_input
        self._may_exit = may_exit
        self._limits = limits or HubLimits()
        self._loop = asyncio.get_running_loop()
        self._client: HubClient | None = None
        self._health = ConnectionHealth(self._limits)
        self._receiver = MethodReceiver(on_request, self._respond)
        self.reconnects = 0  # connections after one that broke
        self.since = time.time()  # when the connection was last made or lost, in seconds of the epoch

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there now; thread-safe."""
        client = self._client
        return client is not None and client.is_connected

    async def run(self) -> None:
        """Connect, however long that takes, and stay connected.

        Raises:
            HubLost: the connection broke, or is of no use, and could not be restored.
        """
        await self._connect_at_start()
        _log.info("connected to the edge hub")
        while True:
            await self._watch()
            await self._reconnect()
            self.reconnects += 1
            _log.info("connected to the edge hub again", extra=about(__name__))

    async def get_twin(self) -> dict[str, Any]:
        """Return the whole twin: `{"desired": …, "reported": …}`.

        Raises:
            Exception: the SDK's, or `TimeoutError`.
        """
        return await self._ask_twin(lambda client: client.get_twin())

    async def report(self, patch: dict[str, Any]) -> None:
        """Send a merge patch to the reported properties.

        Raises:
            Exception: the SDK's, or `TimeoutError`: it may have arrived nevertheless.
        """
        await self._ask_twin(lambda client: client.report(patch))

    async def send(self, message: Message, output: str) -> None:
        """Send a message to an output, which the edge hub routes; it stores it while the cloud cannot be reached.

        Raises:
            Exception: the SDK's, or `TimeoutError`: it may have arrived nevertheless.
        """
        await self._any_client().send(message, output)

    async def close(self, limit: float) -> None:
        """Let the calls in flight be answered, then leave the hub, all within `limit` seconds."""
        end = time.monotonic() + limit
        await self._receiver.drain(max(0.0, limit - self._limits.shutdown))
        if self._client is not None:
            await self._client.shut_down(max(0.1, end - time.monotonic()))

    # --- Connect

    async def _connect_at_start(self) -> None:
        for pause in pauses():
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - at the start nothing is given up: the hub may come at any time
                self._health.suspicion = "" if _is_unreachable(error) else with_causes(error)
                _log.warning("no connection to the edge hub yet, next attempt in %.0f s: %s", pause, with_causes(error))
            else:
                return
            await asyncio.sleep(pause)

    async def _connect(self) -> None:
        """Connect and subscribe; with a new client if there is none or it is suspected."""
        if self._client is None or self._health.suspicion:
            await self._replace_client()
        client = self._any_client()
        await client.connect()
        await client.subscribe(TWIN)
        await self._on_connected()
        await client.subscribe((*METHODS, *INPUTS))

    async def _replace_client(self) -> None:
        """Make a client, with a new token and the current trust bundle; the old one stays until there is one."""
        client = await HubClient.create(self._limits)
        if self._client is not None:
            await self._receiver.drain(self._limits.response)
            await self._client.shut_down(self._limits.shutdown)
        client.set_handlers(
            Handlers(
                on_request=self._handle_request,
                on_desired=self._handle_desired,
                on_state_change=self._handle_state_change,
                on_background_exception=self._handle_background_exception,
                on_input=self._on_input,
            )
        )
        self._client, self._health.suspicion = client, ""

    def _any_client(self) -> HubClient:
        if self._client is None:
            raise not_connected()
        return self._client

    # --- Watch

    async def _watch(self) -> None:
        """Return when the connection has broken, or is suspected."""
        limits, health = self._limits, self._health
        while True:
            await health.wait_until(lambda: health.suspicion or not self.is_connected, limits.probe_interval)
            if not self.is_connected:
                await health.wait_until(lambda: self.is_connected, limits.sdk_reconnect)
                if not self.is_connected:
                    _log.warning("the connection to the edge hub broke")
                return
            if not health.suspicion:
                await self._probe()
            if health.suspicion:
                _log.warning("the connection to the edge hub is replaced: %s", health.suspicion)
                return

    async def _probe(self) -> None:
        """Subscribe again, which the hub acknowledges, and send a method through the SDK's threads."""
        reason = ""
        for _ in range(PROBE_ATTEMPTS):
            if not self.is_connected:
                return
            try:
                client = self._any_client()
                await client.subscribe_again((*TWIN, *METHODS, *INPUTS))
                await self._receiver.probe(client.deliver, self._limits.subscribe)
            except Exception as error:  # noqa: BLE001 - whatever it is, the connection is of no use
                reason = with_causes(error)
            else:
                return
        if self.is_connected:
            self._health.probe_failed(reason)

    async def _ask_twin(self, ask: Callable[[HubClient], Awaitable[T]]) -> T:
        sent = time.monotonic()
        try:
            result = await ask(self._any_client())
        except TimeoutError:
            self._health.twin_timed_out(sent)
            raise
        self._health.twin_answered()
        return result

    # --- Reconnect, or give up

    async def _reconnect(self) -> None:
        lost = time.monotonic()
        if self._health.suspicion:  # and not only broken
            self._check_health()
        for pause in pauses():
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, the process exits after a while
                self._check_patience(time.monotonic() - lost, error)
                if not _is_unreachable(error):
                    self._health.suspicion = self._health.suspicion or with_causes(error)
                _log.warning("no connection to the edge hub, next attempt in %.0f s: %s", pause, with_causes(error))
            else:
                return
            await self._health.wait_until(lambda: self.is_connected and not self._health.suspicion, pause)

    def _check_health(self) -> None:
        """Raise `HubLost` if new clients have not helped, and the process may exit."""
        reason = self._health.reason_to_exit()
        if reason and self._may_exit():
            raise HubLost(reason)

    def _check_patience(self, seconds: float, error: Exception) -> None:
        """Raise `HubLost` if connecting has failed for too long, and the process may exit."""
        limits = self._limits
        patience = limits.give_up_unreachable if _is_unreachable(error) else limits.give_up
        if seconds > patience and self._may_exit():
            message = f"no connection to the edge hub for {seconds:.0f} s: {with_causes(error)}"
            raise HubLost(message) from error

    # --- The SDK calls these in a loop of its own, which must not be blocked: they only pass on

    async def _handle_request(self, request: MethodRequest) -> None:
        received = time.monotonic()
        self._loop.call_soon_threadsafe(self._receive, request, received)

    async def _handle_desired(self, patch: Any) -> None:
        self._loop.call_soon_threadsafe(self._on_desired, patch)

    async def _handle_state_change(self) -> None:
        self.since = time.time()
        self._loop.call_soon_threadsafe(self._health.notify)

    async def _handle_background_exception(self, error: Exception) -> None:
        if isinstance(error, SasTokenError):  # the SDK does not retry, and the token expires in two minutes
            reason = f"its token could not be renewed: {with_causes(error)}"
            self._loop.call_soon_threadsafe(self._health.suspect, reason)

    def _receive(self, request: MethodRequest, received: float) -> None:
        self._health.method_arrived()
        self._receiver.receive(request, received)

    async def _respond(self, request: MethodRequest, response: Response) -> None:
        await self._any_client().respond(request, response)


def _is_unreachable(error: Exception) -> bool:
    """Whether the only problem is that nothing listens at the hub's address, which a new client would not change."""
    return isinstance(error, exceptions.ConnectionFailedError)
