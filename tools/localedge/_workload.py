"""The workload API: what a module asks the IoT Edge security daemon for, over a unix socket.

Two calls, as azure-iot-device's edge client makes them: the trust bundle, and a signature with the module's key,
which the module itself never sees. Source: "edgelet workload API" 2018-06-28 in the IoT Edge repository.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from localedge._identity import ModuleIdentity
from localedge._tokens import sign

API_VERSION = "2019-01-30"
"""The version that a module is told to ask for."""


class WorkloadApi:
    """Serves the trust bundle and the modules' signatures on the unix socket `socket`."""

    def __init__(self, socket: Path, authority: str, modules: Mapping[str, ModuleIdentity]) -> None:
        self.socket = socket
        self._authority = authority
        self._modules = modules
        application = web.Application()
        application.router.add_get("/trust-bundle", self._trust_bundle)
        application.router.add_post("/modules/{module}/genid/{generation}/sign", self._sign)
        self._runner = web.AppRunner(application, access_log=None)

    @property
    def uri(self) -> str:
        """The value of IOTEDGE_WORKLOADURI."""
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Listen."""
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        """Stop listening, and remove the socket."""
        await self._runner.cleanup()
        self.socket.unlink(missing_ok=True)

    async def _trust_bundle(self, request: web.Request) -> web.Response:
        if "api-version" not in request.query:
            return _refusal(400, "the query parameter api-version is missing")
        return web.json_response({"certificate": self._authority})

    async def _sign(self, request: web.Request) -> web.Response:
        if "api-version" not in request.query:
            return _refusal(400, "the query parameter api-version is missing")
        name = request.match_info["module"]
        identity = self._modules.get(name)
        if identity is None:
            return _refusal(404, f"there is no module {name!r}")
        if request.match_info["generation"] != identity.generation_id:
            return _refusal(404, f"the module {name!r} has another generation id: it was created again")
        try:
            # Not request.json(): the SDK sends this JSON without a content type.
            data = _data_to_sign(json.loads(await request.read()))
        except (ValueError, binascii.Error) as error:
            return _refusal(400, f"the request cannot be used: {error}")
        return web.json_response({"digest": sign(identity.key, data)})


def _data_to_sign(request: object) -> bytes:
    if not isinstance(request, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - every wrong request is a ValueError to the caller
    if request.get("keyId") != "primary":
        raise ValueError(f"keyId is {request.get('keyId')!r}, not 'primary'")
    if request.get("algo") != "HMACSHA256":
        raise ValueError(f"algo is {request.get('algo')!r}, not 'HMACSHA256'")
    return base64.b64decode(str(request.get("data", "")), validate=True)


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
