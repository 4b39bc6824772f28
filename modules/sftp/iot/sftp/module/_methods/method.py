"""What a direct method is: a row of the table, what its function works with, and a call of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from iot.sftp.module._work.current_placeholders import CurrentPlaceholders

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client import LocalFiles
    from iot.sftp.module._documents.requests import Request
    from iot.sftp.module._work.failures import Failures
    from iot.sftp.module._work.servers import Servers
    from iot.sftp.module._work.tasks import Tasks
    from iot.sftp.module._work.transfers import Transfers


class Lane(Enum):
    """A queue with workers of its own: a call waits only behind calls of the same lane."""

    CONTROL = "control"
    QUICK = "quick"
    LOCAL = "local"
    TRANSFER = "transfer"
    TASKS = "tasks"
    STATUS = "status"


class StatusSource(Protocol):
    """Describes the module for `get_status`, and records failures."""

    failures: Failures

    @abstractmethod
    def document(self, maximum: int) -> dict[str, Any]:
        """Return the module's status, cut to `maximum` bytes of JSON."""


@dataclass(frozen=True)
class MethodContext:
    """The parts of the module that methods work with."""

    servers: Servers
    transfers: Transfers
    tasks: Tasks
    status: StatusSource
    local_files: LocalFiles
    placeholders: CurrentPlaceholders = field(default_factory=CurrentPlaceholders)


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        request: the model of its payload.
        run: executes it within a number of seconds, blocking; returns the bare result, or raises `SFTPError`.
        lane: the queue in which its calls wait.
        failed: the `result` of a response that reports a failure.
        is_idempotent: whether a second run after an interrupted one has the same effect as a single run.
    """

    request: type[Request]
    run: Callable[[MethodContext, Any, float], Any]
    lane: Lane
    failed: bool | None = False
    is_idempotent: bool = False


@dataclass(frozen=True)
class Call:
    """A valid request to a known method."""

    name: str
    method: Method
    request: Request

    @property
    def lane(self) -> Lane:
        """Where it waits."""
        return Lane.TRANSFER if self.request.takes_long else self.method.lane
