"""The settings of the server: from arguments, the environment, files, and a prompt on a terminal."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from iot.sftp.client import Jump, Proxy, Secret, ServerSettings, TimeLimits, check_pin
from iot.sftp.client._base.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

A_DAY = 86400.0  # seconds: the longest time limit, as the client's `TimeLimits` have it
PREFIX = "IOT_SFTP_"
OPTIONS = (
    *("host", "port", "user", "password_file", "key_file", "passphrase_file", "host_key", "known_hosts", "root"),
    *("proxy", "proxy_user", "proxy_password_file", "jump"),
    *("jump_password_file", "jump_key_file", "jump_passphrase_file", "jump_host_key"),
)


class UsageError(Exception):
    """The arguments are incomplete or invalid; the message says what to do."""


def is_named(arguments: argparse.Namespace, variables: Mapping[str, str]) -> bool:
    """Return whether any option or variable of a server is set."""
    said = any(getattr(arguments, name) for name in OPTIONS)
    return said or any(value for name, value in variables.items() if name.startswith(PREFIX))


def settings_of(arguments: argparse.Namespace, variables: Mapping[str, str]) -> ServerSettings:
    """Return the server's settings; an argument overrides its environment variable.

    Raises:
        UsageError: a setting is missing or invalid.
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
            host_keys=_pins(_list("host_key", arguments, variables)),
            known_hosts=Path(known_hosts).expanduser() if known_hosts else None,
            root=given("root"),
            time_limits=TimeLimits(connect=min(A_DAY, arguments.timeout or TimeLimits.connect)),
            proxy=_proxy(given, variables),
            jumps=_jumps(arguments, given, variables),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _proxy(given: Callable[[str], str | None], variables: Mapping[str, str]) -> Proxy | None:
    url, user, password = given("proxy"), given("proxy_user"), _secret("proxy_password", given, variables)
    if url is None:
        if user or password:
            message = f"a login at a proxy is given, and no proxy: use --proxy, or set {PREFIX}PROXY"
            raise UsageError(message)
        return None
    if "@" in url:
        message = (
            "the url of a proxy must not hold a login: use --proxy-user and --proxy-password-file, or set "
            f"{PREFIX}PROXY_USER and {PREFIX}PROXY_PASSWORD"
        )
        raise UsageError(message)
    return Proxy(url, user, password)


def _jumps(
    arguments: argparse.Namespace, given: Callable[[str], str | None], variables: Mapping[str, str]
) -> tuple[Jump, ...]:
    """Return the jump hosts; without credentials of their own, they take the server's key, but never its password."""
    places = [place.strip() for place in _list("jump", arguments, variables) if place.strip()]
    password = _secret("jump_password", given, variables)
    key, passphrase = _file(given("jump_key_file")), _secret("jump_passphrase", given, variables)
    if key is None and password is None:
        key, passphrase = _file(given("key_file")), _secret("passphrase", given, variables)
    if places and key is None and password is None:
        message = (
            f"neither a password nor a key for the jump host is given: set {PREFIX}JUMP_PASSWORD, or use "
            "--jump-password-file or --jump-key-file. The server's password is not sent to another host"
        )
        raise UsageError(message)
    pins = _pins(_list("jump_host_key", arguments, variables))
    hops = [_place_of_jump(place, given("user") or "") for place in places]
    return tuple(Jump(host, port, user, password, key, passphrase, pins) for user, host, port in hops)


def _place_of_jump(text: str, user: str) -> tuple[str, str, int]:
    """Return user, host and port of `[user@]host[:port]`, with an IPv6 address in brackets, as ssh(1) takes it."""
    login, _, place = text.rpartition("@")
    if ":" in login or "/" in place:
        message = "a jump host is [user@]host[:port], without a password: use --jump-password-file for that"
        raise UsageError(message)
    host, closing, port = place.removeprefix("[").partition("]") if place.startswith("[") else place.partition(":")
    if closing == "]":
        port = port.removeprefix(":")
    return login or user, host, _port(port or "22")


def _list(name: str, arguments: argparse.Namespace, variables: Mapping[str, str]) -> list[str]:
    """Return the values of a repeatable option, or those of its variable, which are separated by commas."""
    return getattr(arguments, name) or variables.get(PREFIX + name.upper(), "").split(",")


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
    """Return a secret from its file, or from its environment variable."""
    variable = PREFIX + name.upper()
    return _file(given(f"{name}_file")) or (Secret.from_environment(variable) if variables.get(variable) else None)


def _asked(user: str | None, host: str | None) -> Secret:
    """Prompt for the password, on a terminal only: a script must not block."""
    if not sys.stdin.isatty():
        message = (
            f"neither a password nor a key is given: set {PREFIX}PASSWORD, or use --password-file or --key-file. "
            "On a terminal there is a prompt"
        )
        raise UsageError(message)
    password = getpass.getpass(f"Password of {printable(str(user))} at {printable(str(host))}: ")
    if not password:
        message = "no password was typed"
        raise UsageError(message)
    return Secret(password)
