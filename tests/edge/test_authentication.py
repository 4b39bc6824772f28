"""Who may connect to the edge hub, and what a client may do there."""

from __future__ import annotations

import asyncio
import base64
import queue
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt  # type: ignore[import-untyped]
import pytest
from azure.iot.device.aio import IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError

from localedge import LocalEdge
from localedge._identity import ModuleIdentity
from localedge._tokens import make_token

ACCEPTED, NOT_AUTHORIZED = 0, 5
REFUSED_SUBSCRIPTION = 0x80
LIMIT = 20  # seconds for anything on the loopback interface


def identity_of(edge: LocalEdge) -> ModuleIdentity:
    return edge._runtime.identity


def credentials(edge: LocalEdge, **changes: str) -> dict[str, str]:
    identity = identity_of(edge)
    valid = {
        "client_id": identity.client_id,
        "user_name": f"{identity.hub}/{identity.client_id}/?api-version=2019-10-01&DeviceClientType=test",
        "password": make_token(identity.resource, identity.key),
    }
    return {**valid, **changes}


class Client:
    """paho's client, with what happens to it in a queue."""

    def __init__(self, edge: LocalEdge, client_id: str, user_name: str, password: str) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        self.client = mqtt.Client(client_id, clean_session=False, reconnect_on_failure=False)
        self.client.username_pw_set(user_name, password)
        self.client.tls_set_context(ssl.create_default_context(cafile=str(edge.authority_file)))
        self.client.on_connect = lambda _client, _data, flags, code: self.events.put((code, flags["session present"]))
        self.client.on_subscribe = lambda _client, _data, _id, granted: self.events.put(granted)
        self.client.on_disconnect = lambda _client, _data, _code: self.events.put("disconnected")
        self.client.on_message = lambda _client, _data, message: self.events.put((message.topic, message.payload))
        self.client.connect(edge.address, 8883)
        self.client.loop_start()

    def event(self) -> Any:
        return self.events.get(timeout=LIMIT)


@contextmanager
def connected(edge: LocalEdge, **changes: str) -> Iterator[Client]:
    client = Client(edge, **credentials(edge, **changes))
    try:
        yield client
    finally:
        client.client.disconnect()
        client.client.loop_stop()


def test_a_client_with_the_modules_names_and_token_is_accepted(empty_edge: LocalEdge) -> None:
    with connected(empty_edge) as client:
        assert client.event() == (ACCEPTED, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {"client_id": "local-device/other"},
        lambda _: {"client_id": "other-device/sftp"},
        lambda _: {"user_name": "other-hub/local-device/sftp/?api-version=2019-10-01"},
        lambda _: {"user_name": "localedge/local-device/sftp/?DeviceClientType=test"},
        lambda _: {"user_name": ""},
        lambda _: {"password": ""},
        lambda _: {"password": "SharedAccessSignature sr=a&sig=b"},
        lambda _: {"password": "SharedAccessSignature sr=localedge%2Fdevices%2Flocal-device&sig=b&se=soon"},
        lambda identity: {"password": make_token(identity.resource, b"another key")},
        lambda identity: {"password": make_token(identity.resource + "2", identity.key)},
        lambda identity: {"password": make_token(identity.resource, identity.key, lifetime=-1)},
    ],
    ids=[
        "unknown module",
        "unknown device",
        "another hub",
        "no api-version",
        "no user name",
        "no token",
        "a token without expiry",
        "a token whose expiry is no number",
        "a token signed with another key",
        "a token for another resource",
        "an expired token",
    ],
)
def test_a_client_is_not_authorised_with(empty_edge: LocalEdge, change: Any) -> None:
    with connected(empty_edge, **change(identity_of(empty_edge))) as client:
        assert client.event() == (NOT_AUTHORIZED, 0)


def test_a_refused_client_does_not_disturb_the_connected_module(edge: LocalEdge) -> None:
    with connected(edge, password=make_token(identity_of(edge).resource, b"another key")) as client:
        assert client.event() == (NOT_AUTHORIZED, 0)
    assert edge.invoke("sftp", "still-there")[0] == 200


def test_a_second_connection_of_a_module_takes_over_and_is_served(empty_edge: LocalEdge) -> None:
    with connected(empty_edge) as first:
        assert first.event() == (ACCEPTED, 0)
        first.client.subscribe("$iothub/methods/POST/#", 1)
        assert first.event() == (1,)
        with connected(empty_edge) as second:
            assert second.event() == (ACCEPTED, 1)
            assert first.event() == "disconnected"
            call = empty_edge.submit("sftp", "hello", {"a": 1})
            topic, payload = second.event()
            assert payload == b'{"a":1}'
            second.client.publish(topic.replace("POST/hello", "res/201"), '"done"', 1)
            assert call.result(LIMIT) == (201, "done")


@pytest.mark.parametrize(
    "topic_filter", ["#", "$iothub/#", "devices/other/modules/sftp/inputs/#", "$iothub/methods/POST/one/#"]
)
def test_subscribing_to_what_is_not_the_modules_own_is_refused(empty_edge: LocalEdge, topic_filter: str) -> None:
    with connected(empty_edge) as client:
        client.event()
        client.client.subscribe(topic_filter, 1)
        assert client.event() == (REFUSED_SUBSCRIPTION,)


def test_publishing_to_what_is_not_the_modules_own_ends_the_connection(empty_edge: LocalEdge) -> None:
    with connected(empty_edge) as client:
        client.event()
        client.client.publish("devices/other/modules/sftp/messages/events/", b"{}", 1)
        assert client.event() == "disconnected"
    assert empty_edge.messages == []


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2 is deprecated")  # in the SDK
def test_the_sdk_with_a_wrong_key_gets_a_credential_error(empty_edge: LocalEdge) -> None:
    key = base64.b64encode(b"another key").decode()

    async def connect() -> None:
        client = IoTHubModuleClient.create_from_connection_string(
            f"HostName=localedge;DeviceId=local-device;ModuleId=sftp;SharedAccessKey={key}"
            f";GatewayHostName={empty_edge.address}",
            server_verification_cert=empty_edge.authority_file.read_text(),
        )
        try:
            await client.connect()
        finally:
            await client.shutdown()

    with pytest.raises(CredentialError):
        asyncio.run(connect())


def test_tokens_can_be_refused_for_a_while(edge: LocalEdge) -> None:
    edge.refuse_tokens()
    with connected(edge) as client:
        assert client.event() == (NOT_AUTHORIZED, 0)
    edge.refuse_tokens(refuse=False)
    with connected(edge) as client:
        assert client.event() == (ACCEPTED, 1)


def test_the_brokers_side_of_a_connection_does_not_wait_to_fill_packets(edge: LocalEdge) -> None:
    broker = edge._runtime.hub._broker
    (connection,) = broker._connections
    option = connection._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert option != 0
