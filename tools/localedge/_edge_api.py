"""The edge hub's HTTPS side, for modules that call each other's direct methods: `IoTHubModuleClient.invoke_method`.

The SDK fixes the port, 443. Where this process may not listen on it, there is no such side, as in a deployment with
`httpSettings__enabled` set to false.
"""

from __future__ import annotations

import logging
import ssl

from aiohttp import web

from localedge._errors import HubError
from localedge._hub import Hub
from localedge._service import answer_of_method, json_object
from localedge._tokens import TokenError

PORT = 443
_SHUTDOWN_LIMIT = 1.0

_log = logging.getLogger(__name__)


class EdgeApi:
    """Serves calls between modules."""

    def __init__(self, hub: Hub, address: str) -> None:
        self._hub = hub
        self._address = address
        self.is_there = False
        application = web.Application()
        application.router.add_post("/twins/{device}/modules/{module}/methods", self._invoke)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_LIMIT)

    async def start(self, context: ssl.SSLContext) -> None:
        """Listen, if the port may be used."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address, PORT, ssl_context=context).start()
        except OSError as error:
            _log.info("Modules cannot call each other's methods: port %d cannot be used: %s", PORT, error.strerror)
        else:
            self.is_there = True

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    async def _invoke(self, request: web.Request) -> web.Response:
        try:
            self._hub.check_caller(
                request.headers.get("x-ms-edge-moduleId", ""), request.headers.get("Authorization", "")
            )
            client_id = self._hub.client_id(request.match_info["device"], request.match_info["module"])
            return web.json_response(await answer_of_method(self._hub, client_id, await json_object(request)))
        except TokenError as error:
            refusal = HubError.unauthorized(f"Unauthorized: {error}.")
            return web.json_response(refusal.body(), status=refusal.status)
        except HubError as error:
            return web.json_response(error.body(), status=error.status)
