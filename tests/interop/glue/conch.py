"""Serve a directory with Twisted Conch's SFTP server.

Usage: conch.py DIRECTORY HOST-KEY   (logs in the user who runs it; the password is in PASSWORD)
"""

from __future__ import annotations

import getpass
import os
import sys
from typing import Any

from twisted.conch import unix
from twisted.conch.ssh import factory, keys
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.python.filepath import FilePath

DIRECTORY, HOST_KEY = sys.argv[1:]


class User(unix.UnixConchUser):  # type: ignore[misc]
    """The one who runs this, at home in the directory."""

    def getHomeDir(self) -> Any:  # noqa: N802 - Conch's name
        """Return where relative paths start."""
        return FilePath(DIRECTORY)

    def _runAsUser(self, function: Any, *arguments: Any, **options: Any) -> Any:  # noqa: N802 - Conch's name
        """Work as who we are: changing to the user is for root only."""
        calls = iter(function) if hasattr(function, "__iter__") else iter([(function, arguments, options)])
        result = None
        for work, *rest in calls:
            given, named = [*rest, (), {}][:2] if len(rest) < 2 else rest
            result = work(*(given or ()), **(named or {}))
        return result


class Realm:
    """Everybody who has logged in is the same."""

    def requestAvatar(self, name: bytes, _: object, *interfaces: Any) -> Any:  # noqa: N802 - twisted.cred's name
        """Return the user."""
        user = User(name.decode())
        return interfaces[0], user, user.logout


host_key = keys.Key.fromFile(HOST_KEY)
conch = factory.SSHFactory()
conch.publicKeys = {host_key.sshType(): host_key.public()}
conch.privateKeys = {host_key.sshType(): host_key}
checker = InMemoryUsernamePasswordDatabaseDontUse()
checker.addUser(getpass.getuser().encode(), os.environ["PASSWORD"].encode())
conch.portal = Portal(Realm(), [checker])
listener = reactor.listenTCP(0, conch, interface="127.0.0.1")
print("PORT", listener.getHost().port, flush=True)  # noqa: T201 - how glue reports its port
reactor.run()
