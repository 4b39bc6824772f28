"""The private parts of azure-iot-device that the module uses are where they were: here a newer SDK fails first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.common.pipeline.pipeline_events_mqtt import IncomingMQTTMessageEvent
from azure.iot.device.common.pipeline.pipeline_stages_mqtt import MQTTTransportStage
from azure.iot.device.iothub.pipeline.pipeline_stages_iothub_mqtt import IoTHubMQTTTranslationStage

from iot.sftp.module._hub import sdk
from iot.sftp.module._hub.sdk import METHODS, TWIN, Malformed, find_stage

# what the SDK says of itself when it makes a client
pytestmark = pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2:DeprecationWarning")

CONNECTION_STRING = "HostName=hub.invalid;DeviceId=device;ModuleId=sftp;SharedAccessKey=c2VjcmV0"


@pytest.fixture
def client() -> Iterator[IoTHubModuleClient]:
    client = IoTHubModuleClient.create_from_connection_string(CONNECTION_STRING, ensure_desired_properties=False)
    sdk._deliver_every_message(client)
    sdk._send_without_delay(client)
    yield client
    asyncio.run(client.shutdown())


def test_the_stages_are_found_and_a_missing_one_is_named(client: IoTHubModuleClient) -> None:
    assert find_stage(client, IoTHubMQTTTranslationStage).next is not None
    transport = find_stage(client, MQTTTransportStage).transport
    assert transport._mqtt_client.on_socket_open is not None
    with pytest.raises(LookupError, match="no str any more"):
        find_stage(client, str)


def test_the_features_are_those_that_the_client_can_enable(client: IoTHubModuleClient) -> None:
    assert {*METHODS, *TWIN} <= set(client._mqtt_pipeline.feature_enabled)
    assert asyncio.iscoroutinefunction(client._enable_feature)


@pytest.mark.parametrize(
    "topic, payload, expected",
    [
        ("$iothub/methods/POST/exists/?$rid=1", b'{"path": "a"}', {"path": "a"}),
        ("$iothub/methods/POST/exists/?$rid=1", b"", None),
        ("$iothub/methods/POST/exists/?$rid=1", b"\xff", Malformed("it is not UTF-8")),
        ("$iothub/twin/PATCH/properties/desired/?$version=2", b'{"$version": 2}', {"$version": 2}),
        ("$iothub/twin/PATCH/properties/desired/?$version=2", b"\xff", Malformed("it is not UTF-8")),
    ],
)
def test_messages_reach_their_handlers_whatever_is_in_them(
    client: IoTHubModuleClient, topic: str, payload: bytes, expected: Any
) -> None:
    received: list[Any] = []
    client._mqtt_pipeline.on_method_request_received = lambda request: received.append(request.payload)
    client._mqtt_pipeline.on_twin_patch_received = received.append
    stage = find_stage(client, IoTHubMQTTTranslationStage)
    _on_pipeline_thread(stage.handle_pipeline_event, IncomingMQTTMessageEvent(topic, payload))
    assert received == [expected]


def _on_pipeline_thread(function: Any, *arguments: Any) -> None:
    from azure.iot.device.common.pipeline import pipeline_thread  # noqa: PLC0415 - private, used here alone

    pipeline_thread.invoke_on_pipeline_thread(function)(*arguments)
    # events are handed on in a thread of their own, one after the other: wait until it is done with them
    pipeline_thread._get_named_executor("callback").submit(lambda: None).result(5)
