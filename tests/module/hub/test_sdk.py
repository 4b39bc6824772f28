"""The private parts of azure-iot-device that the module uses are where they were: here a newer SDK fails first."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.common import alarm
from azure.iot.device.common.pipeline import pipeline_stages_base
from azure.iot.device.common.pipeline.pipeline_events_mqtt import IncomingMQTTMessageEvent
from azure.iot.device.common.pipeline.pipeline_stages_mqtt import MQTTTransportStage
from azure.iot.device.iothub.pipeline.pipeline_stages_iothub_mqtt import IoTHubMQTTTranslationStage

from iot.sftp.module._hub import sdk
from iot.sftp.module._hub.input_message import InputMessage
from iot.sftp.module._hub.sdk import INPUTS, METHODS, TWIN, Malformed, find_stage

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
    assert {*METHODS, *TWIN, *INPUTS} <= set(client._mqtt_pipeline.feature_enabled)
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
    pipeline_thread._get_named_executor("callback").submit(lambda: None).result(60)


def _publish(client: IoTHubModuleClient, topic: str, payload: bytes) -> list[str]:
    """Let a message of QoS 1 arrive as paho-mqtt's network thread does it; return what happened, in its order."""
    mqtt = find_stage(client, MQTTTransportStage).transport._mqtt_client
    happened: list[str] = []
    sdk._take_inputs(client, lambda message: happened.append(f"taken {message}"))
    mqtt._send_puback = lambda mid: happened.append(f"acknowledged {mid}")
    name = topic.encode()
    body = struct.pack("!H", len(name)) + name + struct.pack("!H", 7) + payload
    mqtt._in_packet.update(command=0x30 | 0x02, packet=body)  # PUBLISH, QoS 1
    mqtt._handle_publish()
    return happened


def test_a_message_to_an_input_is_acknowledged_only_when_it_was_taken(client: IoTHubModuleClient) -> None:
    topic = "devices/device/modules/sftp/inputs/calls/%24.mid=a%2F1&%24.cdid=device&%24.cmid=camera&own=x"
    expected = InputMessage("calls", b"{}", "a/1", "device/camera")
    assert _publish(client, topic, b"{}") == [f"taken {expected}", "acknowledged 7"]


@pytest.mark.parametrize(
    "rest, expected",
    [
        ("calls", InputMessage("calls", b"")),
        ("calls/", InputMessage("calls", b"")),
        ("calls/%24.mid=", InputMessage("calls", b"")),
        ("calls/%24.mid", InputMessage("calls", b"")),
        ("calls/%24.mid=" + "x" * 129, InputMessage("calls", b"")),
        ("a%2Fb/%FF=%FE&&=", InputMessage("a/b", b"")),
    ],
)
def test_whatever_properties_a_message_has_it_is_taken(
    client: IoTHubModuleClient, rest: str, expected: InputMessage
) -> None:
    assert _publish(client, f"devices/device/modules/sftp/inputs/{rest}", b"") == [
        f"taken {expected}",
        "acknowledged 7",
    ]


def test_messages_of_other_kinds_still_reach_the_sdk(client: IoTHubModuleClient) -> None:
    received: list[Any] = []
    transport = find_stage(client, MQTTTransportStage).transport
    transport.on_mqtt_message_received_handler = lambda topic, _payload: received.append(topic)
    assert _publish(client, "$iothub/methods/POST/exists/?$rid=1", b"{}") == ["acknowledged 7"]
    assert received == ["$iothub/methods/POST/exists/?$rid=1"]


def test_the_alarm_for_the_token_goes_off_in_time_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[str] = []
    sdk._RareAlarm(time.time() - 1, rung.append, args=["past"]).run()
    sdk._RareAlarm(time.time() + 0.02, rung.append, args=["soon"]).run()
    monkeypatch.setattr(sdk, "ALARM_PERIOD", 100_000.0)
    cancelled = sdk._RareAlarm(time.time() + 100_000, rung.append, args=["never"])
    cancelled.start()
    cancelled.cancel()
    cancelled.join()
    assert rung == ["past", "soon"]
    assert vars(pipeline_stages_base)["alarm"] is alarm  # where the SDK looks for it
    assert set(vars(alarm.Alarm(0, rung.append))) >= {"alarm_time", "function", "args", "kwargs", "finished"}
