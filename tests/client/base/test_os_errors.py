"""What the local file system refuses has a name and words of its own."""

from __future__ import annotations

import errno
import os

import pytest

from iot.sftp.client import (
    from_os_error,
)
from iot.sftp.client._base.errors import LocalBusy


def test_a_local_failure_tells_why_if_the_system_does() -> None:
    assert from_os_error(OSError(errno.EPROTO, "Protocol error")).message.endswith("(Protocol error)")
    assert from_os_error(OSError()).message.endswith("(no reason given)")


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
