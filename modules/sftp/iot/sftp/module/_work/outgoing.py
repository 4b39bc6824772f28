"""Define a message that is to be sent, and the outputs."""

from __future__ import annotations

from dataclasses import dataclass

ANSWERS, TASKS, FILES = "answers", "tasks", "files"
OUTPUTS = (ANSWERS, TASKS, FILES)  # in the order in which they are sent
SUMMARY_PREFIX = "files-summary-"  # of the message id of a summary


@dataclass(frozen=True)
class Outgoing:
    """A message that is to be sent.

    Attributes:
        output: where to.
        message_id: by which the receiver recognizes a repeat.
        body: JSON.
        correlation_id: the id of the message that it answers.
        sequence: its place in the order of its output; 0 before it is written.
    """

    output: str
    message_id: str
    body: str
    correlation_id: str | None = None
    sequence: int = 0

    @property
    def is_summary(self) -> bool:
        """Whether it has taken the place of others."""
        return self.message_id.startswith(SUMMARY_PREFIX)
