"""Serve a directory with asyncssh's SFTP server.

Usage: asyncssh_server.py DIRECTORY HOST-KEY USER   (the password is in PASSWORD)
"""

from __future__ import annotations

import asyncio
import os
import sys

import asyncssh

DIRECTORY, HOST_KEY, USER = sys.argv[1:]


class Logins(asyncssh.SSHServer):
    """One user, one password."""

    def password_auth_supported(self) -> bool:
        """Take passwords."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Say whether it is this user's."""
        return (username, password) == (USER, os.environ["PASSWORD"])


class Files(asyncssh.SFTPServer):
    """The library's own server, in a directory."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        """Start there."""
        super().__init__(channel, chroot=DIRECTORY.encode())


async def main() -> None:
    """Listen until the process is ended."""
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Logins, server_host_keys=[HOST_KEY], sftp_factory=Files
    )
    print("PORT", server.get_port(), flush=True)  # noqa: T201 - how glue reports its port
    await server.wait_closed()


asyncio.run(main())
