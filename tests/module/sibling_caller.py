"""A module that calls a direct method of the module `sftp` through the edge hub, and prints the answer."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from azure.iot.device.aio import IoTHubModuleClient


async def main() -> None:
    """Call what the arguments name."""
    method, payload = sys.argv[1:]
    client = IoTHubModuleClient.create_from_edge_environment()
    parameters = {
        "methodName": method,
        "payload": json.loads(payload),
        "connectTimeoutInSeconds": 5,
        "responseTimeoutInSeconds": 30,
    }
    answer = await client.invoke_method(parameters, os.environ["IOTEDGE_DEVICEID"], "sftp")
    print("answer:", json.dumps(answer), flush=True)  # noqa: T201 - a module's log is its stdout
    await asyncio.sleep(3600)  # until it is ended: the edge agent would start it again


asyncio.run(main())
