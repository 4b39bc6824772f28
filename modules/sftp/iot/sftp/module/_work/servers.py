"""The servers by their names, each with a session of its own; the section `sftp` is the default one."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client import InvalidRequest, NotConfigured
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._documents.servers import DEFAULT_SERVER, NAME_SHOWN
from iot.sftp.module._work.current_session import CurrentSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from iot.sftp.client import SFTPSession
    from iot.sftp.module._work.current_session import ConnectionState


class Servers:
    """Finds the session of a server by its name; thread-safe.

    The default server is always among them, configured or not. A server that was removed is not known any more; calls
    that run on its session finish.
    """

    def __init__(self, on_change: Callable[[str, ConnectionState], None]) -> None:
        """Begin with the default server, which is not configured yet.

        Parameters:
            on_change: called with a server's name and each new state of its connection, from any thread; must not
                block.
        """
        self._on_change = on_change
        self._lock = threading.Lock()
        self._known: dict[str, CurrentSession] = {}
        self._removed: list[CurrentSession] = []  # in use until their last call has finished
        self._is_closed = False
        self.add(DEFAULT_SERVER)

    @property
    def default(self) -> CurrentSession:
        """The session of the section `sftp`."""
        return self._known[DEFAULT_SERVER]

    def all(self) -> Mapping[str, CurrentSession]:
        """Return the sessions of all servers by their names, the default one first."""
        with self._lock:
            return dict(self._known)

    def get(self, name: str) -> CurrentSession:
        """Return the session of a server that a request names.

        Raises:
            InvalidRequest: there is no such server; the message lists those that there are.
        """
        with self._lock:
            session, names = self._known.get(name), ", ".join(self._known)
        if session is None:
            message = f"there is no server '{excerpt(name, NAME_SHOWN)}' in the desired properties; there are: {names}"
            raise InvalidRequest(message)
        return session

    def find(self, name: str) -> CurrentSession:
        """Return the session of a server for a task or a rule, which may outlive its configuration.

        Raises:
            NotConfigured: there is no such server at the moment: it was removed, and may come back.
        """
        with self._lock:
            session = self._known.get(name)
        if session is None:
            message = f"the desired properties have no server '{excerpt(name, NAME_SHOWN)}' any more"
            raise NotConfigured(message)
        return session

    def use(self, name: str) -> AbstractContextManager[SFTPSession]:
        """Lend the session of a server for one operation: see `CurrentSession.use`.

        Raises:
            InvalidRequest: there is no such server.
            NotConfigured: it has no valid settings; the message says what is missing.
        """
        return self.get(name).use()

    def add(self, name: str) -> CurrentSession:
        """Return the session of a server, which is made if there is none."""
        with self._lock:
            if name not in self._known:
                self._known[name] = CurrentSession(partial(self._on_change, name), name)
                if self._is_closed:
                    self._known[name].close()
            return self._known[name]

    def remove(self, name: str) -> None:
        """Forget a server; its calls in flight finish."""
        with self._lock:
            session = self._known.pop(name, None)
            self._removed = [removed for removed in self._removed if removed.is_in_use]
            if session is not None:
                self._removed.append(session)
        if session is not None:
            session.replace(None, f"the server '{name}' was removed from the desired properties")

    def close(self) -> None:
        """Close all sessions for good; calls in flight fail."""
        with self._lock:
            self._is_closed = True
            sessions = [*self._known.values(), *self._removed]
        for session in sessions:
            session.close()
