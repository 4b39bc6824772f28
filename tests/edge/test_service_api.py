"""The service side: the real azure-iot-hub SDK, and what it cannot ask for."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from localedge import HubError, LocalEdge, LocalEdgeError
from localedge._service_client import ServiceClient
from localedge._tokens import make_token

DEVICE = "local-device"


@pytest.fixture
def manager(edge: LocalEdge, monkeypatch: pytest.MonkeyPatch) -> IoTHubRegistryManager:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(edge.authority_file))
    return IoTHubRegistryManager.from_connection_string(edge.connection_string)


def client_of(edge: LocalEdge, connection_string: str | None = None) -> ServiceClient:
    return ServiceClient(connection_string or edge.connection_string, edge.authority_file.read_text(), edge.device)


def request(edge: LocalEdge, path: str, body: bytes, token: str | None = None) -> tuple[int, dict[str, Any]]:
    host = edge._runtime.service.host_name
    key = edge._runtime.service._key
    sending = urllib.request.Request(f"https://{host}{path}", body, method="POST")
    sending.add_header("Authorization", make_token(host, key, policy="iothubowner") if token is None else token)
    context = ssl.create_default_context(cafile=str(edge.authority_file))
    try:
        with urllib.request.urlopen(sending, timeout=30, context=context) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(json.load(error)["Message"])


def invoke(edge: LocalEdge, **body: Any) -> tuple[int, dict[str, Any]]:
    return request(edge, f"/twins/{DEVICE}/modules/sftp/methods", json.dumps(body).encode())


def test_the_sdk_invokes_a_method(manager: IoTHubRegistryManager) -> None:
    method = CloudToDeviceMethod(method_name="echo", payload={"path": "."}, response_timeout_in_seconds=20)
    result = manager.invoke_device_module_method(DEVICE, "sftp", method)
    assert (result.status, result.payload) == (200, {"method": "echo", "payload": {"path": "."}})


def test_the_sdk_sends_an_empty_string_when_there_is_no_payload(manager: IoTHubRegistryManager) -> None:
    result = manager.invoke_device_module_method(DEVICE, "sftp", CloudToDeviceMethod(method_name="echo"))
    assert result.payload == {"method": "echo", "payload": ""}


def test_the_sdk_is_told_that_a_module_does_not_answer(manager: IoTHubRegistryManager) -> None:
    method = CloudToDeviceMethod(method_name="silence", response_timeout_in_seconds=5)
    with pytest.raises(HttpOperationError) as refusal:
        manager.invoke_device_module_method(DEVICE, "sftp", method)
    assert refusal.value.response.status_code == 504


def test_the_sdk_is_told_that_a_module_is_not_known(manager: IoTHubRegistryManager) -> None:
    with pytest.raises(HttpOperationError) as refusal:
        manager.get_module_twin(DEVICE, "other")
    assert refusal.value.response.status_code == 404


def test_the_sdk_reads_and_patches_a_twin(manager: IoTHubRegistryManager, edge: LocalEdge) -> None:
    twin = manager.get_module_twin(DEVICE, "sftp")
    patch = Twin(properties=TwinProperties(desired={"interval": 5}), tags={"site": "north"})
    updated = manager.update_module_twin(DEVICE, "sftp", patch, twin.etag)
    assert updated.properties.desired["interval"] == 5
    assert updated.tags == {"site": "north"}
    assert edge.desired == {"interval": 5, "$version": 2}
    edge.wait_for_reported(lambda reported: reported.get("seen") == {"version": 2, "keys": ["interval"]})


def test_the_sdk_replaces_a_twin_with_what_it_has_read(manager: IoTHubRegistryManager, edge: LocalEdge) -> None:
    edge.patch_desired({"old": 1})
    twin = manager.get_module_twin(DEVICE, "sftp")
    del twin.properties.desired["old"]
    twin.properties.desired["new"] = 2
    manager.replace_module_twin(DEVICE, "sftp", twin, twin.etag)
    assert edge.desired == {"new": 2, "$version": 3}


def test_the_sdk_is_refused_when_the_twin_has_changed_since(manager: IoTHubRegistryManager, edge: LocalEdge) -> None:
    twin = manager.get_module_twin(DEVICE, "sftp")
    edge.patch_desired({"meanwhile": True})
    with pytest.raises(HttpOperationError) as refusal:
        manager.update_module_twin(DEVICE, "sftp", Twin(properties=TwinProperties(desired={"a": 1})), twin.etag)
    assert refusal.value.response.status_code == 412
    assert "a" not in edge.desired


def test_a_caller_without_a_valid_token_is_refused(empty_edge: LocalEdge) -> None:
    host, key = empty_edge._runtime.service.host_name, empty_edge._runtime.service._key
    for token in (
        "",
        make_token(host, key),
        make_token(host, key, policy="device"),
        make_token(host, b"another key", policy="iothubowner"),
        make_token("other-host", key, policy="iothubowner"),
        make_token(host, key, policy="iothubowner", lifetime=-1),
    ):
        status, error = request(empty_edge, f"/twins/{DEVICE}/modules/sftp/methods", b"{}", token)
        assert (status, error["errorCode"]) == (401, 401003)


@pytest.mark.parametrize(
    "body, message",
    [
        ({"methodName": 1}, "methodName must be a string"),
        ({}, "methodName must be a string"),
        ({"methodName": "echo", "responseTimeoutInSeconds": 4}, "between 5 and 300"),
        ({"methodName": "echo", "responseTimeoutInSeconds": 301}, "between 5 and 300"),
        ({"methodName": "echo", "responseTimeoutInSeconds": True}, "between 5 and 300"),
        ({"methodName": "echo", "connectTimeoutInSeconds": -1}, "between 0 and 300"),
        ({"methodName": "x" * 101}, "1 to 100"),
    ],
)
def test_a_wrong_request_is_400_with_its_reason(empty_edge: LocalEdge, body: dict[str, Any], message: str) -> None:
    status, error = invoke(empty_edge, **body)
    assert status == 400
    assert message in error["message"]


def test_a_payload_over_the_limit_is_413(empty_edge: LocalEdge) -> None:
    status, error = invoke(empty_edge, methodName="echo", payload="x" * 131072)
    assert (status, error["errorCode"]) == (413, 413001)


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_400(empty_edge: LocalEdge, body: bytes) -> None:
    status, error = request(empty_edge, f"/twins/{DEVICE}/modules/sftp/methods", body)
    assert status == 400
    assert "body" in error["message"]


def test_an_unknown_path_is_404(empty_edge: LocalEdge) -> None:
    assert request(empty_edge, "/jobs", b"")[0] == 404


def test_our_own_client_calls_patches_and_reads(edge: LocalEdge) -> None:
    client = client_of(edge)
    assert client.invoke("sftp", "echo", [1]) == (200, {"method": "echo", "payload": [1]})
    assert client.patch_desired("sftp", {"a": 1})["properties"]["desired"]["a"] == 1
    assert client.twin("sftp")["version"] == 2
    client.invoke("sftp", "send", "text")
    edge.wait_for_message(lambda message: message.body == b"text")
    (message,) = client.messages()
    assert (message["output"], message["body"]) == ("tasks", "text")


def test_our_own_client_raises_what_the_hub_refuses(empty_edge: LocalEdge) -> None:
    with pytest.raises(HubError, match="waiting for device to connect") as refusal:
        client_of(empty_edge).invoke("sftp", "echo")
    assert (refusal.value.status, refusal.value.code) == (404, 404103)
    assert str(refusal.value).startswith("404 (404103): ")


def test_our_own_client_says_when_nobody_is_there(empty_edge: LocalEdge) -> None:
    port = empty_edge._runtime.service.host_name.partition(":")[2]
    elsewhere = empty_edge.connection_string.replace(f":{port};", ":1;")
    with pytest.raises(LocalEdgeError, match="No answer from the service API"):
        client_of(empty_edge, elsewhere).twin("sftp")
