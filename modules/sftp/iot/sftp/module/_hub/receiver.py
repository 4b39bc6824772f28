"""Direct methods as they arrive: each becomes a task of the event loop, and its response is sent."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from azure.iot.device import MethodRequest

from iot.sftp.module._base.timeouts import within
from iot.sftp.module._base.wording import with_causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from iot.sftp.module._hub.response import Response

PROBE = MethodRequest("", "", None)  # the request that is sent through the SDK's threads to ourselves
NAME_SHOWN = 100  # characters of a method's name

_log = logging.getLogger(__name__)


class MethodReceiver:
    """Answers method requests, and recognises the probe among them; lives in the event loop."""

    def __init__(
        self,
        on_request: Callable[[str, Any, float], Awaitable[Response]],
        respond: Callable[[MethodRequest, Response], Awaitable[None]],
    ) -> None:
        """Take who executes and who sends.

        Parameters:
            on_request: executes a method: its name, payload and the time of its arrival; never raises.
            respond: sends a response; raises an exception if it cannot tell that the hub has it.
        """
        self._on_request = on_request
        self._respond = respond
        self._in_flight: set[asyncio.Task[None]] = set()
        self._probed = asyncio.Event()

    def receive(self, request: MethodRequest, received: float) -> None:
        """Begin to answer a request that arrived then, in `time.monotonic()`."""
        if request is PROBE:
            self._probed.set()
            return
        task = asyncio.get_running_loop().create_task(self._answer(request, received))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def probe(self, deliver: Callable[[MethodRequest], None], limit: float) -> None:
        """Send the probe through the SDK's threads.

        Parameters:
            deliver: gives it to the SDK, as if the hub had sent it.
            limit: seconds until it has to arrive.

        Raises:
            TimeoutError: it has not arrived.
            Exception: the SDK's.
        """
        self._probed.clear()
        deliver(PROBE)
        await within(limit, self._probed.wait())

    async def drain(self, limit: float) -> None:
        """Wait until all requests are answered, no longer than `limit` seconds."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=limit)

    async def _answer(self, request: MethodRequest, received: float) -> None:
        response = await self._on_request(request.name, request.payload, received)
        try:
            await self._respond(request, response)
        except Exception as error:  # noqa: BLE001 - the caller cannot be reached
            _log.warning("the response to %s could not be sent: %s", request.name[:NAME_SHOWN], with_causes(error))
