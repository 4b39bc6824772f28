"""The only file that uses private parts of azure-iot-device; pyproject.toml bounds the SDK's version for that.

What its public interface cannot do:

- A method request whose payload is not JSON fails in the SDK's translation stage, before any handler: the caller
  would wait for a timeout. Here it reaches the handler, with a `Malformed` as its payload.
- The MQTT socket delays small packets (Nagle's algorithm), which costs 40 ms a call. Here it has TCP_NODELAY.
- After a reconnect the SDK does not subscribe again, because the broker keeps the session: a hub that lost its sessions
  would send nothing any more. Here a feature can be subscribed to again.
- The SDK takes a subscription that the hub has refused for one that it has made. Here it is an error.
- The SDK sets a handler and subscribes in one call, which blocks. Here these are two calls, and one packet subscribes
  again to all that is subscribed to.
- Whether handlers are still called shows only when a caller sends a request. Here a request can be sent through the
  SDK's threads as if the hub had sent it.
- A message to an input is acknowledged (PUBACK) as soon as it is in one of the SDK's queues: a crash before its handler
  has run loses it. Here it is taken in paho-mqtt's network thread, which acknowledges it only afterwards. PUBACKs
  cannot be sent later than that: they have to be in the order of the messages (MQTT 3.1.1, 4.6), and the edge hub's
  gateway ignores each one that is not, so that it would wait for all that follow.

- What waits for the time to renew the token wakes up each second, so that a device that slept notices. Here it does so
  every half a minute: the token is renewed two minutes before its end.

The SDK's own refresh of desired properties after a reconnect is turned off by a public option: it repeats the request
at once, without end, when the hub responds with an error. The module fetches the twin itself.
"""

# mypy: disallow-untyped-calls=False
# ruff: noqa: SLF001
# The two lines above: private parts are this file's purpose, and the SDK has no types for them.

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.iot.device import Message, MethodRequest
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.common import alarm
from azure.iot.device.common.async_adapter import AwaitableCallback, emulate_async
from azure.iot.device.common.auth.sastoken import SasTokenError
from azure.iot.device.common.pipeline import pipeline_thread
from azure.iot.device.common.pipeline.pipeline_events_mqtt import IncomingMQTTMessageEvent
from azure.iot.device.common.pipeline.pipeline_ops_mqtt import MQTTSubscribeOperation
from azure.iot.device.common.pipeline.pipeline_stages_mqtt import MQTTTransportStage
from azure.iot.device.iothub.aio.async_clients import handle_result
from azure.iot.device.iothub.pipeline import constant, mqtt_topic_iothub
from azure.iot.device.iothub.pipeline.pipeline_events_iothub import (
    MethodRequestEvent,
    TwinDesiredPropertiesPatchEvent,
)
from azure.iot.device.iothub.pipeline.pipeline_stages_iothub_mqtt import IoTHubMQTTTranslationStage

from iot.sftp.client._base.text import shortened
from iot.sftp.module._hub.input_message import InputMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from typing import NoReturn

__all__ = [
    "INPUTS",
    "METHODS",
    "TWIN",
    "Handlers",
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
INPUTS = (constant.INPUT_MSG,)
QOS = 1  # of the SDK's subscriptions
REFUSED = 0x80  # MQTT 3.1.1, 3.9.3: the return code for a topic that is not subscribed to
MESSAGE_ID_MAXIMUM = 128  # characters, IoT Hub's limit: a longer one could not be sent back


ALARM_PERIOD = 30.0  # seconds


class _RareAlarm(alarm.Alarm):
    """The SDK's alarm, which looks at the clock less often."""

    def run(self) -> None:
        while not self.finished.is_set() and (left := self.alarm_time - time.time()) > 0:
            self.finished.wait(min(left, ALARM_PERIOD))
        if not self.finished.is_set():
            self.function(*self.args, **self.kwargs)
        self.finished.set()


class SubscriptionRefusedError(Exception):
    """The hub has refused to subscribe."""


@dataclass(frozen=True)
class Malformed:
    """Takes the place of a payload that is not valid JSON: the reason."""

    reason: str


@dataclass(frozen=True)
class Handlers:
    """Coroutines that the SDK calls in an event loop of its own.

    Attributes:
        on_request: for each direct method.
        on_desired: for each change of the desired properties.
        on_state_change: whenever the connection was made or lost.
        on_background_exception: for an exception in one of the SDK's threads.
        on_input: a function that is called for each message to an input, in the thread that sends and receives
            everything: it blocks until the message may be acknowledged, which is a matter of moments. Never raises.
    """

    on_request: Callable[[MethodRequest], Awaitable[None]]
    on_desired: Callable[[Any], Awaitable[None]]
    on_state_change: Callable[[], Awaitable[None]]
    on_background_exception: Callable[[Exception], Awaitable[None]]
    on_input: Callable[[InputMessage], None]


def create_client() -> IoTHubModuleClient:
    """Create a client from the environment that the edge agent sets; asks the workload API.

    Raises:
        OSError: the environment is incomplete, or the workload API cannot be reached.
        ValueError: the environment holds something that cannot be used.
    """
    alarm.Alarm = _RareAlarm  # type: ignore[misc] # where the SDK looks for its own
    client = IoTHubModuleClient.create_from_edge_environment(ensure_desired_properties=False)
    _deliver_every_message(client)
    _send_without_delay(client)
    _notice_refusals(client)
    return client


def set_handlers(client: IoTHubModuleClient, handlers: Handlers) -> None:
    """Set the handlers of a client that has none; requests and desired properties have to be subscribed to as well."""
    manager: Any = client._handler_manager
    manager.on_method_request_received = handlers.on_request
    manager.on_twin_desired_properties_patch_received = handlers.on_desired
    manager.on_connection_state_change = handlers.on_state_change
    manager.on_background_exception = handlers.on_background_exception
    _take_inputs(client, handlers.on_input)


async def subscribe(client: IoTHubModuleClient, features: Iterable[str]) -> None:
    """Subscribe, also to what the client takes for subscribed to: the broker may have lost it.

    Raises:
        SubscriptionRefusedError: the hub has refused one.
        Exception: the SDK's.
    """
    with _raising_refusals(client):
        for feature in features:
            client._mqtt_pipeline.feature_enabled[feature] = False
            await client._enable_feature(feature)


async def subscribe_again(client: IoTHubModuleClient, features: Iterable[str]) -> None:
    """Subscribe to what is subscribed to, with one packet for all (MQTT 3.1.1, 3.8.3): the least that a hub answers.

    Raises:
        SubscriptionRefusedError: the hub has refused one.
        Exception: the SDK's.
    """
    pipeline: Any = client._mqtt_pipeline
    pipeline._verify_running()
    topics = _topics(client)
    acknowledged = AwaitableCallback()
    operation = MQTTSubscribeOperation([(topics[feature], QOS) for feature in features], acknowledged)
    with _raising_refusals(client):
        await emulate_async(pipeline._pipeline.run_op)(operation)
        await handle_result(acknowledged)


def deliver(client: IoTHubModuleClient, request: MethodRequest) -> None:
    """Send a method request through the SDK's threads to the handler, as if the hub had sent it."""
    stage = find_stage(client, IoTHubMQTTTranslationStage)
    pipeline_thread.invoke_on_pipeline_thread_nowait(stage.send_event_up)(MethodRequestEvent(request))


def shut_down(client: IoTHubModuleClient) -> None:
    """Leave the hub and end the client's threads; blocks, since the SDK waits for its handlers.

    Raises:
        Exception: the SDK's.
    """
    asyncio.run(client.shutdown())


def parse_payload(payload: bytes) -> Any:
    """Parse the JSON (RFC 8259) of a message; an empty one counts as `null`. Never raises."""
    try:
        return json.loads(payload.decode("utf-8") or "null", parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return Malformed("it is not UTF-8")
    except RecursionError:
        return Malformed("it is nested too deeply")
    except ValueError as error:  # JSONDecodeError, which names the position only; an integer of 5,000 digits
        return Malformed(shortened(str(error), 200))


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def find_stage(client: IoTHubModuleClient, kind: type[Any]) -> Any:
    """Return the stage of the client's MQTT pipeline that has this class.

    Raises:
        LookupError: there is none: the SDK differs from the version that this file was written for.
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
            # Only a signal to fetch the twin: one that cannot be parsed is still that
            stage.send_event_up(TwinDesiredPropertiesPatchEvent(parse_payload(event.payload)))
        else:
            handle_event(event)

    stage._handle_pipeline_event = deliver


def _topics(client: IoTHubModuleClient) -> dict[str, str]:
    """Return the topics to subscribe to, by the features that they are for."""
    configuration = client._mqtt_pipeline.pipeline_configuration
    return {
        constant.TWIN: mqtt_topic_iothub.get_twin_response_topic_for_subscribe(),
        constant.TWIN_PATCHES: mqtt_topic_iothub.get_twin_patch_topic_for_subscribe(),
        constant.METHODS: mqtt_topic_iothub.get_method_topic_for_subscribe(),
        constant.INPUT_MSG: mqtt_topic_iothub.get_input_topic_for_subscribe(
            configuration.device_id, configuration.module_id
        ),
    }


def _notice_refusals(client: IoTHubModuleClient) -> None:
    mqtt_client = find_stage(client, MQTTTransportStage).transport._mqtt_client
    on_subscribe = mqtt_client.on_subscribe
    mqtt_client.refusals = 0

    def notice(client: object, userdata: object, number: int, return_codes: Iterable[int]) -> None:
        mqtt_client.refusals += any(code >= REFUSED for code in return_codes)
        on_subscribe(client, userdata, number, return_codes)

    mqtt_client.on_subscribe = notice


@contextmanager
def _raising_refusals(client: IoTHubModuleClient) -> Iterator[None]:
    """Raise an error if the hub refuses a subscription meanwhile: there is one call at a time that subscribes."""
    mqtt_client = find_stage(client, MQTTTransportStage).transport._mqtt_client
    before = mqtt_client.refusals
    yield
    if mqtt_client.refusals > before:
        message = "the hub refuses to let this module subscribe: are its identity and its permissions there?"
        raise SubscriptionRefusedError(message)


def _take_inputs(client: IoTHubModuleClient, take: Callable[[InputMessage], None]) -> None:
    def on_message(_client: object, _userdata: object, received: Any) -> None:
        take(_input_message(received.topic, received.payload))

    # A callback for these topics takes the place of the SDK's own one, and its end is followed by the PUBACK
    find_stage(client, MQTTTransportStage).transport._mqtt_client.message_callback_add(
        _topics(client)[constant.INPUT_MSG], on_message
    )


def _input_message(topic: str, body: bytes) -> InputMessage:
    """Return a message; the topic holds its properties, and may hold anything."""
    name, message = "", Message(body)
    with suppress(ValueError):
        name = mqtt_topic_iothub.get_input_name_from_topic(topic)
        mqtt_topic_iothub.extract_message_properties_from_topic(topic, message)
    properties = message.custom_properties
    sender = "/".join(str(properties[key]) for key in ("$.cdid", "$.cmid") if properties.get(key))
    message_id = message.message_id if 0 < len(message.message_id or "") <= MESSAGE_ID_MAXIMUM else None
    return InputMessage(name, bytes(body), message_id, sender)


def _send_without_delay(client: IoTHubModuleClient) -> None:
    def configure(_client: object, _userdata: object, opened: socket.socket) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    transport = find_stage(client, MQTTTransportStage).transport
    transport._mqtt_client.on_socket_open = configure
