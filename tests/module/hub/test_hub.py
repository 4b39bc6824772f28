"""The connection to the edge hub, as far as it needs no hub."""

from __future__ import annotations

import asyncio

import pytest
from azure.iot.device import exceptions

from iot.sftp.module._hub.hub import Hub, HubLost
from iot.sftp.module._hub.response import Response


def test_nothing_is_asked_of_a_hub_that_is_not_there() -> None:
    async def answer(_name: str, _payload: object, _received: float) -> Response:
        return Response(200, None)

    async def connected() -> None:
        return None

    async def scenario() -> None:
        hub = Hub(answer, connected, lambda _patch: None)
        with pytest.raises(exceptions.NoConnectionError):
            await hub.get_twin()
        with pytest.raises(exceptions.NoConnectionError):
            await hub.report({})
        await hub.close(1)

    asyncio.run(scenario())


def test_a_lost_hub_is_an_error_of_its_own() -> None:
    assert not issubclass(HubLost, OSError)
