"""The connection to the edge hub: made, kept, and given up when it cannot be brought back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from azure.iot.device import MethodResponse, exceptions

from iot.sftp.module._logging import about
from iot.sftp.module._sdk import create_client, subscribe_again

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from azure.iot.device import Message, MethodRequest
    from azure.iot.device.aio import IoTHubModuleClient

    from iot.sftp.module._methods import Response

T = TypeVar("T")

# Seconds. The SDK itself has no limit for most of these.
CREATE_LIMIT = 30.0
CONNECT_LIMIT = 90.0  # the SDK gives up a connection without CONNACK after 60
SUBSCRIBE_LIMIT = 60.0
TWIN_LIMIT = 15.0
RESPONSE_LIMIT = 30.0
SEND_LIMIT = 30.0
SHUTDOWN_LIMIT = 2.0
PAUSE_FIRST, PAUSE_LONGEST = 1.0, 30.0
RECONNECT_HEADSTART = 1.0  # the SDK tries by itself after 0.02 s, and then only every 10 s
GIVE_UP = 300.0  # without a connection, after there was one

_log = logging.getLogger(__name__)


class HubLost(Exception):  # noqa: N818 - the state of the connection, not a failed call
    """The connection to the edge hub cannot be brought back; a new process may be able to make one."""


class Hub:
    """The edge hub as the module sees it; lives in one event loop, and hands everything on to that loop."""

    def __init__(
        self,
        on_request: Callable[[str, Any, float], Awaitable[Response]],
        on_connected: Callable[[], Awaitable[None]],
        on_desired: Callable[[Any], None],
    ) -> None:
        """Take who is to be told.

        Parameters:
            on_request: carries out a direct method: its name, payload and the time of its arrival.
            on_connected: the hub is there, for the first time or again; methods come when it is done.
            on_desired: desired properties have changed; what the hub sent is only a signal to fetch the twin.
        """
        self._on_request = on_request
        self._on_connected = on_connected
        self._on_desired = on_desired
        self._loop = asyncio.get_running_loop()
        self._client: IoTHubModuleClient | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._state_changed = asyncio.Event()
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
            HubLost: the connection broke and did not come back.
        """
        for pause in pauses():
            try:
                await self._start()
                break
            except Exception as error:  # noqa: BLE001 - at the start nothing is given up: the hub may come at any time
                if not isinstance(error, exceptions.ConnectionFailedError):  # that is: nobody listens there yet
                    await self._discard_client()
                _log.warning("no connection to the edge hub yet, next try in %.0f s: %s", pause, in_words(error))
            await asyncio.sleep(pause)
        _log.info("connected to the edge hub")
        while True:
            await self._until(connected=False)
            await self._until(connected=True, limit=RECONNECT_HEADSTART)  # the SDK's own, as when it renews its token
            if self._client is not None and not self._client.connected:
                _log.warning("the connection to the edge hub broke")
            await self._bring_back()
            self.reconnects += 1
            _log.info("connected to the edge hub again", extra=about(__name__))

    async def get_twin(self) -> dict[str, Any]:
        """Return the whole twin: `{"desired": …, "reported": …}`.

        Raises:
            Exception: the SDK's, or `TimeoutError`.
        """
        twin: dict[str, Any] = await within(TWIN_LIMIT, self._connected_client().get_twin())
        return twin

    async def report(self, patch: dict[str, Any]) -> None:
        """Send a merge patch to the reported properties.

        Raises:
            Exception: the SDK's, or `TimeoutError`: it may have arrived nevertheless.
        """
        await within(TWIN_LIMIT, self._connected_client().patch_twin_reported_properties(patch))

    async def send(self, message: Message, output: str) -> None:
        """Send a message to an output, which the edge hub routes; it keeps it while the cloud is away.

        Raises:
            Exception: the SDK's, or `TimeoutError`: it may have arrived nevertheless.
        """
        await within(SEND_LIMIT, self._connected_client().send_message_to_output(message, output))

    async def close(self, limit: float) -> None:
        """Let the calls in flight be answered, then leave the hub, all within `limit` seconds."""
        end = time.monotonic() + limit
        if self._answering:
            await asyncio.wait(self._answering, timeout=max(0.0, limit - SHUTDOWN_LIMIT))
        if self._client is not None:
            try:
                await within(max(0.1, end - time.monotonic()), self._client.shutdown())
            except Exception as error:  # noqa: BLE001 - the process ends anyway
                _log.debug("the SDK did not shut down in time: %r", error)

    def _connected_client(self) -> IoTHubModuleClient:
        if self._client is None or not self._client.connected:
            # asked while offline, the SDK would try to connect, and its answer might never come
            message = "there is no connection to the edge hub"
            raise exceptions.NoConnectionError(message)
        return self._client

    async def _start(self) -> None:
        """Make the client, connect it and subscribe."""
        client = self._client
        if client is None:
            client = self._client = await in_thread(create_client, CREATE_LIMIT)
            # the SDK annotates this handler as one that takes an argument, and calls it without
            client.on_connection_state_change = self._handle_state_change  # type: ignore[assignment]
        await within(CONNECT_LIMIT, client.connect())

        # These setters block until the hub has answered
        def subscribe_to_twin() -> None:
            client.on_twin_desired_properties_patch_received = self._handle_desired

        def subscribe_to_methods() -> None:
            client.on_method_request_received = self._handle_request

        await in_thread(subscribe_to_twin, SUBSCRIBE_LIMIT)
        await self._on_connected()
        await in_thread(subscribe_to_methods, SUBSCRIBE_LIMIT)

    async def _discard_client(self) -> None:
        """Forget the client: its token or its trust bundle may be the reason why it cannot connect."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await within(SHUTDOWN_LIMIT, client.shutdown())
            except Exception as error:  # noqa: BLE001 - it is not used any more
                _log.debug("the SDK did not shut down in time: %r", error)

    async def _bring_back(self) -> None:
        client = self._client
        lost = time.monotonic()
        for pause in pauses():
            try:
                if client is not None:
                    await within(CONNECT_LIMIT, client.connect())
                    await within(SUBSCRIBE_LIMIT, subscribe_again(client))
                    await self._on_connected()
                    return
            except Exception as error:  # whatever it is, the process is given up after a while
                if time.monotonic() - lost > GIVE_UP:
                    message = f"no connection to the edge hub for {time.monotonic() - lost:.0f} s: {in_words(error)}"
                    raise HubLost(message) from error
                _log.warning("no connection to the edge hub, next try in %.0f s: %s", pause, in_words(error))
            await self._until(connected=True, limit=pause)

    async def _until(self, *, connected: bool, limit: float | None = None) -> None:
        """Wait until the client is connected or not; no longer than `limit`."""
        end = None if limit is None else time.monotonic() + limit
        while self._client is not None and self._client.connected != connected:
            self._state_changed.clear()
            remaining = None if end is None else end - time.monotonic()
            if remaining is not None and remaining <= 0:
                return
            waiting = asyncio.ensure_future(self._state_changed.wait())
            await asyncio.wait({waiting}, timeout=remaining)
            waiting.cancel()

    # The SDK runs these three on a loop of its own, which must not be held up: they only pass on

    async def _handle_request(self, request: MethodRequest) -> None:
        received = time.monotonic()
        self._loop.call_soon_threadsafe(self._begin_answer, request, received)

    async def _handle_desired(self, patch: Any) -> None:
        self._loop.call_soon_threadsafe(self._on_desired, patch)

    async def _handle_state_change(self) -> None:
        self.since = time.time()
        self._loop.call_soon_threadsafe(self._state_changed.set)

    def _begin_answer(self, request: MethodRequest, received: float) -> None:
        task = self._loop.create_task(self._answer(request, received))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: MethodRequest, received: float) -> None:
        response = await self._on_request(request.name, request.payload, received)
        answer = MethodResponse.create_from_method_request(request, response.status, response.payload)
        try:
            await within(RESPONSE_LIMIT, self._connected_client().send_method_response(answer))
        except Exception as error:  # noqa: BLE001 - there is nobody left to tell
            _log.warning("the answer to %s could not be sent: %s", request.name[:100], in_words(error))


def pauses() -> Iterator[float]:
    """Give the seconds to wait between attempts, for ever: growing, and never the same on two devices."""
    pause = PAUSE_FIRST
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
        pause = min(pause * 2, PAUSE_LONGEST)


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Wait for the work, for so long.

    It is left alone afterwards, not cancelled: the SDK completes its futures later, and fails on cancelled ones.

    Raises:
        TimeoutError: it is not done yet.
    """
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.add_done_callback(_take_note)
        message = f"no answer within {seconds:.0f} s"
        raise TimeoutError(message)
    return task.result()


async def in_thread(function: Callable[[], T], seconds: float) -> T:
    """Call a function that blocks, in a daemon thread of its own: it may never come back.

    Raises:
        TimeoutError: it has not come back yet.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(error: BaseException | None, result: T | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # there is a result when there is no error

    def call() -> None:
        error, result = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
            loop.call_soon_threadsafe(settle, error, result)

    threading.Thread(target=call, name=function.__name__, daemon=True).start()
    return await within(seconds, future)


def in_words(error: BaseException) -> str:
    """Word an error of the SDK with its causes, which say more than itself."""
    words: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(words) < 4:  # noqa: PLR2004 - deeper ones are of no help
        text = str(cause) or type(cause).__name__
        if text not in words:
            words.append(text)
        cause = cause.__cause__
    return ": ".join(words)


def _take_note(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
