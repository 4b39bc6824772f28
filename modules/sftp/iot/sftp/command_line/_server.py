"""Which server, and how to log in: from arguments, the environment, files, and a prompt on a terminal."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iot.sftp.client import Secret, ServerSettings, TimeLimits, check_pin
from iot.sftp.client._base.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

A_DAY = 86400.0  # seconds: the longest time limit, as the client's `TimeLimits` have it
PREFIX = "IOT_SFTP_"
OPTIONS = ("host", "port", "user", "password_file", "key_file", "passphrase_file", "host_key", "known_hosts", "root")


class UsageError(Exception):
    """What was said is not enough, or can never work; the message says what to do."""


def is_named(arguments: argparse.Namespace, variables: Mapping[str, str]) -> bool:
    """Tell whether anything at all is said about a server."""
    said = any(getattr(arguments, name) for name in OPTIONS)
    return said or any(value for name, value in variables.items() if name.startswith(PREFIX))


def settings_of(arguments: argparse.Namespace, variables: Mapping[str, str]) -> ServerSettings:
    """Return the server's settings; an argument comes before its environment variable.

    Raises:
        UsageError: something is missing or wrong.
    """

    def given(name: str) -> str | None:
        return getattr(arguments, name, None) or variables.get(PREFIX + name.upper()) or None

    host, user = given("host"), given("user")
    for name, value in (("host", host), ("user", user)):
        if value is None:
            message = f"no {name} is given: use --{name}, or set {PREFIX}{name.upper()}"
            raise UsageError(message)
    known_hosts = given("known_hosts")
    try:
        return ServerSettings.for_this_user(
            host=host,
            port=_port(given("port") or "22"),
            user=user,
            password=_secret("password", given, variables) or (None if given("key_file") else _asked(user, host)),
            private_key=_file(given("key_file")),
            passphrase=_secret("passphrase", given, variables),
            host_keys=_pins(arguments.host_key or variables.get(f"{PREFIX}HOST_KEY", "").split(",")),
            known_hosts=Path(known_hosts).expanduser() if known_hosts else None,
            root=given("root"),
            time_limits=TimeLimits(connect=min(A_DAY, arguments.timeout or TimeLimits.connect)),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        message = f"port must be a whole number from 1 to 65535, not {text!r}"
        raise UsageError(message)
    return int(text)


def _pins(texts: list[str]) -> tuple[str, ...]:
    return tuple(check_pin(text) for text in texts if text.strip())


def _file(path: str | None) -> Secret | None:
    return Secret.from_file(Path(path).expanduser().absolute()) if path else None


def _secret(name: str, given: Callable[[str], str | None], variables: Mapping[str, str]) -> Secret | None:
    """Return a secret from a file that is named, or from its variable."""
    variable = PREFIX + name.upper()
    return _file(given(f"{name}_file")) or (Secret.from_environment(variable) if variables.get(variable) else None)


def _asked(user: str | None, host: str | None) -> Secret:
    """Ask for the password, on a terminal only: a program must not wait for nobody."""
    if not sys.stdin.isatty():
        message = (
            f"no password and no key is given: set {PREFIX}PASSWORD, or use --password-file or --key-file. "
            "On a terminal the password is asked for"
        )
        raise UsageError(message)
    password = getpass.getpass(f"Password of {printable(str(user))} at {printable(str(host))}: ")
    if not password:
        message = "no password was typed"
        raise UsageError(message)
    return Secret(password)
