"""A module beside `sftp`: it has each picture of a folder uploaded, and deletes it when it has arrived.

It needs no cloud, only the edge hub: it sends a message for each picture, and gets the answer as a message.

    camera, output `calls`   -> sftp, input `calls`
    sftp, output `answers`   -> camera, input `answers`

Both modules see the same folder of the device: PICTURES here, below SFTP_LOCAL_ROOT there.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path

from azure.iot.device import Message
from azure.iot.device.aio import IoTHubModuleClient

PICTURES = Path(os.environ.get("PICTURES", "/data/pictures"))
PERIOD = float(os.environ.get("PERIOD", "5"))
"""Seconds between two looks into the folder."""
PATIENCE = 60.0
"""Seconds until a message without an answer is sent again: the same id makes it a repeat, which is not done twice."""


class Camera:
    """Sends calls to the module `sftp`, and waits for their answers."""

    def __init__(self, client: IoTHubModuleClient) -> None:
        """Use a client that is connected, in the running event loop."""
        self.client = client
        self.answers: dict[str | None, asyncio.Future[tuple[int, object]]] = {}
        self.loop = asyncio.get_running_loop()

    async def take(self, message: Message) -> None:
        """Take an answer; the SDK calls this in a thread of its own."""
        if message.input_name == "answers":
            self.loop.call_soon_threadsafe(self.settle, message.correlation_id, json.loads(message.data))

    def settle(self, call: str | None, answer: dict[str, object]) -> None:
        """Give an answer to whoever waits for it; it may come twice."""
        waiting = self.answers.get(call)
        if waiting is not None and not waiting.done():
            waiting.set_result((int(str(answer["status"])), answer["payload"]))

    async def call(self, method: str, payload: dict[str, object]) -> tuple[int, object]:
        """Call a method of the module `sftp`; return status and payload, however long that takes."""
        name = str(uuid.uuid4())
        waiting: asyncio.Future[tuple[int, object]] = self.loop.create_future()
        self.answers[name] = waiting
        body = json.dumps({"method": method, "payload": payload})
        while not waiting.done():
            message = Message(body, message_id=name)  # type: ignore[no-untyped-call]
            await self.client.send_message_to_output(message, "calls")
            await asyncio.wait({waiting}, timeout=PATIENCE)
        del self.answers[name]
        return waiting.result()


def pictures() -> list[Path]:
    """Return the pictures that are there."""
    return sorted(PICTURES.glob("*.jpg"))


async def main() -> None:
    """Upload pictures until the process is ended."""
    client = IoTHubModuleClient.create_from_edge_environment()
    await client.connect()
    camera = Camera(client)
    client.on_message_received = camera.take
    print("<6> connected", flush=True)
    while True:
        for picture in await asyncio.to_thread(pictures):
            source, dest = f"{PICTURES.name}/{picture.name}", f"pictures/{picture.name}"
            status, answer = await camera.call("upload_file", {"source": source, "dest": dest})
            print(f"<6> {picture.name}: {status} {json.dumps(answer)}", flush=True)
            if status == 200:  # noqa: PLR2004 - HTTP's
                picture.unlink()
        await asyncio.sleep(PERIOD)


if __name__ == "__main__":
    asyncio.run(main())
