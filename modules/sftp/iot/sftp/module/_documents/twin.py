"""The desired document: what is in it, and what is wrong with it, in the words of its author."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from iot.sftp.client import Secret, ServerSettings, TimeLimits, check_pin
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import LEVELS
from iot.sftp.module._documents.rule import RulesSection, read_rules
from iot.sftp.module._documents.validation import Document, Text, explain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECTIONS = ("sftp", "transfers", "logLevel", "events", "rules")
CONCURRENCY_MAXIMUM = 16
BANDWIDTH_MAXIMUM = 1_000_000_000_000  # bytes per second
SECONDS_MINIMUM, SECONDS_MAXIMUM = 0.001, 86_400  # as the client's `TimeLimits`

T = TypeVar("T")


def _secret(value: object) -> Secret:
    # One fixed sentence: the message must not repeat any part of what may be a secret
    if isinstance(value, str) and value:
        return Secret(value)
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return Secret("\n".join(value))
    if isinstance(value, dict) and {"file", "env"} <= value.keys():
        message = 'holds both "file" and "env": a patch of a twin takes a key away that is null in it'
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


def _name(value: str) -> str:
    if "\0" in value or value != value.strip():
        raise PydanticCustomError("name", "must hold no NUL character, and no space before or after it")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("encodable", "must hold no lone surrogates") from None
    return value


def _host(value: str) -> str:
    # None of these is in any name or address; a resolver would only say that it does not know the name
    if not value.isprintable() or any(char.isspace() for char in value):
        raise PydanticCustomError("host", "must be a name or an address, without spaces and control characters")
    return value


def _host_key(value: str) -> str:
    try:
        return check_pin(value)
    except ValueError as error:
        raise PydanticCustomError("host_key", "cannot be used: {reason}", {"reason": str(error)}) from None


SecretText = Annotated[Secret, PlainValidator(_secret)]
Name = Annotated[Text, AfterValidator(_name)]
Host = Annotated[Text, AfterValidator(_host)]
HostKey = Annotated[Text, AfterValidator(_host_key)]
Seconds = Annotated[float, Field(ge=SECONDS_MINIMUM, le=SECONDS_MAXIMUM, allow_inf_nan=False)]


class ServerSection(Document, alias_generator=to_camel):
    """The section `sftp`."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: Annotated[Name, AfterValidator(_encodable)]
    password: SecretText | None = None
    private_key: SecretText | None = None
    passphrase: SecretText | None = None
    host_keys: Annotated[tuple[HostKey, ...], Field(strict=False)] = ()
    root: Annotated[Name, AfterValidator(_encodable)] | None = None
    connect_timeout: Seconds = TimeLimits.connect
    stall_timeout: Seconds = TimeLimits.stall
    keep_alive: Annotated[float, Field(ge=0, le=SECONDS_MAXIMUM, allow_inf_nan=False)] = TimeLimits.keep_alive

    @property
    def auth(self) -> str:
        """How it logs in: `password`, `privateKey` or both."""
        used = (("privateKey", self.private_key), ("password", self.password))
        return "+".join(name for name, secret in used if secret is not None)

    def as_settings(self, known_hosts: Path, unfinished: Path) -> ServerSettings:
        """Return the client's settings."""
        return ServerSettings(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            private_key=self.private_key,
            passphrase=self.passphrase,
            host_keys=self.host_keys,
            known_hosts=known_hosts,
            root=self.root,
            time_limits=TimeLimits(self.connect_timeout, self.stall_timeout, self.keep_alive),
            state=unfinished,
        )

    def as_properties(self) -> dict[str, Any]:
        """Return what may be reported: nothing secret."""
        return {"host": self.host, "port": self.port, "user": self.user, "auth": self.auth}


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
    """One section of the document: its value, or what is wrong with it; neither, if it is not there."""

    value: T | None = None
    error: str | None = None


@dataclass(frozen=True)
class Desired:
    """A desired document that was read.

    Attributes:
        version: its `$version`.
        is_empty: whether it holds nothing but metadata.
        sftp: the server.
        transfers: how files are moved.
        log_level: `debug`, `info`, `warning` or `error`.
        events: whether the ends of tasks are told.
        rules: the standing orders; `None` if the section is not there.
        unknown: names of sections that are none.
    """

    version: int
    is_empty: bool
    sftp: Section[ServerSection]
    transfers: Section[TransfersSection]
    log_level: Section[str]
    events: Section[bool]
    rules: RulesSection | None
    unknown: tuple[str, ...]

    @property
    def refused(self) -> list[str]:
        """The names of the sections that are not valid."""
        errors = {
            "sftp": self.sftp.error,
            "transfers": self.transfers.error,
            "logLevel": self.log_level.error,
            "events": self.events.error,
            "rules": self.rules and (self.rules.error or self.rules.errors),
        }
        return [name for name, error in errors.items() if error]


def read_desired(document: Mapping[str, Any]) -> Desired:
    """Read a desired document; what is wrong with a section is told in the section, and nothing is raised."""
    version = document.get("$version")
    names = [name for name in document if not name.startswith("$")]
    return Desired(
        version=version if isinstance(version, int) and not isinstance(version, bool) else 0,
        is_empty=not names,
        sftp=_server(document.get("sftp")),
        transfers=_transfers(document.get("transfers")),
        log_level=_log_level(document.get("logLevel")),
        events=_events(document.get("events")),
        rules=read_rules(document.get("rules")),
        unknown=tuple(name for name in names if name not in SECTIONS),
    )


def _server(content: Any) -> Section[ServerSection]:
    if content is None:
        return Section()
    try:
        section = ServerSection.model_validate(content)
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
