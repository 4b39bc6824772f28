"""Every failure has a name: the tree, and the one map from the layers below."""

from __future__ import annotations

import errno
import inspect
import os
import pkgutil
import re
import socket
import struct
from collections.abc import Iterator
from importlib import import_module

import paramiko
import pytest
from cryptography import exceptions as cryptography_exceptions
from hypothesis import given
from hypothesis import strategies as st

import iot.sftp.client as library
from iot.sftp.client import (
    Fault,
    FileError,
    Internal,
    NoSpace,
    NotFound,
    Retry,
    Scope,
    SFTPError,
    TransportError,
    Unreachable,
    error_classes,
    error_for_code,
    from_os_error,
)
from iot.sftp.client._base import errors
from iot.sftp.client._base.errors import (
    LOWER_LAYER_REASONS,
    NETWORK_ERRORS,
    LocalBusy,
    StatusReply,
    from_lower_layer,
    from_status,
    printable,
)
from iot.sftp.client._base.pysftp import pysftp

# The codes of the contract.
CODES = {
    "invalid_request", "path_not_allowed", "authentication_failed", "permission_denied", "not_found", "unknown_method",
    "is_a_directory", "not_a_directory", "too_large", "busy", "internal", "host_key_mismatch", "transfer_incomplete",
    "unsupported", "not_configured", "unreachable", "connection_lost", "deadline_exceeded", "no_space",
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


def exceptions_in(*modules: object) -> set[type[BaseException]]:
    return {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }


def paramikos_own() -> set[type[BaseException]]:
    # win_openssh and win_pageant cannot be imported here, and raise nothing of their own
    names = [module.name for module in pkgutil.iter_modules(paramiko.__path__) if "win" not in module.name]
    modules = [import_module(f"paramiko.{name}") for name in names]
    return {cls for cls in exceptions_in(paramiko, *modules) if cls.__module__.startswith("paramiko")}


def instance_of(cls: type[BaseException]) -> BaseException:
    """An exception of a class whose constructor may want anything."""
    methods = {"__init__": lambda *_: None, "__str__": lambda _: "words"}
    error: BaseException = type(cls.__name__, (cls,), methods)()
    return error


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


@pytest.mark.parametrize("cls", sorted(paramikos_own() | exceptions_in(pysftp, pysftp.exceptions), key=repr))
def test_no_exception_of_paramiko_or_pysftp_is_unmapped(cls: type[BaseException]) -> None:
    assert any(issubclass(cls, lower) for lower, _, _ in LOWER_LAYER_REASONS) or issubclass(
        cls, OSError | ValueError
    ), f"{cls.__module__}.{cls.__name__} is new: give it a name in LOWER_LAYER_REASONS"
    if not issubclass(cls, OSError) or cls in {lower for lower, _, _ in LOWER_LAYER_REASONS}:
        assert not isinstance(from_lower_layer(instance_of(cls)), Internal)


@pytest.mark.parametrize(
    "cls",
    sorted(
        {cls for cls in exceptions_in(socket) if issubclass(cls, OSError)}
        | set(ConnectionError.__subclasses__())
        | set(OSError.__subclasses__())
        | {EOFError, struct.error, OSError},
        key=repr,
    ),
)  # fmt: skip
def test_no_exception_of_sockets_and_files_is_unmapped(cls: type[BaseException]) -> None:
    assert not isinstance(from_lower_layer(instance_of(cls)), Internal)


@pytest.mark.parametrize("cls", sorted(exceptions_in(cryptography_exceptions), key=repr))
def test_no_exception_of_cryptography_is_unmapped(cls: type[BaseException]) -> None:
    if cls.__module__.startswith("cryptography"):
        assert any(issubclass(cls, lower) for lower, _, _ in LOWER_LAYER_REASONS)


def test_the_most_specific_class_comes_first() -> None:
    classes = [lower for lower, _, _ in LOWER_LAYER_REASONS]
    for number, cls in enumerate(classes):
        hidden_by = [earlier.__name__ for earlier in classes[:number] if issubclass(cls, earlier)]
        assert hidden_by == [], f"{cls.__name__} is never reached"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_of_this_system_has_a_name(number: int) -> None:
    error = from_lower_layer(OSError(number, os.strerror(number)), "x")
    assert not isinstance(error, Internal)
    assert error.message


def test_a_defect_is_told_as_one_and_shows_no_details() -> None:
    error = from_lower_layer(KeyError("a secret"))
    assert isinstance(error, Internal)
    assert "secret" not in str(error)


# The numbers of draft-ietf-secsh-filexfer-13, section 9.1, by the names that they have there.
STATUSES = {
    1: "transfer_incomplete",  # EOF, where a file cannot end
    2: "not_found",  # NO_SUCH_FILE
    3: "permission_denied",  # PERMISSION_DENIED
    4: "permission_denied",  # FAILURE
    5: "permission_denied",  # BAD_MESSAGE
    6: "connection_lost",  # NO_CONNECTION
    7: "connection_lost",  # CONNECTION_LOST
    8: "unsupported",  # OP_UNSUPPORTED
    9: "permission_denied",  # INVALID_HANDLE
    10: "not_found",  # NO_SUCH_PATH
    11: "permission_denied",  # FILE_ALREADY_EXISTS
    12: "permission_denied",  # WRITE_PROTECT
    13: "permission_denied",  # NO_MEDIA
    14: "no_space",  # NO_SPACE_ON_FILESYSTEM
    15: "no_space",  # QUOTA_EXCEEDED
    16: "permission_denied",  # UNKNOWN_PRINCIPAL
    17: "permission_denied",  # LOCK_CONFLICT
    18: "permission_denied",  # DIR_NOT_EMPTY
    19: "not_a_directory",  # NOT_A_DIRECTORY
    20: "path_not_allowed",  # INVALID_FILENAME
    21: "permission_denied",  # LINK_LOOP
    24: "is_a_directory",  # FILE_IS_A_DIRECTORY
}


@pytest.mark.parametrize("status, code", STATUSES.items())
def test_a_status_has_the_reason_that_its_number_stands_for(status: int, code: str) -> None:
    assert from_status(StatusReply(status, "")).code == code


def test_each_status_of_the_table_has_its_own_words() -> None:
    """Those that share a reason, too: the operator reads the message."""
    said = {status: from_status(StatusReply(status, "")).message for status in STATUSES}
    for status, words in {11: "taken", 12: "protected", 13: "medium", 15: "quota", 17: "lock", 5: "malformed"}.items():
        assert [other for other, message in said.items() if words in message] == [status]


@pytest.mark.parametrize(
    "words, code",
    [
        ("No such file or directory", "not_found"),
        ("ENOENT: no such file or directory, lstat '/a'", "not_found"),
        ("[Errno 2] a.csv", "not_found"),
        ("The system cannot find the file specified.", "not_found"),
        ("The specified key does not exist.", "not_found"),
        ("NoSuchKey", "not_found"),
        ("File not found", "not_found"),
        ("There is not enough space on the disk.", "no_space"),
        ("ENOSPC", "no_space"),
        ("EISDIR: illegal operation on a directory", "is_a_directory"),
        ("No such device", "permission_denied"),
        ("Failure", "permission_denied"),
        ("", "permission_denied"),
    ],
)
def test_the_words_of_a_failure_are_understood_in_several_languages(words: str, code: str) -> None:
    for status in (4, 5, 77):
        assert from_status(StatusReply(status, words)).code == code


@pytest.mark.parametrize("status", [3, 8])
def test_nothing_but_no_such_file_overrules_a_status_that_says_something(status: int) -> None:
    assert from_status(StatusReply(status, "No such file or directory")).code == "not_found"
    assert from_status(StatusReply(status, "not found, does not exist")).code != "not_found"


@pytest.mark.parametrize("status, code", [(2, "not_found"), (3, "permission_denied"), (8, "unsupported")])
def test_the_words_of_a_server_count_only_where_its_status_says_nothing(status: int, code: str) -> None:
    assert from_status(StatusReply(status, "quota exceeded: no space, not a directory")).code == code


def test_a_text_from_outside_is_cut_only_where_it_is_too_long() -> None:
    assert printable("ab", 5) == "ab"
    assert printable("abcde", 5) == "abcde"
    assert printable("abcdef", 5) == "abcd…"


def test_a_local_failure_tells_why_if_the_system_does() -> None:
    assert from_os_error(OSError(errno.EPROTO, "Protocol error")).message.endswith("(Protocol error)")
    assert from_os_error(OSError()).message.endswith("(no reason given)")


@given(status=st.integers(0, 2**32 - 1), words=st.text())
def test_every_status_of_a_server_has_a_name(status: int, words: str) -> None:
    error = from_status(StatusReply(status, words), "x")
    assert error.code in CODES
    assert error.message.isprintable()
    assert len(error.message) < 400


@pytest.mark.parametrize(
    "words, code",
    [
        ("No space left on device", "no_space"),
        ("Disk quota exceeded", "no_space"),
        ("Not a directory", "not_a_directory"),
    ],
)
def test_what_a_server_only_says_in_words_is_understood(words: str, code: str) -> None:
    assert from_status(StatusReply(4, words)).code == code


@given(st.text(), st.integers(2, 50))
def test_words_from_outside_disturb_no_terminal_and_have_a_bound(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest


def test_an_error_reads_as_one_line() -> None:
    error = NotFound("there is no such file", operation="exists", path="a\nb")
    assert str(error) == "exists 'a\\nb': there is no such file"
    assert str(NotFound("nothing there")) == "nothing there"


def test_a_local_refusal_that_has_no_number_is_named() -> None:
    assert from_os_error(OSError("odd")).code == "unsupported"


def test_only_what_is_refused_is_told_as_a_refusal() -> None:
    refused = {number for number in errno.errorcode if from_os_error(OSError(number, "x")).code == "permission_denied"}
    assert refused == {errno.EACCES, errno.EPERM, errno.EROFS}


@pytest.mark.parametrize(
    "name, code",
    [
        ("EMFILE", "busy"), ("ENFILE", "busy"), ("ENOMEM", "busy"), ("EIO", "busy"), ("ESTALE", "busy"),
        ("EINTR", "busy"), ("EAGAIN", "busy"), ("EBUSY", "busy"), ("ETXTBSY", "busy"), ("EXDEV", "unsupported"),
        ("ENOTSUP", "unsupported"), ("EDQUOT", "no_space"), ("EFBIG", "no_space"), ("ENAMETOOLONG", "path_not_allowed"),
        ("EILSEQ", "path_not_allowed"), ("ELOOP", "path_not_allowed"), ("ENODEV", "not_found"),
        ("ENOTEMPTY", "is_a_directory"), ("EOVERFLOW", "unsupported"),
    ],
)  # fmt: skip
def test_what_a_local_file_system_says_has_words_of_its_own(name: str, code: str) -> None:
    number = getattr(errno, name)
    error = from_os_error(OSError(number, os.strerror(number)), "x")
    assert error.code == code
    assert os.strerror(number) not in error.message


def test_what_passes_is_told_apart_from_what_stays() -> None:
    passing = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN}
    assert all(isinstance(from_os_error(OSError(number, "x")), LocalBusy) for number in passing)
    staying = {errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EXDEV, errno.ENOTSUP, errno.EROFS}
    assert not any(isinstance(from_os_error(OSError(number, "x")), LocalBusy) for number in staying)


def test_a_servers_own_words_are_told_where_it_has_any() -> None:
    assert str(from_status(StatusReply(3, "read-only export"))).endswith("(it said 'read-only export')")
    assert "(" not in from_status(StatusReply(3, "")).message


def test_the_lower_layers_own_words_are_told_where_they_say_more_than_the_class() -> None:
    assert from_lower_layer(paramiko.SSHException("no banner")).message == "the SSH session broke (no banner)"
    assert from_lower_layer(paramiko.SSHException()).message == "the SSH session broke"
    assert from_lower_layer(struct.error("unpack requires a buffer")).message == "the server's answer was not SFTP"
    reset = ConnectionResetError(errno.ECONNRESET, "reset by peer")
    assert from_lower_layer(reset).message.endswith("(reset by peer)")


@pytest.mark.parametrize("number", sorted(NETWORK_ERRORS - {errno.ETIMEDOUT}))
def test_a_host_that_no_way_leads_to_is_unreachable(number: int) -> None:
    error = from_lower_layer(OSError(number, os.strerror(number)))
    assert isinstance(error, Unreachable)
    assert error.message == f"there is no way to the host ({os.strerror(number)})"


def test_an_error_of_the_local_disk_is_not_taken_for_one_of_the_network() -> None:
    assert isinstance(from_lower_layer(OSError(errno.ENOSPC, "full")), NoSpace)


def test_a_failure_that_was_not_tried_again_tells_of_one_attempt() -> None:
    assert NotFound("there is none").attempts == 1
