"""The configuration in force: which desired document takes effect, and what is reported about each of its sections.

The whole document counts, never a patch. An invalid section leaves the previous one in force; a missing section is
removed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from iot.sftp.client import NotConfigured, SFTPSession, __version__
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import about, set_level
from iot.sftp.module._documents.twin import EventsSection, Section, ServerSection, TransfersSection, read_desired
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.message_store import ANSWERS, FILES, TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iot.sftp.client import ServerSettings, SFTPError
    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._documents.rule import RulesSection
    from iot.sftp.module._hub.reported import Reporter
    from iot.sftp.module._rules.runner import Rules
    from iot.sftp.module._work.current_session import ConnectionState, CurrentSession
    from iot.sftp.module._work.file_events import FileEvents
    from iot.sftp.module._work.outbox import Outbox
    from iot.sftp.module._work.slots import Slots
    from iot.sftp.module._work.transfers import Transfers

UNKNOWN_MAXIMUM = 10  # unknown sections that are acknowledged; a document may have thousands
# Sections of the reported properties that an unknown section of the same name must not replace
OWN_SECTIONS = ("connection", "journal", "module")

_log = logging.getLogger(__name__)


class Configuration:
    """Applies desired documents to the session, transfers, events, rules and the log.

    It has a method or two for each section of the document, and stays in one piece as they share what is in force.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        sessions: CurrentSession,
        slots: Slots,
        transfers: Transfers,
        outbox: Outbox,
        file_events: FileEvents,
        rules: Rules,
        reporter: Reporter,
    ) -> None:
        """Take the parts that a configuration changes."""
        self._environment = environment
        self._sessions = sessions
        self._slots = slots
        self._transfers = transfers
        self._outbox = outbox
        self._file_events = file_events
        self._events = EventsSection()
        self._rules = rules
        self._rules_read: tuple[int, RulesSection] | None = None  # the version of its document, and the section
        self._reporter = reporter
        self._version = -1
        self._level: str | None = None  # that of the twin
        self._settings: ServerSettings | None = None
        self._session: SFTPSession | None = None
        self._shown: Mapping[str, Any] = {}  # of the sftp section in force, for the reported properties
        self._transfers_section = TransfersSection()
        self._unknown: tuple[str, ...] = ()
        reporter.set("module", {"version": __version__})

    @property
    def in_force(self) -> dict[str, Any]:
        """The configuration in force, without secrets; thread-safe."""
        settings, rules = self._settings, self._rules.in_force
        return {
            "version": self._version,
            "sftp": None if settings is None else {**self._shown, **_further(settings)},
            "transfers": self._transfers_section.as_properties(),
            "logLevel": logging.getLevelName(logging.getLogger("iot").level).lower(),
            "events": self._events.as_properties(),
            "rules": {name: rule.model_dump(exclude={"name"}) for name, rule in rules.items()},
        }

    @property
    def server(self) -> ServerSettings:
        """The server's settings in force, with secrets; thread-safe.

        Raises:
            NotConfigured: there are none; the message says what is missing.
        """
        settings = self._settings
        if settings is None:
            raise NotConfigured(self._sessions.state.message or "there are no settings yet")
        return settings

    def report_connection(self, state: ConnectionState) -> None:
        """Report the state of the connection to the server."""
        self._reporter.set("connection", state.as_properties())

    def report_journal(self, failure: SFTPError | None) -> None:
        """Report why the journal cannot be written, or what was lost; `None` removes the report."""
        self._reporter.set("journal", None if failure is None else {"code": failure.code, "message": failure.message})

    def apply(self, document: Mapping[str, Any]) -> None:
        """Put a desired document into force, as far as it is new and valid."""
        desired = read_desired(document)
        if desired.version < self._version:
            _log.info("desired properties %d ignored: %d are in force", desired.version, self._version)
            return
        if desired.is_empty and self._settings is not None:
            # A hub that has lost its state and cannot reach the cloud yet returns an empty document
            _log.warning("desired properties %d are empty: the configuration in force stays", desired.version)
            return
        is_new = desired.version != self._version
        self._version = desired.version
        self._apply_log_level(desired.log_level)
        self._apply_events(desired.events)
        self._apply_transfers(desired.transfers)
        self._apply_server(desired.sftp)
        self._apply_rules(desired.rules)
        self._acknowledge_unknown(desired.unknown)
        if is_new:
            refused = ", ".join(desired.refused)
            _log.info("desired properties %d are in force%s", desired.version, refused and f", except for {refused}")

    def _apply_server(self, section: Section[ServerSection]) -> None:
        if section.error is not None:
            self._keep_server(section.error)
        elif section.value is not None:
            self._use_server(section.value)
        else:
            self._forget_server()

    def _use_server(self, section: ServerSection) -> None:
        settings = section.as_settings(self._environment.known_hosts, self._environment.unfinished_transfers)
        if settings != self._settings:
            shown = settings.host, settings.port, settings.user, section.auth
            _log.info("server: %s port %d, user %s, by %s", *shown, extra=about("server"))
            self._settings, self._shown = settings, section.as_properties()
            local_files = LocalRoot(self._environment.local_root, self._environment.state_dir)
            self._session = SFTPSession(settings, local_files=local_files)
            self._session.limit_bandwidth(self._transfers_section.bandwidth_limit)
            self._sessions.replace(self._session)
        self._acknowledge("sftp", "applied", self._shown)

    def _keep_server(self, error: str) -> None:
        if self._settings is None:
            self._sessions.replace(None, f"the section sftp of the desired properties is invalid: {error}")
        self._acknowledge("sftp", error, self._shown or None, valid=False)

    def _forget_server(self) -> None:
        if self._settings is not None:
            _log.info("server: none any more, as the section sftp was removed", extra=about("server"))
        self._settings, self._session, self._shown = None, None, {}
        missing = "the desired properties have no section sftp: it needs host, user and password or privateKey"
        self._sessions.replace(None, missing)
        self._reporter.set("sftp", None)

    def _apply_transfers(self, section: Section[TransfersSection]) -> None:
        if section.error is None:
            self._transfers_section = section.value or TransfersSection()
            self._slots.widen(self._transfers_section.concurrency)
            self._transfers.verify = self._transfers_section.verify
            if self._session is not None:
                self._session.limit_bandwidth(self._transfers_section.bandwidth_limit)
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


def _further(settings: ServerSettings) -> dict[str, Any]:
    """Return the settings of a server that are not reported, without secrets, and the number of pinned keys."""
    limits = settings.time_limits
    return {
        "hostKeys": len(settings.host_keys),
        "root": settings.root,
        "connectTimeout": limits.connect,
        "stallTimeout": limits.stall,
        "keepAlive": limits.keep_alive,
    }
