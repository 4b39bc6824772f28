"""The workload API, asked by the SDK's own client and by requests that it would not make."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
import requests
import requests_unixsocket
from azure.iot.device.iothub.edge_hsm import IoTEdgeError, IoTEdgeHsm

from localedge import LocalEdge


def hsm_of(edge: LocalEdge, **changes: str) -> Any:
    environment = edge.module_environment
    arguments = {
        "module_id": environment["IOTEDGE_MODULEID"],
        "generation_id": environment["IOTEDGE_MODULEGENERATIONID"],
        "workload_uri": environment["IOTEDGE_WORKLOADURI"],
        "api_version": environment["IOTEDGE_APIVERSION"],
    }
    return IoTEdgeHsm(**{**arguments, **changes})  # type: ignore[no-untyped-call]


def sign(edge: LocalEdge, **request: Any) -> requests.Response:
    socket = edge.module_environment["IOTEDGE_WORKLOADURI"].removeprefix("unix://").replace("/", "%2F")
    identity = edge._runtime.identity
    path = f"http+unix://{socket}/modules/sftp/genid/{identity.generation_id}/sign?api-version=2019-01-30"
    with requests_unixsocket.Session() as session:  # type: ignore[no-untyped-call]
        response: requests.Response = session.post(path, json=request)
    return response


def test_the_trust_bundle_is_the_authority(empty_edge: LocalEdge) -> None:
    assert hsm_of(empty_edge).get_certificate() == empty_edge.authority_file.read_text()


def test_a_signature_is_made_with_the_modules_key(empty_edge: LocalEdge) -> None:
    expected = hmac.new(empty_edge._runtime.identity.key, b"data \xc3\xbc", hashlib.sha256).digest()
    assert base64.b64decode(hsm_of(empty_edge).sign("data ü")) == expected


@pytest.mark.parametrize("change", [{"module_id": "other"}, {"generation_id": "1"}])
def test_nothing_is_signed_for_another_module_or_generation(empty_edge: LocalEdge, change: dict[str, str]) -> None:
    with pytest.raises(IoTEdgeError):
        hsm_of(empty_edge, **change).sign("data")


@pytest.mark.parametrize(
    "request_body, message",
    [
        ({"keyId": "secondary", "algo": "HMACSHA256", "data": "YQ=="}, "keyId is 'secondary'"),
        ({"keyId": "primary", "algo": "MD5", "data": "YQ=="}, "algo is 'MD5'"),
        ({"keyId": "primary", "algo": "HMACSHA256", "data": "?"}, "cannot be used"),
    ],
)
def test_a_wrong_request_is_400_with_its_reason(
    empty_edge: LocalEdge, request_body: dict[str, str], message: str
) -> None:
    response = sign(empty_edge, **request_body)
    assert response.status_code == 400
    assert message in response.json()["message"]


def test_what_is_private_is_readable_by_its_user_only(address: str) -> None:
    with LocalEdge(address=address, start_module=False) as edge:
        directory = edge.authority_file.parent
        assert directory.stat().st_mode & 0o777 == 0o700
        assert Path(directory, "server.key").stat().st_mode & 0o777 == 0o600
    assert not directory.exists()
