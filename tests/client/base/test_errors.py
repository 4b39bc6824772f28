"""The tree of errors: one class for each reason, and what each class implies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

import iot.sftp.client as library
from iot.sftp.client import (
    Fault,
    FileError,
    Internal,
    NotFound,
    Retry,
    Scope,
    SFTPError,
    TransportError,
    error_classes,
    error_for_code,
)
from iot.sftp.client._base import errors

# The codes of the contract.
CODES = {
    "invalid_request", "path_not_allowed", "authentication_failed", "permission_denied", "not_found", "unknown_method",
    "is_a_directory", "not_a_directory", "too_large", "busy", "internal", "host_key_mismatch", "transfer_incomplete",
    "unsupported", "not_configured", "unreachable", "connection_lost", "deadline_exceeded", "no_space",
    "not_empty", "already_exists",
}  # fmt: skip

# What each class implies, reviewed by people: a class that is new, or implies something else, has to be put here.
IMPLICATIONS = """
    SFTPError             device      never                         file    -
    RequestError          call        never                         file    -
    InvalidRequest        call        never                         file    -
    UnknownMethod         call        never                         file    -
    PathNotAllowed        call        never                         file    -
    TooLarge              call        never                         folder  -
    DeadlineExceeded      call        by the caller                 call    doubt
    Cancelled             call        by the caller                 call    doubt
    FileError             file        never                         file    -
    NotFound              file        never                         file    -
    PermissionDenied      file        never                         file    -
    IsADirectory          file        never                         file    -
    NotADirectory         file        never                         file    -
    NotEmpty              file        never                         file    -
    AlreadyExists         file        never                         file    -
    TransferIncomplete    file        later                         file    doubt
    EndOfFile             file        later                         file    doubt
    TransportError        connection  when the server is reachable  call    -
    NotConfigured         connection  when the server is reachable  call    -
    Unreachable           connection  when the server is reachable  call    -
    CredentialError       connection  when the server is reachable  call    -
    AuthenticationFailed  connection  when the server is reachable  call    -
    HostKeyMismatch       connection  when the server is reachable  call    -
    ConnectionLost        connection  after a reconnect             call    doubt
    NotSFTP               connection  never                         call    doubt
    OutcomeUnknown        connection  never                         call    doubt
    ServerBusy            connection  after a reconnect             call    doubt
    Unsupported           server      never                         file    -
    ResourceError         device      never                         file    -
    NoSpace               device      never                         folder  -
    Busy                  device      later                         file    -
    HandleInUse           device      at once                       file    -
    LocalBusy             device      after a pause                 file    -
    Internal              device      never                         call    doubt
"""


def classes_of_the_tree() -> list[type[SFTPError]]:
    return [cls for cls in error_classes() if cls.__module__ == errors.__name__]


def reasons() -> list[type[SFTPError]]:
    """The classes that have a code of their own."""
    return [cls for cls in classes_of_the_tree() if "code" in vars(cls) and cls is not SFTPError]


def test_there_is_one_class_for_each_reason_of_the_contract() -> None:
    assert sorted(cls.code for cls in reasons()) == sorted(CODES)
    assert SFTPError.code == Internal.code


def test_every_reason_and_every_base_of_one_is_exported() -> None:
    public = {base.__name__ for cls in reasons() for base in cls.__mro__ if issubclass(base, SFTPError)}
    assert public | {"Cancelled"} == {name for name in library.__all__ if is_error_class(getattr(library, name))}


def is_error_class(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, SFTPError)


def test_a_code_leads_to_the_class_whose_code_it_is() -> None:
    assert [error_for_code(cls.code) for cls in reasons()] == reasons()
    assert error_for_code("a code of a later version") is Internal
    assert error_for_code(None) is Internal  # type: ignore[arg-type] # and not a base, which has no code of its own


def drawn(cls: type[SFTPError], indent: str = "     ") -> Iterator[tuple[str, str]]:
    """Each class below one as the drawing has it: its line up to its name, and its code."""
    children = [child for child in cls.__subclasses__() if child.__module__ == errors.__name__]
    for child in children:
        is_last = child is children[-1]
        yield f"{indent}{'└─' if is_last else '├─'} {child.__name__}", vars(child).get("code", "")
        yield from drawn(child, f"{indent}{'    ' if is_last else '│   '}")


def test_the_tree_at_the_top_of_the_module_is_that_of_the_classes() -> None:
    lines = re.findall(r"^( {5}[│ ]*[├└]─ \w+) *(.*)$", errors.__doc__ or "", re.MULTILINE)
    tree = dict(drawn(SFTPError))

    assert [line for line, _ in lines] == list(tree)
    for line, shown in lines:
        is_base = shown.count(" ") > 0  # which has words instead of a code
        assert tree[line] == ("" if is_base else shown), line


def test_every_class_implies_what_the_reviewed_table_says() -> None:
    rows = [re.split(r" {2,}", line.strip()) for line in IMPLICATIONS.strip().splitlines()]
    assert [
        [cls.__name__, cls.fault.value, cls.retry.value, cls.scope.value, "doubt" if cls.leaves_doubt else "-"]
        for cls in classes_of_the_tree()
    ] == rows


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_every_class_answers_what_it_is_asked(cls: type[SFTPError]) -> None:
    """Also those of upper layers, which are not in the table."""
    assert isinstance(cls.fault, Fault)
    assert isinstance(cls.retry, Retry)
    assert isinstance(cls.scope, Scope)
    assert isinstance(cls.leaves_doubt, bool)


def test_an_operation_is_only_retried_by_itself_within_a_call_if_tasks_retry_it_too() -> None:
    assert {retry for retry in Retry if retry.is_within_call} < {retry for retry in Retry if retry.is_automatic}
    assert {retry for retry in Retry if not retry.is_automatic} == {Retry.NEVER, Retry.BY_CALLER}


def test_a_file_that_fails_by_itself_ends_nothing_else() -> None:
    assert all(cls.scope is Scope.FILE for cls in error_classes(FileError))
    assert all(cls.scope is Scope.CALL for cls in error_classes(TransportError))


def test_an_error_reads_as_one_line() -> None:
    error = NotFound("there is no such file", operation="exists", path="a\nb")
    assert str(error) == "exists 'a\\nb': there is no such file"
    assert str(NotFound("nothing there")) == "nothing there"


def test_a_failure_that_was_not_tried_again_tells_of_one_attempt() -> None:
    assert NotFound("there is none").attempts == 1
