"""One client of the SDK, with a time limit for everything that is asked of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from azure.iot.device import MethodResponse, exceptions

from iot.sftp.module._base.timeouts import in_thread, within
from iot.sftp.module._hub import sdk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azure.iot.device import Message, MethodRequest
    from azure.iot.device.aio import IoTHubModuleClient

    from iot.sftp.module._hub.limits import HubLimits
    from iot.sftp.module._hub.response import Response
    from iot.sftp.module._hub.sdk import Handlers

_log = logging.getLogger(__name__)


class HubClient:
    """A client of the SDK: its token, its trust bundle and its connection. A new one replaces it as a whole.

    All methods raise `TimeoutError` at their limit, and the SDK's exceptions.
    """

    def __init__(self, client: IoTHubModuleClient, limits: HubLimits) -> None:
        """Use a client that is not connected yet."""
        self._client = client
        self._limits = limits

    @classmethod
    async def create(cls, limits: HubLimits) -> HubClient:
        """Make a client, with a new token and the current trust bundle."""
        return cls(await in_thread(sdk.create_client, limits.create), limits)

    def set_handlers(self, handlers: Handlers) -> None:
        """Set who is called, in the SDK's own event loop."""
        sdk.set_handlers(self._client, handlers)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there now; thread-safe."""
        return bool(self._client.connected)

    async def connect(self) -> None:
        """Connect."""
        await within(self._limits.connect, self._client.connect())

    async def subscribe(self, features: Iterable[str]) -> None:
        """Subscribe, also to what is subscribed to already: the broker may have lost it."""
        await within(self._limits.subscribe, sdk.subscribe(self._client, features))

    async def subscribe_again(self, features: Iterable[str]) -> None:
        """Subscribe to what is subscribed to already, with one packet: the hub has to acknowledge it."""
        await within(self._limits.subscribe, sdk.subscribe_again(self._client, features))

    async def get_twin(self) -> dict[str, Any]:
        """Return the whole twin: `{"desired": …, "reported": …}`."""
        twin: dict[str, Any] = await within(self._limits.twin, self._online().get_twin())
        return twin

    async def report(self, patch: dict[str, Any]) -> None:
        """Send a merge patch to the reported properties; it may have arrived also if this raises."""
        await within(self._limits.twin, self._online().patch_twin_reported_properties(patch))

    async def send(self, message: Message, output: str) -> None:
        """Send a message to an output; it may have arrived also if this raises."""
        await within(self._limits.send, self._online().send_message_to_output(message, output))

    async def respond(self, request: MethodRequest, response: Response) -> None:
        """Send the response to a direct method."""
        sent = MethodResponse.create_from_method_request(request, response.status, response.payload)
        await within(self._limits.response, self._online().send_method_response(sent))

    def deliver(self, request: MethodRequest) -> None:
        """Send a method request through the SDK's threads to our own handler, as if the hub had sent it."""
        sdk.deliver(self._online(), request)

    async def shut_down(self, limit: float) -> None:
        """Leave the hub; what goes wrong is of no interest, as the client is not used any more."""
        try:
            await in_thread(lambda: sdk.shut_down(self._client), limit)
        except Exception as error:  # noqa: BLE001 - see above
            _log.debug("the SDK did not shut down in time: %r", error)

    def _online(self) -> IoTHubModuleClient:
        if not self._client.connected:
            # Without a connection the SDK would try to make one, and might never return
            raise not_connected()
        return self._client


def not_connected() -> exceptions.NoConnectionError:
    """Return the error of a request while there is no connection."""
    return exceptions.NoConnectionError("there is no connection to the edge hub")
