"""The one place that reaches into azure-iot-device's private parts; pyproject.toml bounds its version for that.

Five things that its public interface cannot do:

- A method request whose payload is not JSON fails in the SDK's translation stage, before any handler: the caller
  would wait for a time-out. Here it reaches the handler, with a `Malformed` for a payload.
- The MQTT socket waits for more to send (Nagle's algorithm), which costs 40 ms a call.
- After a reconnect nothing is subscribed again, because the broker keeps the session; a hub that lost its sessions
  would never be heard again.
- Handlers are set and subscribed to in one call, which blocks; and whether they are still called shows only when
  somebody calls. Here both are apart, and a request can be sent through the SDK's threads as if the hub had sent it.
- The SDK's own refresh of desired properties after a reconnect is turned off (that one is a public option): it asks
  again at once and for ever when the hub answers with an error. The module fetches the twin itself.
"""

# mypy: disallow-untyped-calls=False
# ruff: noqa: SLF001
# The two lines above: private parts are this file's purpose, and the SDK gives them no types.

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.iot.device import MethodRequest
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.common.auth.sastoken import SasTokenError
from azure.iot.device.common.pipeline import pipeline_thread
from azure.iot.device.common.pipeline.pipeline_events_mqtt import IncomingMQTTMessageEvent
from azure.iot.device.common.pipeline.pipeline_stages_mqtt import MQTTTransportStage
from azure.iot.device.iothub.pipeline import constant, mqtt_topic_iothub
from azure.iot.device.iothub.pipeline.pipeline_events_iothub import (
    MethodRequestEvent,
    TwinDesiredPropertiesPatchEvent,
)
from azure.iot.device.iothub.pipeline.pipeline_stages_iothub_mqtt import IoTHubMQTTTranslationStage

from iot.sftp.client._base.text import shortened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import NoReturn

__all__ = [
    "METHODS",
    "TWIN",
    "Malformed",
    "SasTokenError",
    "create_client",
    "deliver",
    "find_stage",
    "parse_payload",
    "set_handlers",
    "shut_down",
    "subscribe",
]

TWIN = (constant.TWIN, constant.TWIN_PATCHES)
METHODS = (constant.METHODS,)


@dataclass(frozen=True)
class Malformed:
    """In place of a payload that is not JSON: why."""

    reason: str


def create_client() -> IoTHubModuleClient:
    """Create the client from the environment that the edge agent sets; asks the workload API, for as long as it takes.

    Raises:
        OSError: the environment is incomplete, or the workload API cannot be reached.
        ValueError: the environment holds something that cannot be used.
    """
    client = IoTHubModuleClient.create_from_edge_environment(ensure_desired_properties=False)
    _deliver_every_message(client)
    _send_without_delay(client)
    return client


def set_handlers(
    client: IoTHubModuleClient,
    *,
    on_request: Callable[[MethodRequest], Awaitable[None]],
    on_desired: Callable[[Any], Awaitable[None]],
    on_state_change: Callable[[], Awaitable[None]],
    on_background_exception: Callable[[Exception], Awaitable[None]],
) -> None:
    """Say who is called when something comes; what comes from the hub has to be subscribed to as well.

    Parameters:
        client: that has no handlers yet.
        on_request: for each direct method.
        on_desired: for each change of the desired properties.
        on_state_change: whenever the connection has come or gone.
        on_background_exception: for what fails where nobody waits for it.
    """
    manager: Any = client._handler_manager
    manager.on_method_request_received = on_request
    manager.on_twin_desired_properties_patch_received = on_desired
    manager.on_connection_state_change = on_state_change
    manager.on_background_exception = on_background_exception


async def subscribe(client: IoTHubModuleClient, features: Iterable[str]) -> None:
    """Subscribe, also to what the client takes for subscribed to: the broker may have forgotten it.

    Raises:
        Exception: the SDK's.
    """
    for feature in features:
        client._mqtt_pipeline.feature_enabled[feature] = False
        await client._enable_feature(feature)


def deliver(client: IoTHubModuleClient, request: MethodRequest) -> None:
    """Send a method request up through the SDK, as if the hub had sent it."""
    stage = find_stage(client, IoTHubMQTTTranslationStage)
    pipeline_thread.invoke_on_pipeline_thread_nowait(stage.send_event_up)(MethodRequestEvent(request))


def shut_down(client: IoTHubModuleClient) -> None:
    """Leave the hub and end the client's threads; blocks, since the SDK's own way to do it waits for its handlers.

    Raises:
        Exception: the SDK's.
    """
    asyncio.run(client.shutdown())


def parse_payload(payload: bytes) -> Any:
    """Read JSON (RFC 8259) from a message; nothing at all counts as `null`. Never raises."""
    try:
        return json.loads(payload.decode("utf-8") or "null", parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return Malformed("it is not UTF-8")
    except RecursionError:
        return Malformed("it is nested too deeply")
    except ValueError as error:  # JSONDecodeError, which tells the place and not the text; an integer of 5,000 digits
        return Malformed(shortened(str(error), 200))


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def find_stage(client: IoTHubModuleClient, kind: type[Any]) -> Any:
    """Find a stage of the client's MQTT pipeline by its class.

    Raises:
        LookupError: there is none: the SDK has another build than this file was written for.
    """
    stage = client._mqtt_pipeline._pipeline  # its first one; `next` leads down to the transport
    while stage is not None:
        if isinstance(stage, kind):
            return stage
        stage = stage.next
    message = f"azure-iot-device has no {kind.__name__} any more"
    raise LookupError(message)


def _deliver_every_message(client: IoTHubModuleClient) -> None:
    stage = find_stage(client, IoTHubMQTTTranslationStage)
    handle_event = stage._handle_pipeline_event

    def deliver(event: Any) -> None:
        if not isinstance(event, IncomingMQTTMessageEvent):
            handle_event(event)
        elif mqtt_topic_iothub.is_method_topic(event.topic):
            request = MethodRequest(
                request_id=mqtt_topic_iothub.get_method_request_id_from_topic(event.topic),
                name=mqtt_topic_iothub.get_method_name_from_topic(event.topic),
                payload=parse_payload(event.payload),
            )
            stage.send_event_up(MethodRequestEvent(request))
        elif mqtt_topic_iothub.is_twin_desired_property_patch_topic(event.topic):
            # Only a signal that there is something to fetch: one that cannot be read is still that
            stage.send_event_up(TwinDesiredPropertiesPatchEvent(parse_payload(event.payload)))
        else:
            handle_event(event)

    stage._handle_pipeline_event = deliver


def _send_without_delay(client: IoTHubModuleClient) -> None:
    def configure(_client: object, _userdata: object, opened: socket.socket) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    transport = find_stage(client, MQTTTransportStage).transport
    transport._mqtt_client.on_socket_open = configure
