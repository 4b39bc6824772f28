"""The desired document: its sections, validated, and what is wrong with them in the words of the document."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from iot.sftp.client import Secret, ServerSettings, TimeLimits, check_pin
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import LEVELS
from iot.sftp.module._documents.fields import AsWritten, TemplateContext, Text, check_text, template
from iot.sftp.module._documents.rule import RulesSection, read_rules
from iot.sftp.module._documents.template import Placeholders, Template
from iot.sftp.module._documents.validation import Document, explain
from iot.sftp.module._documents.variables import read_time_zone, read_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from zoneinfo import ZoneInfo

SECTIONS = ("sftp", "transfers", "logLevel", "events", "rules", "variables", "timeZone")
CONCURRENCY_MAXIMUM = 16
BANDWIDTH_MAXIMUM = 1_000_000_000_000  # bytes per second
SECONDS_MINIMUM, SECONDS_MAXIMUM = 0.001, 86_400  # the bounds of the client's `TimeLimits`

T = TypeVar("T")


def _secret(value: object) -> Secret:
    # One fixed sentence: the message must not quote any part of what may be a secret
    if isinstance(value, str) and value:
        return Secret(value)
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return Secret("\n".join(value))
    if isinstance(value, dict) and {"file", "env"} <= value.keys():
        message = 'has both "file" and "env": set one of them to null, which removes it from the twin'
        raise PydanticCustomError("secret", message)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, place),) = value.items()
        if isinstance(place, str) and place and "\0" not in place:
            if kind == "file" and place.startswith("/"):
                return Secret.from_file(place)
            if kind == "env" and "=" not in place:
                return Secret.from_environment(place)
    message = 'must be a string, a list of strings, {"file": "/…"} or {"env": "…"}, and not empty'
    raise PydanticCustomError("secret", message)


def _account(value: object) -> str:
    text = check_text(value)
    if "\0" in text or text != text.strip():
        raise PydanticCustomError("name", "must not contain a NUL character, nor begin or end with a space")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("encodable", "must not contain lone surrogates") from None
    return text


def _host(value: str) -> str:
    # No name or address contains one of these; a resolver would only report an unknown name
    if not value.isprintable() or any(char.isspace() for char in value):
        raise PydanticCustomError("host", "must be a name or an address, without spaces and control characters")
    return value


def _host_key(value: str) -> str:
    try:
        return check_pin(value)
    except ValueError as error:
        raise PydanticCustomError("host_key", "cannot be used: {reason}", {"reason": str(error)}) from None


SecretText = Annotated[Secret, PlainValidator(_secret)]
Account = Annotated[Template, template(_account), AsWritten]
Host = Annotated[Text, AfterValidator(_host)]
HostKey = Annotated[Text, AfterValidator(_host_key)]
Seconds = Annotated[float, Field(ge=SECONDS_MINIMUM, le=SECONDS_MAXIMUM, allow_inf_nan=False)]


class ServerSection(Document, alias_generator=to_camel):
    """The section `sftp`."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: Account
    password: SecretText | None = None
    private_key: SecretText | None = None
    passphrase: SecretText | None = None
    host_keys: Annotated[tuple[HostKey, ...], Field(strict=False)] = ()
    root: Account | None = None
    connect_timeout: Seconds = TimeLimits.connect
    stall_timeout: Seconds = TimeLimits.stall
    keep_alive: Annotated[float, Field(ge=0, le=SECONDS_MAXIMUM, allow_inf_nan=False)] = TimeLimits.keep_alive

    @property
    def auth(self) -> str:
        """How it logs in: `password`, `privateKey` or both."""
        used = (("privateKey", self.private_key), ("password", self.password))
        return "+".join(name for name, secret in used if secret is not None)

    def as_settings(self, known_hosts: Path, unfinished: Path, now: float | None = None) -> ServerSettings:
        """Return the client's settings, with their placeholders filled in.

        Parameters:
            known_hosts: the file for remembered host keys.
            unfinished: the directory for unfinished transfers.
            now: the moment for dates, in seconds since 1970; `None` is this one.

        Raises:
            NotConfigured: a date cannot be filled in, as the clock is not set.
        """
        now = time.time() if now is None else now
        return ServerSettings(
            host=self.host,
            port=self.port,
            user=self.user.fill(now),
            password=self.password,
            private_key=self.private_key,
            passphrase=self.passphrase,
            host_keys=self.host_keys,
            known_hosts=known_hosts,
            root=None if self.root is None else self.root.fill(now),
            time_limits=TimeLimits(self.connect_timeout, self.stall_timeout, self.keep_alive),
            state=unfinished,
        )

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported: nothing secret."""
        user = self.user.fill() if self.user.is_fixed else str(self.user)
        return {"host": self.host, "port": self.port, "user": user, "auth": self.auth}


class TransfersSection(Document, alias_generator=to_camel):
    """The section `transfers`."""

    concurrency: Annotated[int, Field(ge=1, le=CONCURRENCY_MAXIMUM)] = 2
    verify: Literal["size", "sha256"] = "size"
    bandwidth_limit: Annotated[int, Field(ge=1, le=BANDWIDTH_MAXIMUM)] | None = None

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported."""
        return self.model_dump(by_alias=True, exclude_none=True)


@dataclass(frozen=True)
class Section(Generic[T]):
    """One section of the document: its value, or what is wrong with it; neither, if it is missing."""

    value: T | None = None
    error: str | None = None


@dataclass(frozen=True)
class Desired:
    """A desired document, validated.

    Attributes:
        version: its `$version`.
        is_empty: whether it contains nothing but metadata.
        sftp: the server.
        transfers: how files are transferred.
        log_level: `debug`, `info`, `warning` or `error`.
        events: whether a message is sent when a task has ended.
        rules: the rules; `None` if the section is missing.
        variables: for placeholders.
        time_zone: what dates are in.
        placeholders: what the sections were read with.
        unknown: names of unknown sections.
    """

    version: int
    is_empty: bool
    sftp: Section[ServerSection]
    transfers: Section[TransfersSection]
    log_level: Section[str]
    events: Section[bool]
    rules: RulesSection | None
    variables: Section[dict[str, str]]
    time_zone: Section[ZoneInfo]
    placeholders: Placeholders
    unknown: tuple[str, ...]

    @property
    def refused(self) -> list[str]:
        """The names of the invalid sections."""
        errors = {
            "sftp": self.sftp.error,
            "transfers": self.transfers.error,
            "logLevel": self.log_level.error,
            "events": self.events.error,
            "rules": self.rules and (self.rules.error or self.rules.errors),
            "variables": self.variables.error,
            "timeZone": self.time_zone.error,
        }
        return [name for name, error in errors.items() if error]


def read_desired(document: Mapping[str, Any], placeholders: Placeholders | None = None) -> Desired:
    """Read a desired document; what is wrong with a section is reported in the section. Never raises.

    Parameters:
        document: the whole of it.
        placeholders: those in force: the device, and what counts where `variables` or `timeZone` is invalid.
    """
    version = document.get("$version")
    names = [name for name in document if not name.startswith("$")]
    variables = _read(document.get("variables"), read_variables)
    time_zone = _read(document.get("timeZone"), read_time_zone)
    placeholders = _placeholders(placeholders or Placeholders(), variables, time_zone)
    return Desired(
        version=version if isinstance(version, int) and not isinstance(version, bool) else 0,
        is_empty=not names,
        sftp=_server(document.get("sftp"), placeholders),
        transfers=_transfers(document.get("transfers")),
        log_level=_log_level(document.get("logLevel")),
        events=_events(document.get("events")),
        rules=read_rules(document.get("rules"), placeholders),
        variables=variables,
        time_zone=time_zone,
        placeholders=placeholders,
        unknown=tuple(name for name in names if name not in SECTIONS),
    )


def _read(content: Any, read: Callable[[Any], T]) -> Section[T]:
    if content is None:
        return Section()
    try:
        return Section(read(content))
    except ValueError as error:
        return Section(error=str(error))


def _placeholders(
    before: Placeholders, variables: Section[dict[str, str]], time_zone: Section[ZoneInfo]
) -> Placeholders:
    """Return what placeholders stand for: an invalid section leaves in force what was there before."""
    return replace(
        before,
        variables=(variables.value or {}) if variables.error is None else before.variables,
        zone=(time_zone.value or Placeholders.zone) if time_zone.error is None else before.zone,
    )


def _server(content: Any, placeholders: Placeholders) -> Section[ServerSection]:
    if content is None:
        return Section()
    try:
        section = ServerSection.model_validate(content, context=TemplateContext(placeholders))
    except ValidationError as error:
        return Section(error=explain(error, ServerSection, whole="sftp"))
    if section.password is None and section.private_key is None:
        return Section(error="'password' or 'privateKey' is missing")
    if section.passphrase is not None and section.private_key is None:
        return Section(error="'passphrase' needs a 'privateKey' that it opens")
    return Section(section)


def _transfers(content: Any) -> Section[TransfersSection]:
    if content is None:
        return Section()
    try:
        return Section(TransfersSection.model_validate(content))
    except ValidationError as error:
        return Section(error=explain(error, TransfersSection, whole="transfers"))


def _events(content: Any) -> Section[bool]:
    if content is None or isinstance(content, bool):
        return Section(content)
    return Section(error="'events' must be true or false")


def _log_level(content: Any) -> Section[str]:
    if content is None:
        return Section()
    if isinstance(content, str) and content.lower() in LEVELS:
        return Section(content.lower())
    found = f", not '{excerpt(content, 40)}'" if isinstance(content, str) else ""
    return Section(error=f"'logLevel' must be one of {', '.join(LEVELS)}{found}")
