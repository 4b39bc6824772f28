"""What a rule is given to send meanwhile: each file arrives whole and under its name, and leaves the outbox then."""

from __future__ import annotations

import random
import time

from tests.faults.scene import INBOX, OUTBOX, Scene
from tests.faults.versions import make

SIZES = (0, 3_000, 400_000)  # bytes
SENT_LIMIT = 60.0  # seconds until all was sent once everything works again


class Outbox:
    """Puts files in front of the rule, and follows them."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        """Put nothing there yet."""
        self.sent = 0
        self._scene = scene
        self._chance = chance
        self._contents: dict[str, bytes] = {}
        self._number = 0

    def fill(self, count: int) -> None:
        """Let so many files appear, each whole at once, as a writer does that knows of the rule."""
        for _ in range(count):
            self._number += 1
            name = f"{self._number}.csv"
            content = make(self._chance.choice(SIZES), self._chance)
            self._contents[name] = content
            new = self._scene.local / f"{name}.new"
            new.write_bytes(content)
            new.replace(self._scene.local / OUTBOX / name)

    def glance(self) -> list[str]:
        """Look at what has arrived: it is whole, and what has not is still there."""
        wrong = []
        for name, content in self._contents.items():
            waits = (self._scene.local / OUTBOX / name).exists()  # asked first: it leaves when it has arrived
            try:
                arrived = (self._scene.remote / INBOX / name).read_bytes()
            except FileNotFoundError:
                wrong += [] if waits else [f"the rule has lost {name}"]
            else:
                wrong += [] if arrived == content else [f"the rule has sent {len(arrived)} bytes as {name}"]
        return wrong

    def settle(self) -> list[str]:
        """Wait until all has left; then look at it once more, and take it away."""
        end = time.monotonic() + SENT_LIMIT
        while left := [name for name in self._contents if (self._scene.local / OUTBOX / name).exists()]:
            if time.monotonic() > end:
                status = self._scene.edge.reported.get("rules")
                return [f"the rule does not send {left}: {status}; {self._scene.edge.module_log[-1500:]}"]
            time.sleep(0.05)
        wrong = self.glance()
        self.sent += len(self._contents)
        for name in self._contents:
            (self._scene.remote / INBOX / name).unlink(missing_ok=True)
        self._contents.clear()
        return wrong
