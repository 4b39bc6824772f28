"""The configuration in force: which desired document takes effect, and what is reported about each of its sections.

The whole document counts, never a patch. An invalid section leaves the previous one in force; a missing section is
removed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from iot.sftp.client import __version__
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._app.server_configuration import ServerConfiguration, do_now
from iot.sftp.module._base.logging import set_level
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._documents.twin import Desired, EventsSection, TransfersSection, read_desired
from iot.sftp.module._documents.validation import Section
from iot.sftp.module._work.outgoing import ANSWERS, FILES, TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.client import SFTPError
    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._documents.retention import RetentionEntry
    from iot.sftp.module._documents.rule import RulesSection
    from iot.sftp.module._hub.reported import Reporter
    from iot.sftp.module._retention.retention import Retention
    from iot.sftp.module._rules.runner import Rules
    from iot.sftp.module._work.current_placeholders import CurrentPlaceholders
    from iot.sftp.module._work.file_events import FileEvents
    from iot.sftp.module._work.outbox import Outbox
    from iot.sftp.module._work.server_slots import ServerSlots
    from iot.sftp.module._work.servers import Servers
    from iot.sftp.module._work.transfers import Transfers

UNKNOWN_MAXIMUM = 10  # unknown sections that are acknowledged; a document may have thousands
# Sections of the reported properties that an unknown section of the same name must not replace
OWN_SECTIONS = ("connection", "journal", "module")

_log = logging.getLogger(__name__)


class Configuration:
    """Applies desired documents to the servers, transfers, events, rules and the log.

    It has a method or two for each section of the document, and stays in one piece as they share what is in force.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        servers: Servers,
        slots: ServerSlots,
        transfers: Transfers,
        outbox: Outbox,
        file_events: FileEvents,
        rules: Rules,
        retention: Retention,
        reporter: Reporter,
        placeholders: CurrentPlaceholders,
        guard: Callable[[], object] = lambda: None,
        in_loop: Callable[[Callable[[], None]], object] = do_now,
    ) -> None:
        """Take the parts that a configuration changes; the last two are those of `ServerConfiguration`."""
        self._environment = environment
        self.servers = ServerConfiguration(
            environment, servers, reporter, placeholders.clock, guard=guard, in_loop=in_loop
        )
        self._known_servers = servers.all
        self._placeholders = placeholders
        self._slots = slots
        self._transfers = transfers
        self._outbox = outbox
        self._file_events = file_events
        self._events = EventsSection()
        self._rules = rules
        self._retention = retention
        self._rules_read: tuple[int, RulesSection] | None = None  # the version of its document, and the section
        self._reporter = reporter
        self._version = -1
        self._level: str | None = None  # that of the twin
        self._transfers_section = TransfersSection()
        self._unknown: tuple[str, ...] = ()
        reporter.set("module", {"version": __version__})

    @property
    def in_force(self) -> dict[str, Any]:
        """The configuration in force, without secrets; thread-safe."""
        servers, rules = self.servers.in_force, self._rules.in_force
        default = servers.get(DEFAULT_SERVER)
        return {
            "version": self._version,
            "sftp": None if default is None else default.document,
            "servers": {name: server.document for name, server in servers.items() if name != DEFAULT_SERVER},
            "transfers": self._transfers_section.as_properties(),
            "logLevel": logging.getLevelName(logging.getLogger("iot").level).lower(),
            "events": self._events.as_properties(),
            "variables": dict(self._placeholders.values.variables),
            "timeZone": str(self._placeholders.values.zone),
            "rules": {name: rule.model_dump(exclude={"name"}) for name, rule in rules.items()},
            "retention": [entry.as_properties() for entry in self._retention.in_force],
        }

    def report_journal(self, failure: SFTPError | None) -> None:
        """Report why the journal cannot be written, or what was lost; `None` removes the report."""
        self._reporter.set("journal", None if failure is None else {"code": failure.code, "message": failure.message})

    def apply(self, document: Mapping[str, Any]) -> None:
        """Put a desired document into force, as far as it is new and valid."""
        desired = read_desired(document, self._placeholders.values)
        if desired.version < self._version:
            _log.info("desired properties %d ignored: %d are in force", desired.version, self._version)
            return
        if desired.is_empty and self.servers.in_force:
            # A hub that has lost its state and cannot reach the cloud yet returns an empty document
            _log.warning("desired properties %d are empty: the configuration in force stays", desired.version)
            return
        is_new = desired.version != self._version
        self._version = desired.version
        self._placeholders.values = desired.placeholders
        self._acknowledge_placeholders(desired)
        self._apply_log_level(desired.log_level)
        self._apply_events(desired.events)
        self._apply_transfers(desired.transfers)
        self.servers.apply_default(desired.sftp, self._version)
        self.servers.apply_others(desired.servers, self._version)
        self._apply_rules(desired.rules)
        self._apply_retention(desired.retention)
        self._acknowledge_unknown(desired.unknown)
        if is_new:
            refused = ", ".join(desired.refused)
            _log.info("desired properties %d are in force%s", desired.version, refused and f", except for {refused}")

    def _apply_transfers(self, section: Section[TransfersSection]) -> None:
        if section.error is None:
            self._transfers_section = section.value or TransfersSection()
            self._slots.widen(self._transfers_section.concurrency)
            self._transfers.verify = self._transfers_section.verify
            self._transfers.modes = self._transfers_section.modes()
            self.servers.limit_bandwidth(self._transfers_section.bandwidth_limit)
        words = section.error or ("applied" if section.value else "the defaults, as the section is not there")
        self._acknowledge("transfers", words, self._transfers_section.as_properties(), valid=section.error is None)

    def _apply_events(self, section: Section[EventsSection]) -> None:
        if section.error is None:
            self._events = section.value or EventsSection()
            wanted = {TASKS: self._events.tasks, FILES: self._events.files, ANSWERS: True}
            self._outbox.wanted_outputs = {output for output, is_wanted in wanted.items() if is_wanted}
            self._file_events.is_enabled = self._events.files
        if section.error is None and section.value is None:
            self._reporter.set("events", None)
        else:
            words = section.error or "applied"
            self._acknowledge("events", words, self._events.as_properties(), valid=section.error is None)

    def _apply_rules(self, section: RulesSection | None) -> None:
        section = section and section.checked(tuple(self._known_servers()))
        if section is None:
            self._rules_read = None
            self._rules.apply({})
        else:
            self._rules_read = self._version, section
            before = self._rules.in_force
            if section.is_list:
                # As with sections: an invalid rule leaves the previous one in force
                kept = {name: rule for name, rule in before.items() if name in section.errors}
                self._rules.apply({**section.rules, **kept})
            for name, words in section.errors.items():
                _log.warning("desired properties %d, rule %s: %s", self._version, name, words)
            if section.error is not None:
                _log.warning("desired properties %d, rules: %s", self._version, section.error)
        self.report_rules()

    def report_rules(self) -> None:
        """Report each rule by its name: whether it is valid, and its status."""
        if self._rules_read is None:
            self._reporter.set("rules", None)
            return
        version, section = self._rules_read
        shown: dict[str, Any] = {name: {"ac": 400, "ad": words} for name, words in section.errors.items()}
        for name, status in self._rules.statuses().items():
            shown[name] = {"ac": 200, "ad": "applied"} | shown.get(name, {}) | status.as_properties()
        words = section.error or (f"not valid: {', '.join(section.errors)}" if section.errors else "applied")
        valid = section.error is None and not section.errors
        self._reporter.set("rules", {"ac": 200 if valid else 400, "av": version, "ad": words, "value": shown})

    def _apply_retention(self, section: Section[tuple[RetentionEntry, ...]]) -> None:
        if section.error is None:
            self._retention.apply(section.value or ())
        if section == Section():
            self._reporter.set("retention", None)
        else:
            value = [entry.as_properties() for entry in self._retention.in_force]
            self._acknowledge("retention", section.error or "applied", value, valid=section.error is None)

    def _acknowledge_placeholders(self, desired: Desired) -> None:
        placeholders = desired.placeholders
        for name, section, value in (
            ("variables", desired.variables, dict(placeholders.variables)),
            ("timeZone", desired.time_zone, str(placeholders.zone)),
        ):
            if section == Section():
                self._reporter.set(name, None)
            else:
                self._acknowledge(name, section.error or "applied", value, valid=section.error is None)

    def _apply_log_level(self, section: Section[str]) -> None:
        if section.error is None:
            self._level = section.value
            set_level(section.value or self._environment.log_level)
        if section.error is None and section.value is None:
            self._reporter.set("logLevel", None)
        else:
            words = section.error or "applied"
            self._acknowledge("logLevel", words, self._level, valid=section.error is None)

    def _acknowledge_unknown(self, names: tuple[str, ...]) -> None:
        names = tuple(name for name in names if name not in OWN_SECTIONS)[:UNKNOWN_MAXIMUM]
        for name in set(self._unknown) - set(names):
            self._reporter.set(name, None)
        for name in names:
            self._acknowledge(name, "this section is unknown and ignored: is its name misspelt?", None, valid=False)
        self._unknown = names

    def _acknowledge(self, section: str, words: str, value: Any, *, valid: bool = True) -> None:
        acknowledgement = {"ac": 200 if valid else 400, "av": self._version, "ad": words, "value": value}
        self._reporter.set(section, acknowledgement)
        if not valid:
            _log.warning("desired properties %d, %s: %s", self._version, excerpt(section, 60), words)
