"""The servers in force: the section `sftp` and each of `servers` take effect, stay or go by themselves."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Bandwidth, NotConfigured, RateLimit, SFTPSession
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import about
from iot.sftp.module._documents.servers import DEFAULT_SERVER, on_server
from iot.sftp.module._work.current_session import do_nothing
from iot.sftp.module._work.device_key import DeviceKey
from iot.sftp.module._work.local_files import LocalRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.client import ServerInfo, ServerSettings
    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._documents.bandwidth import BandwidthLimit
    from iot.sftp.module._documents.server import ServerSection
    from iot.sftp.module._documents.servers import ServersSection
    from iot.sftp.module._documents.validation import Section
    from iot.sftp.module._hub.reported import Reporter
    from iot.sftp.module._work.current_session import ConnectionState
    from iot.sftp.module._work.servers import Servers

MESSAGE_MAXIMUM = 300  # characters of a text about one of several servers: all of them have to fit into a twin

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerInForce:
    """A server's valid section, and the session that was made of it."""

    settings: ServerSettings
    session: SFTPSession
    shown: Mapping[str, Any]  # the section, for the reported properties

    @property
    def document(self) -> dict[str, Any]:
        """The settings without secrets, and the number of pinned keys."""
        settings, limits = self.settings, self.settings.time_limits
        further = {
            "hostKeys": len(settings.host_keys),
            "root": settings.root,
            "connectTimeout": limits.connect,
            "stallTimeout": limits.stall,
            "keepAlive": limits.keep_alive,
            "proxy": None if settings.proxy is None else {"url": settings.proxy.url, "user": settings.proxy.user},
            "jump": [
                {"host": hop.host, "port": hop.port, "user": hop.user, "hostKeys": len(hop.host_keys)}
                for hop in settings.jumps
            ],
        }
        return {**self.shown, **further}


def do_now(function: Callable[[], None]) -> None:
    """Call a function, where there is no event loop."""
    function()


class ServerConfiguration:
    """Applies the sections of servers to their sessions, and reports each of them.

    It belongs to the event loop, but for what is said to be thread-safe.
    """

    def __init__(
        self,
        environment: Environment,
        servers: Servers,
        reporter: Reporter,
        clock: Callable[[], float],
        *,
        guard: Callable[[], object] = lambda: None,
        in_loop: Callable[[Callable[[], None]], object] = do_now,
    ) -> None:
        """Take the parts that a change of these sections changes.

        Parameters:
            environment: what the module was started with.
            servers: whose sessions are replaced.
            reporter: of the reported properties.
            clock: gives the moment for dates in `user` and `root`, in seconds since 1970.
            guard: raises an `SFTPError` while another module uses the state directory.
            in_loop: calls a function in the event loop, from any thread; the reporter belongs to it.
        """
        self._guard = guard
        self._in_loop = in_loop
        self._environment = environment
        self._servers = servers
        self._reporter = reporter
        self._clock = clock
        self._lock = threading.RLock()  # a session is replaced by whoever uses it, when the date is another one
        self._sections: dict[str, ServerSection] = {}  # the valid ones
        self._in_force: dict[str, ServerInForce] = {}
        self._keys: dict[str, DeviceKey] = {}  # one for each server, also for a session that a later document kept
        self._limit = RateLimit()  # of all servers together
        self._default: tuple[int, str | None] | None = None  # the version of its document, and what is wrong with it
        self._section: tuple[int, ServersSection] | None = None  # the version of its document, and the section

    @property
    def in_force(self) -> Mapping[str, ServerInForce]:
        """The servers in force by their names; thread-safe."""
        return dict(self._in_force)

    def settings(self, name: str = DEFAULT_SERVER) -> ServerSettings:
        """Return a server's settings in force, with secrets; thread-safe.

        Raises:
            InvalidRequest: there is no such server.
            NotConfigured: it has no valid settings; the message says what is missing.
        """
        sessions, server = self._servers.get(name), self._in_force.get(name)
        if server is None:
            raise NotConfigured(sessions.state.message or "there are no settings yet")
        return server.settings

    def names(self) -> list[str]:
        """Return the names of the servers in force, the default one first; that alone if there is none. Thread-safe."""
        names = sorted(self.in_force, key=lambda name: (name != DEFAULT_SERVER, name))
        return names or [DEFAULT_SERVER]

    def limit_bandwidth(self, limit: BandwidthLimit | None) -> None:
        """Limit the transfers of all servers together, in each direction, as the time of day says."""
        if limit is None:
            self._limit.bandwidth = Bandwidth()
        else:
            self._limit.follow(lambda: limit.at(self._clock()))

    # --- the default server

    def apply_default(self, section: Section[ServerSection], version: int) -> None:
        """Put the section `sftp` into force, as far as it is valid."""
        if section.value is not None:
            self._use(DEFAULT_SERVER, section.value)
        elif section.error is None:
            self._forget_default()
            return
        elif DEFAULT_SERVER not in self._in_force:
            missing = f"the section sftp of the desired properties is invalid: {section.error}"
            self._servers.default.replace(None, missing)
        self._default = version, section.error
        self._report_default()
        if section.error is not None:
            _log.warning("desired properties %d, %s: %s", version, DEFAULT_SERVER, section.error)

    def _forget_default(self) -> None:
        if self._forget(DEFAULT_SERVER):
            _log.info("server: none any more, as the section sftp was removed", extra=about("server"))
        missing = "the desired properties have no section sftp: it needs host, user and password or privateKey"
        self._servers.default.replace(None, missing)
        self._default = None
        self._report_default()

    def _report_default(self) -> None:
        """Report whether the section `sftp` is valid, and what is in force."""
        if self._default is None:
            self._reporter.set("sftp", None)
        else:
            version, error = self._default
            self._reporter.set("sftp", self._acknowledgement(DEFAULT_SERVER, error, version))

    # --- the others

    def apply_others(self, section: ServersSection | None, version: int) -> None:
        """Put the section `servers` into force: each server by itself, as far as it is valid."""
        self._section = None if section is None else (version, section)
        if section is None or section.is_object:
            servers = {} if section is None else section.servers
            errors = {} if section is None else section.errors
            self._remove_all_but({*servers, *errors})
            for name, server in servers.items():
                self._use(name, server)
            for name, words in errors.items():
                if name not in self._in_force:
                    missing = f"the server '{name}' of the desired properties is invalid: {words}"
                    self._servers.add(name).replace(None, missing)
                _log.warning("desired properties %d, %s: %s", version, f"server {name}", words)
        if section is not None and section.error is not None:
            _log.warning("desired properties %d, %s: %s", version, "servers", section.error)
        self._report_others()

    def _remove_all_but(self, names: set[str]) -> None:
        for name in self._servers.all().keys() - names - {DEFAULT_SERVER}:
            if self._forget(name):
                _log.info("server (%s): none any more, as it was removed", name, extra=about(on_server("server", name)))
            self._servers.remove(name)

    def _report_others(self) -> None:
        """Report each server by its name: whether its section is valid, and the state of its connection."""
        if self._section is None:
            self._reporter.set("servers", None)
            return
        version, section = self._section
        words = section.error or (f"not valid: {', '.join(section.errors)}" if section.errors else "applied")
        shown: dict[str, Any] = {
            "ac": 400 if section.error or section.errors else 200,
            "av": version,
            "ad": words,
        }
        for name, sessions in self._servers.all().items():
            if name != DEFAULT_SERVER:
                acknowledgement = self._acknowledgement(name, section.errors.get(name), version)
                shown[name] = {**acknowledgement, "connection": _shortened(sessions.state.as_properties())}
        self._reporter.set("servers", shown)

    # --- each of them

    def report_connection(self, name: str, state: ConnectionState) -> None:
        """Report the state of the connection to a server."""
        if name == DEFAULT_SERVER:
            self._reporter.set("connection", state.as_properties())
            self._report_default()  # the session is another one where a date or a key could not be had before
        else:
            self._report_others()

    def _use(self, name: str, section: ServerSection) -> None:
        sessions = self._servers.add(name)
        with self._lock:
            self._sections[name] = section
            key = sessions.device_key = self._key_of(name) if section.generates_key else None
            may_change = section.has_date or key is not None
            sessions.prepare = partial(self._prepare, name, section, key) if may_change else do_nothing
            sessions.account = section.identity() if section.has_date else None
            try:
                self._renew(name, section)
            except NotConfigured as error:
                self._suspend(name, error)

    def _prepare(self, name: str, section: ServerSection, key: DeviceKey | None) -> None:
        """Make the key and renew the session, in the thread of whoever uses it: the state directory may hang.

        Raises:
            NotConfigured: as `_renew`; or no key can be made.
        """
        if key is not None:
            try:
                key.make()
            except NotConfigured as error:
                with self._lock:
                    if self._sections.get(name) is section:
                        self._suspend(name, error)
                raise
        self._renew(name, section)

    def _suspend(self, name: str, error: NotConfigured) -> None:
        """Have a server no longer in force until somebody uses it and finds that it works; with the lock held."""
        self._in_force.pop(name, None)
        self._servers.add(name).replace(None, error.message)
        self._report_soon(name)

    def _renew(self, name: str, section: ServerSection) -> None:
        """Use another session if the settings are other ones: those of the section, at this moment; thread-safe.

        Raises:
            NotConfigured: a date cannot be filled in, as the clock is not set.
        """
        with self._lock:
            if self._sections.get(name) is not section:
                return  # another one came into force meanwhile
            directory = self._environment.directory_of(None if name == DEFAULT_SERVER else name)
            known_hosts, unfinished = directory / "known_hosts", self._environment.unfinished_transfers
            key = self._servers.add(name).device_key
            settings = section.as_settings(known_hosts, unfinished, self._clock(), key)
            before = self._in_force.get(name)
            if before is None or before.settings != settings:
                self._open(name, section, settings)
                self._report_soon(name)  # whoever uses the session may have done it

    def _forget(self, name: str) -> bool:
        """Have a server no longer in force; return whether it was."""
        with self._lock:
            self._sections.pop(name, None)
            self._servers.add(name).device_key = None
            return self._in_force.pop(name, None) is not None

    def _open(self, name: str, section: ServerSection, settings: ServerSettings) -> None:
        thing = on_server("server", name)
        place = settings.host, settings.port, settings.user, section.auth
        _log.info("%s: %s port %d, user %s, by %s", thing, *place, extra=about(thing))
        local_files = LocalRoot(self._environment.local_root, self._environment.state_dir)
        key = self._servers.add(name).device_key
        session = SFTPSession(
            settings,
            local_files=local_files,
            limit=self._limit,
            on_connected=(lambda info: key.note_accepted(info.accepted_keys)) if key is not None else do_nothing_with,
            shares_failures=True,
        )
        self._in_force[name] = ServerInForce(settings, session, {**section.as_properties(), "user": settings.user})
        self._servers.add(name).replace(session)

    def _key_of(self, name: str) -> DeviceKey:
        """Return the key that this device makes for a server."""
        if name not in self._keys:
            environment = self._environment
            self._keys[name] = DeviceKey(
                environment.directory_of(None if name == DEFAULT_SERVER else name),
                "/".join(part for part in (environment.device, environment.module, name) if part),
                guard=self._guard,
                on_change=partial(self._report_soon, name),
            )
        return self._keys[name]

    def _report_soon(self, name: str) -> None:
        """Report a server in the event loop; thread-safe."""
        self._in_loop(self._report_default if name == DEFAULT_SERVER else self._report_others)

    def _acknowledgement(self, name: str, error: str | None, version: int) -> dict[str, Any]:
        server = self._in_force.get(name)
        return {
            "ac": 200 if error is None else 400,
            "av": version,
            "ad": error or "applied",
            "value": None if server is None else {**server.shown, **self._public_keys(name)},
        }

    def _public_keys(self, name: str) -> dict[str, str]:
        key = self._servers.add(name).device_key
        return {} if key is None else key.as_properties()


def do_nothing_with(_info: ServerInfo) -> None:
    """Take no notice of what a server has shown."""


def _shortened(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: excerpt(value, MESSAGE_MAXIMUM) for key, value in properties.items()}
