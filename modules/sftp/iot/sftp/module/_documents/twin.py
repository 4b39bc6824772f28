"""The desired document: its sections, validated, and what is wrong with them in the words of the document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from iot.sftp.client import Secret, ServerSettings, TimeLimits, check_pin
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import LEVELS
from iot.sftp.module._documents.fields import Text
from iot.sftp.module._documents.rule import RulesSection, read_rules
from iot.sftp.module._documents.validation import Document, explain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECTIONS = ("sftp", "transfers", "logLevel", "events", "rules")
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


def _name(value: str) -> str:
    if "\0" in value or value != value.strip():
        raise PydanticCustomError("name", "must not contain a NUL character, nor begin or end with a space")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("encodable", "must not contain lone surrogates") from None
    return value


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
        """Return what is reported: nothing secret."""
        return {"host": self.host, "port": self.port, "user": self.user, "auth": self.auth}


class TransfersSection(Document, alias_generator=to_camel):
    """The section `transfers`."""

    concurrency: Annotated[int, Field(ge=1, le=CONCURRENCY_MAXIMUM)] = 2
    verify: Literal["size", "sha256"] = "size"
    bandwidth_limit: Annotated[int, Field(ge=1, le=BANDWIDTH_MAXIMUM)] | None = None

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported."""
        return self.model_dump(by_alias=True, exclude_none=True)


class EventsSection(Document):
    """The section `events`: which messages are sent.

    Attributes:
        tasks: one when a task has ended.
        files: one for each batch of files that a rule or a folder's task has moved or given up.
    """

    tasks: bool = True
    files: bool = False

    def as_properties(self) -> bool | dict[str, bool]:
        """Return what is reported: in the short form where that says the same."""
        return self.model_dump() if self.files else self.tasks


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
        events: which messages are sent.
        rules: the rules; `None` if the section is missing.
        unknown: names of unknown sections.
    """

    version: int
    is_empty: bool
    sftp: Section[ServerSection]
    transfers: Section[TransfersSection]
    log_level: Section[str]
    events: Section[EventsSection]
    rules: RulesSection | None
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
        }
        return [name for name, error in errors.items() if error]


def read_desired(document: Mapping[str, Any]) -> Desired:
    """Read a desired document; what is wrong with a section is reported in the section. Never raises."""
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


def _events(content: Any) -> Section[EventsSection]:
    if content is None:
        return Section()
    if isinstance(content, bool):
        return Section(EventsSection(tasks=content))
    if not isinstance(content, dict):
        return Section(error="'events' must be true, false or an object with the keys tasks and files")
    try:
        return Section(EventsSection.model_validate(content))
    except ValidationError as error:
        return Section(error=explain(error, EventsSection, whole="events"))


def _log_level(content: Any) -> Section[str]:
    if content is None:
        return Section()
    if isinstance(content, str) and content.lower() in LEVELS:
        return Section(content.lower())
    found = f", not '{excerpt(content, 40)}'" if isinstance(content, str) else ""
    return Section(error=f"'logLevel' must be one of {', '.join(LEVELS)}{found}")
