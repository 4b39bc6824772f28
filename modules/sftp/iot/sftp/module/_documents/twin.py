"""The desired document: its sections, validated, and what is wrong with them in the words of the document."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from iot.sftp.client import Modes
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import LEVELS
from iot.sftp.module._documents.bandwidth import Limit
from iot.sftp.module._documents.delivery import DirectoryMode, FileMode
from iot.sftp.module._documents.fields import TemplateContext, WholeNumber
from iot.sftp.module._documents.retention import RetentionEntry, read_retention
from iot.sftp.module._documents.rule import RulesSection, read_rules
from iot.sftp.module._documents.server import ServerSection, read_server
from iot.sftp.module._documents.servers import DEFAULT_SERVER, ServersSection, read_servers
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.validation import Document, Section, explain
from iot.sftp.module._documents.variables import read_time_zone, read_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

SECTIONS = ("sftp", "servers", "transfers", "logLevel", "events", "rules", "variables", "timeZone", "retention")
CONCURRENCY_MAXIMUM = 16

T = TypeVar("T")


class TransfersSection(Document, alias_generator=to_camel):
    """The section `transfers`."""

    concurrency: Annotated[int, Field(ge=1, le=CONCURRENCY_MAXIMUM), WholeNumber] = 2
    verify: Literal["size", "sha256"] = "size"
    bandwidth_limit: Limit = None
    local_mode: FileMode | None = None
    remote_mode: FileMode | None = None
    directory_mode: DirectoryMode | None = None

    def modes(self) -> Modes:
        """Return the permissions of what is created."""
        texts = self.local_mode, self.remote_mode, self.directory_mode
        return Modes(*(None if text is None else int(text, 8) for text in texts))

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
class Desired:
    """A desired document, validated.

    Attributes:
        version: its `$version`.
        is_empty: whether it contains nothing but metadata.
        sftp: the default server.
        servers: the further servers; `None` if the section is missing.
        transfers: how files are transferred.
        log_level: `debug`, `info`, `warning` or `error`.
        events: which messages are sent.
        rules: the rules; `None` if the section is missing.
        retention: which local files are deleted when they are too old, or too many.
        variables: for placeholders.
        time_zone: what dates and times of day are in.
        placeholders: what the sections were read with.
        unknown: names of unknown sections.
    """

    version: int
    is_empty: bool
    sftp: Section[ServerSection]
    servers: ServersSection | None
    transfers: Section[TransfersSection]
    log_level: Section[str]
    events: Section[EventsSection]
    rules: RulesSection | None
    retention: Section[tuple[RetentionEntry, ...]]
    variables: Section[dict[str, str]]
    time_zone: Section[ZoneInfo]
    placeholders: Placeholders
    unknown: tuple[str, ...]

    @property
    def refused(self) -> list[str]:
        """The names of the invalid sections."""
        errors = {
            "sftp": self.sftp.error,
            "servers": self.servers and (self.servers.error or self.servers.errors),
            "transfers": self.transfers.error,
            "logLevel": self.log_level.error,
            "events": self.events.error,
            "rules": self.rules and (self.rules.error or self.rules.errors),
            "variables": self.variables.error,
            "timeZone": self.time_zone.error,
            "retention": self.retention.error,
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
        sftp=read_server(document.get("sftp"), DEFAULT_SERVER, placeholders),
        servers=read_servers(document.get("servers"), placeholders),
        transfers=_transfers(document.get("transfers"), placeholders),
        log_level=_log_level(document.get("logLevel")),
        events=_events(document.get("events")),
        rules=read_rules(document.get("rules"), placeholders),
        retention=_read(document.get("retention"), partial(read_retention, placeholders=placeholders)),
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


def _transfers(content: Any, placeholders: Placeholders) -> Section[TransfersSection]:
    if content is None:
        return Section()
    try:
        return Section(TransfersSection.model_validate(content, context=TemplateContext(placeholders)))
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
