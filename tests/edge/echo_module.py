"""The smallest module, on the real SDK: it answers what it is asked, and reports what it is told."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from azure.iot.device import Message, MethodRequest, MethodResponse
from azure.iot.device.aio import IoTHubModuleClient

from iot.sftp.module._hub.paho import survive_broken_connections

EXIT_STATUS_OF_CRASH = 3


class EchoModule:
    """Answers `crash`, `silence`, `large`, `send` and `report` as their names say, and echoes all else."""

    def __init__(self) -> None:
        survive_broken_connections()  # else a connection that breaks in the middle of a write is never noticed
        self.client = IoTHubModuleClient.create_from_edge_environment()
        self.taken = 0

    async def start(self) -> None:
        """Connect, and listen to twin and methods.

        The order matters. With the handler of patches set before the twin was asked for once, the SDK asks for the
        twin at the first connect without listening to the answer; it then waits for that answer without end, and
        delivers no document after any reconnect. And who takes methods counts as connected: so they come last.
        """
        await self.client.connect()
        await self.client.get_twin()
        self.client.on_twin_desired_properties_patch_received = self.desired_changed
        self.client.on_message_received = self.take
        self.client.on_method_request_received = self.answer

    async def answer(self, request: MethodRequest) -> None:
        """Answer a direct method, mostly."""
        if request.name == "crash":
            os._exit(EXIT_STATUS_OF_CRASH)
        if request.name == "silence":
            return
        status, payload = await self.carry_out(request.name, request.payload)
        await self.client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))

    async def carry_out(self, name: str, payload: Any) -> tuple[int, Any]:
        """Return status and payload of an answer."""
        if name == "large":
            return 200, "x" * payload
        if name == "refuse":
            return 409, {"message": "refused"}
        if name == "send":
            message = Message(payload, content_type="application/json")  # type: ignore[no-untyped-call]
            message.custom_properties["colour"] = "blue & green"
            await self.client.send_message_to_output(message, "tasks")
            return 200, None
        if name == "report":
            try:
                await self.client.patch_twin_reported_properties(payload)
            except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
                return 500, repr(error.__cause__ or error)
            return 200, (await self.client.get_twin())["reported"]
        return 200, {"method": name, "payload": payload}

    async def take(self, message: Message) -> None:
        """Report a message to an input."""
        name = f"taken-{self.taken}"
        self.taken += 1
        sender = message.custom_properties["$.cmid"]
        taken = [message.input_name, message.data.decode(), message.message_id, sender]
        await self.client.patch_twin_reported_properties({"taken": {name: taken}})

    async def desired_changed(self, patch: dict[str, Any]) -> None:
        """Report what a patch held."""
        version = patch.pop("$version")
        seen: dict[str, Any] = {"version": version, "keys": sorted(patch)}
        await self.client.patch_twin_reported_properties({"seen": seen})


async def main() -> None:
    """Connect, and answer until SIGTERM."""
    stop = asyncio.Event()
    if os.environ.get("ECHO_IGNORES_SIGTERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    module = EchoModule()
    await module.start()
    print("<6> connected", flush=True)  # noqa: T201 - a module's log is its stdout
    await stop.wait()
    await module.client.shutdown()


asyncio.run(main())
