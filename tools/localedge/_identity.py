"""Who a module is: the names and the key that the edge agent would give it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModuleIdentity:
    """A module of a device of a hub, and the key that signs its tokens."""

    hub: str
    device: str
    module: str
    generation_id: str = field(default_factory=lambda: str(secrets.randbelow(10**18)))
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return f"{self.device}/{self.module}"

    @property
    def resource(self) -> str:
        """The resource that the module's tokens are for."""
        return f"{self.hub}/devices/{self.device}/modules/{self.module}"

    @property
    def telemetry_topic(self) -> str:
        """The topic under which the module publishes its messages; their properties follow it."""
        return f"devices/{self.device}/modules/{self.module}/messages/events/"

    @property
    def input_topic(self) -> str:
        """The topic under which the module receives messages that are routed to it."""
        return f"devices/{self.device}/modules/{self.module}/inputs/"
