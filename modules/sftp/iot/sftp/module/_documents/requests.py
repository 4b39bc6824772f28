"""The payloads of direct methods: one model for each kind, strict about keys and types."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field, PlainValidator, PrivateAttr, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client import InvalidRequest
from iot.sftp.module._documents.contents import Encoding, decode_content
from iot.sftp.module._documents.delivery import IfExists, Rename
from iot.sftp.module._documents.fields import (
    AnyText,
    Id,
    Path,
    Pattern,
    Then,
    WholeNumber,
    check_path,
    check_seconds,
    seconds,
)
from iot.sftp.module._documents.selection import SelectionDocument
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._documents.template import Placeholders, Template, TemplateKind
from iot.sftp.module._documents.template_parts import TemplateError
from iot.sftp.module._documents.validation import Document

TIMEOUT_DEFAULT = 25.0  # seconds: under the 30 that callers wait by default
TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM = 1, 290  # IoT Hub waits for 300 at most
TIME_LIMIT_DEFAULT, TIME_LIMIT_MAXIMUM = 86_400.0, 30 * 86_400  # seconds, of a task
CALL_KEYS = {"timeout", "request_id", "background", "time_limit", "expand"}  # how it is called, not what is to be done
# What 0.1.0 did not know is left out at its default, so that journals of both versions say the same of the same call
NEWER_KEYS = {"server", "expand", "include", "exclude", "order", "rename"}
PATHS = ("path", "source", "dest")  # the keys of paths, beside `then`

PathsRequestT = TypeVar("PathsRequestT", bound="PathsRequest")


def _time_limit(value: object, info: ValidationInfo) -> float:
    if not info.data.get("background", True):
        raise PydanticCustomError("time_limit", 'is for tasks: it needs "background": true')
    return check_seconds(value, TIMEOUT_MINIMUM, TIME_LIMIT_MAXIMUM)


def _always(value: object) -> bool:
    if value is not True:
        raise PydanticCustomError("always", "must be true")
    return True


def _content(value: object, info: ValidationInfo) -> object:
    if "encoding" in info.data:  # else that is what is wrong
        decode_content(value, info.data["encoding"])
    return value


class Request(Document):
    """The parameters of every method."""

    timeout: Annotated[float, seconds(TIMEOUT_MINIMUM, TIMEOUT_MAXIMUM)] = TIMEOUT_DEFAULT
    _given: Request | None = PrivateAttr(None)  # what the caller gave, where placeholders were filled in

    @property
    def takes_long(self) -> bool:
        """Whether it takes a slot of transfers, whatever the lane of its method."""
        return False


class ServerRequest(Request):
    """A method that speaks to a server."""

    server: AnyText = DEFAULT_SERVER


class ChangeRequest(Request):
    """A method that changes something; `request_id` is its idempotency key."""

    request_id: Id | None = None

    def parameters(self) -> dict[str, Any]:
        """Return what is to be done, without how it is called."""
        return self._without_defaults(self.model_dump(exclude=CALL_KEYS))

    def fingerprint(self, method: str) -> str:
        """Return a hash that is the same for two calls if they ask for the same, on whatever day."""
        given = self._given or self
        same = [method, self._without_defaults(given.model_dump(exclude={"timeout", "request_id"}))]
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()

    def filled_paths(self) -> dict[str, Any] | None:
        """Return what the paths of this call are, if placeholders were filled in; else `None`."""
        return None if self._given is None else self.model_dump(include=set(PATHS))

    def _without_defaults(self, content: dict[str, Any]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {key: value for key, value in content.items() if key not in NEWER_KEYS or value != fields[key].default}


class PathsRequest(Request):
    """A method with paths; with `expand`, their placeholders are filled in."""

    expand: bool = False


class DisconnectRequest(ServerRequest, ChangeRequest):
    """The end of a session."""


class PathRequest(ServerRequest, PathsRequest):
    """A method on one remote path."""

    path: Path


class DeleteRequest(PathRequest, ChangeRequest):
    """A deletion."""


class CreateDirectoryRequest(PathRequest, ChangeRequest):
    """A new directory."""


class WriteRequest(PathRequest, ChangeRequest):
    """The content of a small file, and where it goes."""

    encoding: Encoding = "utf-8"
    content: Annotated[str, PlainValidator(_content), Field(repr=False)]

    def content_bytes(self) -> bytes:
        """Return the bytes that the file is to hold."""
        return decode_content(self.content, self.encoding)


class DeleteDirectoryRequest(DeleteRequest):
    """The deletion of a directory, while the caller waits or as a task."""

    recursive: bool = False
    background: bool = False
    time_limit: Annotated[float, PlainValidator(_time_limit)] = TIME_LIMIT_DEFAULT

    @property
    def takes_long(self) -> bool:
        """A tree may be of any size."""
        return self.recursive


class CopyRequest(ServerRequest, PathsRequest, ChangeRequest):
    """A method from one path to another."""

    source: Path
    dest: Path


class TransferRequest(CopyRequest):
    """A transfer of one file, while the caller waits or as a task."""

    background: bool = False
    time_limit: Annotated[float, PlainValidator(_time_limit)] = TIME_LIMIT_DEFAULT


class FolderRequest(SelectionDocument, CopyRequest):
    """A transfer of many files, always as a task."""

    rename: Rename = None
    if_exists: IfExists = "replace"
    then: Then = "keep"
    background: Annotated[bool, PlainValidator(_always)] = True
    time_limit: Annotated[float, PlainValidator(_time_limit)] = TIME_LIMIT_DEFAULT


class PageRequest(Request):
    """A listing, or a page of it: the first `limit` paths that sort after `after`."""

    limit: Annotated[Annotated[int, Field(ge=1)] | None, WholeNumber] = None
    after: Pattern | None = None


class ListRequest(PathRequest, PageRequest):
    """A listing of files."""

    file_pattern: Pattern | None = None


class DirectoryPageRequest(PathRequest, PageRequest):
    """A listing of a directory."""


class LocalPageRequest(PathsRequest, PageRequest):
    """A listing of a local directory."""

    path: Path = "."


class LocalDeleteRequest(PathsRequest, ChangeRequest):
    """The deletion of a local file."""

    path: Path


BackgroundRequest = TransferRequest | FolderRequest | DeleteDirectoryRequest
"""Those that a task can carry out."""


class TaskRequest(Request):
    """A method on one task."""

    task_id: Pattern


class CancelRequest(TaskRequest, ChangeRequest):
    """The cancellation of a task."""


class ListTasksRequest(Request):
    """A listing of tasks, or a page of it: the first `limit` after the task `after`, the newest first."""

    limit: Annotated[Annotated[int, Field(ge=1)] | None, WholeNumber] = None
    after: Pattern | None = None


class RotateRequest(ServerRequest, ChangeRequest):
    """The next key pair of this device for a server."""


class TestRequest(ServerRequest, ChangeRequest):
    """A connection test; `learn` replaces the remembered host key by the one that the server shows."""

    __test__: ClassVar[bool] = False  # not a test case, in spite of its name

    learn: bool = False


def expanded(request: PathsRequestT, placeholders: Placeholders, now: float) -> PathsRequestT:
    """Return a request with the placeholders in its paths filled in, if it asks for that.

    Parameters:
        request: as it was given.
        placeholders: the values on this device.
        now: the moment for dates, in seconds since 1970.

    Raises:
        InvalidRequest: a path cannot be filled in; the message names its key.
        NotConfigured: a date cannot be filled in, as the clock is not set.
    """
    if not request.expand:
        return request
    given = request.model_dump()
    server = given.get("server", DEFAULT_SERVER)  # methods on local files have none

    def fill(key: str, text: str, kind: TemplateKind = TemplateKind.DEVICE) -> str:
        try:
            template = Template.parse(text, placeholders, server=server, kind=kind)
            # The words for one file are left to its turn
            return check_path(template.fill(now) if kind is TemplateKind.DEVICE else template.at(now))
        except (TemplateError, PydanticCustomError) as error:
            raise InvalidRequest(f"'{key}' {error}") from None

    filled: dict[str, Any] = {key: fill(key, given[key]) for key in PATHS if key in given}
    if isinstance(given.get("then"), dict):
        filled["then"] = {"move": fill("then.move", given["then"]["move"])}
    if isinstance(given.get("if_exists"), dict):
        filled["if_exists"] = {"backup": fill("if_exists.backup", given["if_exists"]["backup"])}
    if given.get("rename") is not None:
        filled["rename"] = fill("rename", given["rename"], TemplateKind.NAME)
    copy = request.model_copy(update=filled)
    copy._given = request  # noqa: SLF001 - its own
    return copy
