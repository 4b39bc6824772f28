"""Calls the service API of a runtime that runs somewhere else, as a cloud-side application would."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from localedge._errors import HubError, LocalEdgeError
from localedge._tokens import make_token

_API_VERSION = "2021-04-12"
_LOOK_PERIOD = 0.2  # seconds between two looks at a job
_GRACE = 10
"""Seconds that the hub has beyond the time limits of a method call to word its answer."""


class ServiceClient:
    """Calls methods and changes twins through IoT Hub's REST API.

    `authority` is the PEM of the certificate to trust. Each call raises `HubError` for what the hub refuses, and
    `LocalEdgeError` if it cannot be reached.
    """

    def __init__(self, connection_string: str, authority: str, device: str) -> None:
        fields = dict(part.partition("=")[::2] for part in connection_string.split(";"))
        self._host = fields["HostName"]
        self._policy = fields["SharedAccessKeyName"]
        self._key = base64.b64decode(fields["SharedAccessKey"])
        self._device = device
        self._context = ssl.create_default_context(cadata=authority)

    def invoke(
        self, module: str, method: str, payload: object = None, *, timeout: int = 30, connect_timeout: int = 0
    ) -> tuple[int, Any]:
        """Call a direct method; return the module's status and payload."""
        request = {
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": timeout,
            "connectTimeoutInSeconds": connect_timeout,
        }
        answer = self._request("POST", f"{self._twin(module)}/methods", request, timeout + connect_timeout + _GRACE)
        return answer["status"], answer["payload"]

    def twin(self, module: str) -> dict[str, Any]:
        """Return a module's twin."""
        twin: dict[str, Any] = self._request("GET", self._twin(module))
        return twin

    def patch_desired(self, module: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge `patch` into a module's desired properties; return the twin."""
        twin: dict[str, Any] = self._request("PATCH", self._twin(module), {"properties": {"desired": patch}})
        return twin

    def run_job(
        self, condition: str, module: str, method: str, payload: object, *, timeout: int = 30
    ) -> list[dict[str, Any]]:
        """Call a direct method on the modules that a condition holds of, as one job; return each outcome."""
        name = f"localedge-{uuid.uuid4().hex[:8]}"
        query = f"FROM devices.modules WHERE moduleId = '{module}'" + (f" AND {condition}" if condition else "")
        call = {"methodName": method, "payload": payload, "responseTimeoutInSeconds": timeout}
        request = {"jobId": name, "type": "scheduleDeviceMethod", "queryCondition": query, "cloudToDeviceMethod": call}
        job = self._request("PUT", f"/jobs/v2/{name}", request)
        while job["status"] == "running":
            time.sleep(_LOOK_PERIOD)
            job = self._request("GET", f"/jobs/v2/{name}")
        query = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{name}'"  # noqa: S608 - ours
        outcomes: list[dict[str, Any]] = self._request("POST", "/devices/query", {"query": query})
        return outcomes

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages that modules have sent, the oldest first."""
        messages: list[dict[str, Any]] = self._request("GET", "/localedge/messages")
        return messages

    def _twin(self, module: str) -> str:
        return f"/twins/{quote(self._device, safe='')}/modules/{quote(module, safe='')}"

    def _request(self, method: str, path: str, body: object = None, timeout: float = 30) -> Any:
        """Send a request; return the JSON of the answer."""
        # http.client and not urllib: it looks at no proxy settings, and a loopback address has no business with one.
        connection = http.client.HTTPSConnection(self._host, timeout=timeout, context=self._context)
        headers = {
            "Authorization": make_token(self._host, self._key, policy=self._policy),
            "Content-Type": "application/json",
        }
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, f"{path}?api-version={_API_VERSION}", data, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LocalEdgeError(f"No answer from the service API at {self._host}: {error}") from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            details = json.loads(answer["Message"])
            raise HubError(response.status, details["errorCode"], details["message"])
        return answer
