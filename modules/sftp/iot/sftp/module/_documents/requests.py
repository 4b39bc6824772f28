"""The payloads of direct methods: one model for each kind, strict about keys and types."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.module._documents.fields import Id, Path, Pattern, Then, check_seconds, seconds
from iot.sftp.module._documents.selection import SelectionDocument
from iot.sftp.module._documents.validation import Document

TIMEOUT_DEFAULT = 25.0  # seconds: under the 30 that callers wait by default
TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM = 1, 290  # IoT Hub waits for 300 at most
TIME_LIMIT_DEFAULT, TIME_LIMIT_MAXIMUM = 86_400.0, 30 * 86_400  # seconds, of a task
CALL_KEYS = {"timeout", "request_id", "background", "time_limit"}  # how it is called, not what is to be done

LATER_KEYS = {"include", "exclude", "order"}  # since version 1.0; they do not count unless they are given


def _time_limit(value: object, info: ValidationInfo) -> float:
    if not info.data.get("background", True):
        raise PydanticCustomError("time_limit", 'is for tasks: it needs "background": true')
    return check_seconds(value, TIMEOUT_MINIMUM, TIME_LIMIT_MAXIMUM)


def _always(value: object) -> bool:
    if value is not True:
        raise PydanticCustomError("always", "must be true")
    return True


class Request(Document):
    """The parameters of every method."""

    timeout: Annotated[float, seconds(TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM)] = TIMEOUT_DEFAULT


class ChangeRequest(Request):
    """A method that changes something; `request_id` is its idempotency key."""

    request_id: Id | None = None

    def parameters(self) -> dict[str, Any]:
        """Return what is to be done, without how it is called."""
        return self.model_dump(exclude=CALL_KEYS)

    def fingerprint(self, method: str) -> str:
        """Return a hash that is the same for two calls if they ask for the same."""
        asked = self.model_dump(exclude={"timeout", "request_id"})
        # What a journal of an earlier version holds knows no keys that were added later
        later = LATER_KEYS & asked.keys() - self.model_fields_set
        same = [method, {key: value for key, value in asked.items() if key not in later}]
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


class PathRequest(Request):
    """A method on one remote path."""

    path: Path


class DeleteRequest(PathRequest, ChangeRequest):
    """A deletion."""


class CopyRequest(ChangeRequest):
    """A method from one path to another."""

    source: Path
    dest: Path


class TransferRequest(CopyRequest):
    """A transfer of one file, while the caller waits or as a task."""

    background: bool = False
    time_limit: Annotated[float, PlainValidator(_time_limit)] = TIME_LIMIT_DEFAULT


class FolderRequest(SelectionDocument, CopyRequest):
    """A transfer of many files, always as a task."""

    if_exists: Literal["replace", "skip", "skip_same"] = "replace"
    then: Then = "keep"
    background: Annotated[bool, PlainValidator(_always)] = True
    time_limit: Annotated[float, PlainValidator(_time_limit)] = TIME_LIMIT_DEFAULT


class ListRequest(PathRequest):
    """A listing, or a page of it: the first `limit` paths that sort after `after`."""

    file_pattern: Pattern | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    after: Pattern | None = None


class TaskRequest(Request):
    """A method on one task."""

    task_id: Pattern


class CancelRequest(TaskRequest, ChangeRequest):
    """The cancellation of a task."""


class ListTasksRequest(Request):
    """A listing of tasks, or a page of it: the first `limit` after the task `after`, the newest first."""

    limit: Annotated[int, Field(ge=1)] | None = None
    after: Pattern | None = None


class TestRequest(ChangeRequest):
    """A connection test; `learn` replaces the remembered host key by the one that the server shows."""

    __test__: ClassVar[bool] = False  # not a test case, in spite of its name

    learn: bool = False
