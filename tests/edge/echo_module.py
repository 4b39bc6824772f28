"""The smallest module: it answers what it is asked, and reports what it is told. For the tests of localedge."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubModuleClient


async def main() -> None:
    """Connect, and answer until SIGTERM."""
    stop = asyncio.Event()
    if os.environ.get("ECHO_IGNORES_SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = IoTHubModuleClient.create_from_edge_environment()

    async def answer(request):
        if request.name == "crash":
            os._exit(3)
        if request.name == "silence":
            return
        if request.name == "large":
            payload = "x" * request.payload
        elif request.name == "send":
            message = Message(request.payload, content_type="application/json")
            message.custom_properties["colour"] = "blue & green"
            await client.send_message_to_output(message, "tasks")
            payload = None
        elif request.name == "report":
            await client.patch_twin_reported_properties(request.payload)
            payload = None
        else:
            payload = {"method": request.name, "payload": request.payload}
        await client.send_method_response(MethodResponse.create_from_method_request(request, 200, payload))

    async def report(patch):
        await client.patch_twin_reported_properties({"seen": {key: None for key in ()} | patch_for_report(patch)})

    client.on_method_request_received = answer
    client.on_twin_desired_properties_patch_received = report
    await client.connect()
    print("<6> connected", flush=True)
    await stop.wait()
    await client.shutdown()


def patch_for_report(patch):
    """Return a desired patch as a reported property: keys with `$` are not allowed there."""
    return {"version": patch["$version"], "keys": sorted(key for key in patch if key != "$version")}


asyncio.run(main())
sys.exit(0)
