"""The service side: IoT Hub's REST API over HTTPS, as far as twins, methods, queries and jobs of modules go.

It answers azure-iot-hub 2.7.0 as it is. That SDK builds its address as `https://` and the connection string's HostName,
so that a port may be part of HostName (`HostName=127.0.0.1:8443;…`) and no privileged port is needed; the port
then is part of the token's resource, too. It verifies TLS with requests: give it this runtime's authority through
the environment variable REQUESTS_CA_BUNDLE, or set `manager.protocol.config.connection.verify`. For a method without a
payload it sends the empty string, `""`, and so does this hub to the module, as IoT Hub does.

One path is our own: `GET /localedge/messages`, the messages that modules have sent.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from aiohttp import web

from localedge._errors import HubError
from localedge._hub import Hub, Message
from localedge._jobs import Jobs
from localedge._methods import MethodResponse, encode_payload
from localedge._query import parsed
from localedge._tokens import TokenError, check_token

POLICY = "iothubowner"
"""The shared access policy of the connection string."""

_RESPONSE_TIMEOUTS = (5, 300)
_CONNECT_TIMEOUTS = (0, 300)
_DEFAULT_RESPONSE_TIMEOUT = 30
_PAGE = 100  # documents in a page of a query's answer, as IoT Hub by default
_BODY_LIMIT = 1024 * 1024
_SHUTDOWN_LIMIT = 1.0


class ServiceApi:
    """Serves the REST API on `address`; port 0 is any free one."""

    def __init__(self, hub: Hub, address: str, port: int = 0) -> None:
        self._hub = hub
        self._address = address
        self._port = port
        self._key = secrets.token_bytes(32)
        application = web.Application(middlewares=[self._guard], client_max_size=_BODY_LIMIT)
        twin = "/twins/{device}/modules/{module}"
        application.router.add_post(f"{twin}/methods", self._invoke)
        application.router.add_get(twin, self._get_twin)
        application.router.add_patch(twin, self._change_twin)
        application.router.add_put(twin, self._change_twin)
        application.router.add_put("/jobs/v2/{job}", self._create_job)
        application.router.add_get("/jobs/v2/{job}", self._get_job)
        application.router.add_post("/devices/query", self._query)
        application.router.add_get("/localedge/messages", self._messages)
        self._jobs = Jobs(self._twins, self._invoke_for_job)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_LIMIT)

    @property
    def host_name(self) -> str:
        """Where it listens: `address:port`."""
        return f"{self._address}:{self._port}"

    @property
    def connection_string(self) -> str:
        """What a caller needs, in IoT Hub's form."""
        key = base64.b64encode(self._key).decode()
        return f"HostName={self.host_name};SharedAccessKeyName={POLICY};SharedAccessKey={key}"

    async def start(self, context: ssl.SSLContext) -> None:
        """Listen. `OSError` if the port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address, self._port, ssl_context=context)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no more, give up the jobs, and close all connections."""
        await self._jobs.stop()
        connections = self._runner.server.connections if self._runner.server is not None else []
        transports = [connection.transport for connection in connections if connection.transport is not None]
        await self._runner.cleanup()
        # aiohttp's farewell waits for the peer's, and a caller that keeps its connection for later says none.
        for transport in transports:
            with suppress(AttributeError):  # asyncio's TLS transport fails so if it has just been closed
                transport.abort()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in who has a valid token, and word refusals as IoT Hub does."""
        try:
            self._check_token(request)
            return await handler(request)
        except HubError as error:
            return web.json_response(error.body(), status=error.status)
        except web.HTTPException as error:
            return web.json_response(
                HubError(error.status, error.status * 1000, error.reason).body(), status=error.status
            )

    def _check_token(self, request: web.Request) -> None:
        try:
            check_token(request.headers.get("Authorization", ""), self.host_name, self._key, policy=POLICY)
        except TokenError as error:
            raise HubError.unauthorized(f"Unauthorized: {error}.") from None

    def _client_id(self, request: web.Request) -> str:
        return self._hub.client_id(request.match_info["device"], request.match_info["module"])

    async def _invoke(self, request: web.Request) -> web.Response:
        return web.json_response(await self._answer(self._client_id(request), await json_object(request)))

    async def _invoke_for_job(self, device: str, module: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._answer(self._hub.client_id(device, module), body)

    async def _answer(self, client_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return await answer_of_method(self._hub, client_id, body)

    def _twins(self) -> Iterator[dict[str, Any]]:
        return (twin.view() for twin in self._hub.twins())

    async def _create_job(self, request: web.Request) -> web.Response:
        return web.json_response(self._jobs.create(request.match_info["job"], await json_object(request)))

    async def _get_job(self, request: web.Request) -> web.Response:
        return web.json_response(self._jobs.get(request.match_info["job"]))

    async def _query(self, request: web.Request) -> web.Response:
        """Answer a query in pages; the next one begins where the continuation says."""
        query = parsed(str((await json_object(request)).get("query")))
        documents = self._twins() if query.collection == "devices.modules" else self._jobs.outcomes()
        begin = _whole_number(request, "x-ms-continuation", 0)
        end = begin + min(_whole_number(request, "x-ms-max-item-count", _PAGE), _PAGE)
        found = list(islice(filter(query.matches, documents), end + 1))
        headers = {"x-ms-item-type": "json"} | ({"x-ms-continuation": str(end)} if end < len(found) else {})
        return web.json_response(found[begin:end], headers=headers)

    async def _get_twin(self, request: web.Request) -> web.Response:
        return _twin_response(self._hub.twin(self._client_id(request)).for_service())

    async def _change_twin(self, request: web.Request) -> web.Response:
        client_id = self._client_id(request)
        body = await json_object(request)
        etag = request.headers.get("If-Match", "*").strip('"')
        twin = self._hub.change_twin(client_id, body, etag=etag, replace=request.method == "PUT")
        return _twin_response(twin.for_service())

    async def _messages(self, _: web.Request) -> web.Response:
        return web.json_response([_message(message) for message in self._hub.messages])


async def answer_of_method(hub: Hub, client_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Call the direct method that the body of a request describes."""
    name = body.get("methodName")
    if not isinstance(name, str):
        raise HubError.invalid("methodName must be a string.")
    response = await hub.invoke(
        client_id,
        name,
        encode_payload(body.get("payload")),
        timeout=_seconds(body, "responseTimeoutInSeconds", _RESPONSE_TIMEOUTS, _DEFAULT_RESPONSE_TIMEOUT),
        connect_timeout=_seconds(body, "connectTimeoutInSeconds", _CONNECT_TIMEOUTS, 0),
    )
    return {"status": response.status, "payload": payload_of(response)}


def payload_of(response: MethodResponse) -> Any:
    """Return the JSON value of a module's answer; `HubError` 502 if it is none."""
    try:
        return json.loads(response.payload or b"null")
    except ValueError as error:
        raise HubError(
            502, 502000, f"The module answered with status {response.status} and a payload that is not JSON: {error}."
        ) from None


async def json_object(request: web.Request) -> dict[str, Any]:
    """Return the body of a request; `HubError` 400 if it is not a JSON object."""
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise HubError.invalid(f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise HubError.invalid(f"The body must be a JSON object, not {type(body).__name__}.")
    return body


def _whole_number(request: web.Request, header: str, default: int) -> int:
    text = request.headers.get(header, str(default))
    if not text.isdecimal():
        raise HubError.invalid(f"The header {header} must be a whole number, not {text!r}.")
    return int(text)


def _seconds(body: dict[str, Any], name: str, limits: tuple[int, int], default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not limits[0] <= value <= limits[1]:
        raise HubError.invalid(f"{name} must be an integer between {limits[0]} and {limits[1]}, not {value!r}.")
    return value


def _twin_response(twin: dict[str, Any]) -> web.Response:
    return web.json_response(twin, headers={"ETag": f'"{twin["etag"]}"'})


def _message(message: Message) -> dict[str, Any]:
    return {
        "module": message.module,
        "output": message.output,
        "properties": message.properties,
        "body": message.body.decode(errors="replace"),
        "received": message.received.isoformat(),
    }
