"""What requests hold: one model for each kind, which takes nothing for something else."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.module._documents.validation import Document

TIMEOUT_DEFAULT = 25.0  # seconds: under the 30 that callers wait by default
TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM = 1, 290  # IoT Hub waits for 300 at most
TIME_LIMIT_DEFAULT, TIME_LIMIT_MAXIMUM = 86_400.0, 30 * 86_400  # seconds, of a task
ID_MAXIMUM = 128  # characters
PATH_MAXIMUM = 4096  # bytes: PATH_MAX of Linux. What is longer is no path, and tasks are written down
AGE_MAXIMUM = 366 * 86_400  # seconds
ABOUT_THE_CALL = {"timeout", "request_id", "background", "time_limit"}  # and not about what is to be done


def _seconds(value: object, lowest: float, highest: float) -> float:
    # compared before it becomes a float: an integer may be too large for one, and NaN fails any comparison
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None or not lowest <= number <= highest:
        raise PydanticCustomError("seconds", f"must be a number of seconds from {lowest} to {highest}")
    return float(number)


def _timeout(value: object) -> float:
    return _seconds(value, TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM)


def _age(value: object) -> float:
    return _seconds(value, 0, AGE_MAXIMUM)


def _time_limit(value: object, info: ValidationInfo) -> float:
    if not info.data.get("background", True):
        raise PydanticCustomError("time_limit", 'is for tasks: it needs "background": true')
    return _seconds(value, TIMEOUT_MINIMUM, TIME_LIMIT_MAXIMUM)


def _id(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= ID_MAXIMUM or not value.isprintable():
        raise PydanticCustomError("id", f"must be a string of 1 to {ID_MAXIMUM} printable characters")
    return value


def _pattern(value: object) -> str:
    # pydantic's own str refuses lone surrogates, which is how a file name that is not UTF-8 comes back from a listing
    if not isinstance(value, str):
        raise PydanticCustomError("text", "must be a string")
    if len(value.encode("utf-8", "surrogatepass")) > PATH_MAXIMUM:
        raise PydanticCustomError("text", f"must have {PATH_MAXIMUM} bytes at most")
    return value


def _path(value: object) -> str:
    path = _pattern(value)
    if not path:
        raise PydanticCustomError("text", "must not be empty")
    return path


def _then(value: object) -> str | dict[str, str]:
    if value in ("keep", "delete"):
        return str(value)
    if isinstance(value, dict) and value.keys() == {"move"}:
        folder = value["move"]
        if isinstance(folder, str) and folder:
            return {"move": _path(folder)}
    raise PydanticCustomError("then", 'must be "keep", "delete" or {"move": "folder"}')


def _always(value: object) -> bool:
    if value is not True:
        raise PydanticCustomError("always", "must be true")
    return True


Path = Annotated[str, PlainValidator(_path)]
Pattern = Annotated[str, PlainValidator(_pattern)]
Id = Annotated[str, PlainValidator(_id)]
Then = Annotated[str | dict[str, str], PlainValidator(_then)]


class Request(Document):
    """What every method takes."""

    timeout: Annotated[float, PlainValidator(_timeout)] = TIMEOUT_DEFAULT


class ChangeRequest(Request):
    """A method that changes something; a repeat with the same id is answered as the first was."""

    request_id: Id | None = None

    def parameters(self) -> dict[str, Any]:
        """Return what is to be done, without how it is called."""
        return self.model_dump(exclude=ABOUT_THE_CALL)

    def fingerprint(self, method: str) -> str:
        """Return what two calls have in common if they are the same; nothing can be read from it."""
        same = [method, self.model_dump(exclude={"timeout", "request_id"})]
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
    """A transfer of one file, in the call or as a task."""

    background: bool = False
    time_limit: Annotated[float, PlainValidator(_time_limit)] = TIME_LIMIT_DEFAULT


class FolderRequest(CopyRequest):
    """A transfer of many files, always as a task."""

    file_pattern: Pattern | None = None
    recursive: bool = False
    if_exists: Literal["replace", "skip", "skip_same"] = "replace"
    then: Then = "keep"
    min_age: Annotated[float, PlainValidator(_age)] = 0.0
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
    """An end of a task."""


class ListTasksRequest(Request):
    """A listing of tasks, or a page of it: the first `limit` after the task `after`, the newest first."""

    limit: Annotated[int, Field(ge=1)] | None = None
    after: Pattern | None = None


class TestRequest(ChangeRequest):
    """A connection test; `learn` puts the key that is shown in the place of the remembered one."""

    __test__: ClassVar[bool] = False  # not a test case, in spite of its name

    learn: bool = False
