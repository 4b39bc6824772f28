"""The one place that reaches into azure-iot-device's private parts; pyproject.toml bounds its version for that.

Four things that its public interface cannot do:

- A method request whose payload is not JSON fails in the SDK's translation stage, before any handler: the caller
  would wait for a time-out. Here it reaches the handler, with a `Malformed` for a payload.
- The MQTT socket waits for more to send (Nagle's algorithm), which costs 40 ms a call.
- After a reconnect nothing is subscribed again, because the broker keeps the session; a hub that lost its sessions
  would never be heard again.
- The SDK's own refresh of desired properties after a reconnect is turned off (that one is a public option): it asks
  again at once and for ever when the hub answers with an error. The module fetches the twin itself.
"""

# mypy: disallow-untyped-calls=False
# ruff: noqa: SLF001
# The two lines above: private parts are this file's purpose, and the SDK gives them no types.

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.iot.device import MethodRequest
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.common.pipeline.pipeline_events_mqtt import IncomingMQTTMessageEvent
from azure.iot.device.common.pipeline.pipeline_stages_mqtt import MQTTTransportStage
from azure.iot.device.iothub.pipeline import constant, mqtt_topic_iothub
from azure.iot.device.iothub.pipeline.pipeline_events_iothub import (
    MethodRequestEvent,
    TwinDesiredPropertiesPatchEvent,
)
from azure.iot.device.iothub.pipeline.pipeline_stages_iothub_mqtt import IoTHubMQTTTranslationStage

from iot.sftp.module._logging import shortened

if TYPE_CHECKING:
    from typing import NoReturn

FEATURES = (constant.METHODS, constant.TWIN, constant.TWIN_PATCHES)


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


async def subscribe_again(client: IoTHubModuleClient) -> None:
    """Subscribe to what the client had subscribed to, in case that the broker forgot it."""
    enabled = client._mqtt_pipeline.feature_enabled
    for feature in [name for name in FEATURES if enabled[name]]:
        enabled[feature] = False
        await client._enable_feature(feature)


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
