"""A hub that counts what each module costs: messages, twin reads and twin updates."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from localedge._hub import TWIN_GET_TOPIC, TWIN_REPORT_TOPIC, Hub
from localedge._methods import RESPONSE_TOPIC


@dataclass
class Meter:
    """What one module has sent to the hub."""

    counts: Counter[str] = field(default_factory=Counter)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)  # messages on the output `files`, by their ids
    bytes_told: int = 0  # of these, as they came

    def files(self) -> list[str]:
        """Return the sources of all files that were told to be delivered."""
        files = [file for message in list(self.told.values()) for file in message["files"]]
        return [file["source"] for file in files if file["outcome"] == "delivered"]


class MeteredHub(Hub):
    """A hub with a meter for each module."""

    def __init__(self, *arguments: Any) -> None:
        """Begin with nothing counted."""
        super().__init__(*arguments)
        self.meters = {client_id: Meter() for client_id in self._modules}

    def received(self, client_id: str, topic: str, payload: bytes) -> None:
        """Count what a module has published, and carry it out."""
        meter = self.meters[client_id]
        if topic.startswith(TWIN_GET_TOPIC):
            meter.counts["twin reads"] += 1
        elif topic.startswith(TWIN_REPORT_TOPIC):
            meter.counts["twin updates"] += 1
        elif not topic.startswith(RESPONSE_TOPIC):
            properties = dict(parse_qsl(topic.removeprefix(self._modules[client_id].telemetry_topic)))
            meter.counts["messages"] += 1
            if properties.get("$.on") == "files":
                meter.bytes_told += len(payload)
                meter.told[properties["$.mid"]] = json.loads(payload)
        super().received(client_id, topic, payload)
