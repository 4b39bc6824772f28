"""A message that the edge hub has routed to one of the module's inputs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class InputMessage:
    """What arrived, and from whom.

    Attributes:
        input: the name of the input.
        body: its bytes, whatever they are.
        message_id: that the sender gave it; `None` if it gave none.
        sender: device and module that sent it, as the edge hub says; empty if it does not say.
    """

    input: str
    body: bytes
    message_id: str | None = None
    sender: str = ""

    @property
    def key(self) -> str | None:
        """What a repeat of this message has in common with it; `None` if a repeat cannot be recognised.

        Two modules may count their messages from 1, and a sender may use an id twice for different calls: so sender and
        body belong to it.
        """
        if self.message_id is None:
            return None
        digest = hashlib.sha256()
        for part in (self.sender.encode(), self.message_id.encode("utf-8", "surrogatepass"), self.body):
            digest.update(b"%d:" % len(part) + part)
        return digest.hexdigest()[:32]
