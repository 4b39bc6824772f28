"""No exception of the layers below is left without a name."""

from __future__ import annotations

import errno
import inspect
import os
import pkgutil
import socket
import struct
from importlib import import_module

import paramiko
import pytest
from cryptography import exceptions as cryptography_exceptions

from iot.sftp.client import (
    Internal,
    NoSpace,
    Unreachable,
)
from iot.sftp.client._base.lower_layers import LOWER_LAYER_REASONS, NETWORK_ERRORS, from_lower_layer
from iot.sftp.client._base.pysftp import pysftp


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
    assert error.message == f"there is no route to the host ({os.strerror(number)})"


def test_an_error_of_the_local_disk_is_not_taken_for_one_of_the_network() -> None:
    assert isinstance(from_lower_layer(OSError(errno.ENOSPC, "full")), NoSpace)
