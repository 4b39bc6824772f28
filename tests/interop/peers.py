"""Other clients, which read what we wrote, and show what can be done with a server at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from tests.servers import Server

LIMIT = 60.0  # seconds for one run of another client


class PeerFailed(Exception):  # noqa: N818 - it says what happened
    """Another client cannot do it either; the text is what it said."""


@dataclass(frozen=True)
class OpenSSH:
    """OpenSSH's `sftp`, logged in to a server."""

    server: Server
    scratch: Path

    def run(self, *commands: str, check: bool = True) -> str:
        """Have commands carried out, and return what was said.

        Raises:
            PeerFailed: one of them failed, and `check` is not turned off; the others were not tried.
        """
        done = self._run(["-b", "-"], "\n".join([*commands, ""]))
        if check and done.returncode:
            raise PeerFailed(reason(done.stderr))
        return done.stdout + done.stderr

    def _run(self, options: list[str], text: str) -> subprocess.CompletedProcess[str]:
        ask = self.scratch / "askpass"
        ask.write_text('#!/bin/sh\nprintf "%s\\n" "$SSH_PASSWORD"\n')
        ask.chmod(0o700)
        login = ["-i", str(self.server.key_file), "-o", "BatchMode=yes"] if self.server.key_file else []
        if not self.server.key_file:  # batch mode would ask for no password
            login = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "BatchMode=no"]
        trust = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"]
        shell = [word for option in [*trust, "LogLevel=ERROR", "IdentityAgent=none"] for word in ("-o", option)]
        where = ["-P", str(self.server.port), f"{self.server.user}@{self.server.host}"]
        env = os.environ | {
            "SSH_ASKPASS": str(ask),
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": "none",
            "SSH_PASSWORD": self.server.password or "",
        }
        command = ["sftp", "-q", "-F", "none", *login, *shell, *options, *where]
        try:
            return subprocess.run(
                command, input=text, capture_output=True, text=True, env=env, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"nothing happened for {LIMIT:g} s") from None


def reason(said: str) -> str:
    """Return the last line of what a program said that is not empty."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it failed without a word"


def read_with_asyncssh(server: Server, path: str) -> bytes:
    """Return the bytes of a file as asyncssh reads them.

    Raises:
        PeerFailed: asyncssh could not.
    """

    async def read() -> bytes:
        keys = [str(server.key_file)] if server.key_file else None
        async with asyncssh.connect(
            server.host,
            server.port,
            username=server.user,
            password=server.password,
            client_keys=keys,
            known_hosts=None,
            config=None,
            agent_path=None,
        ) as connection, connection.start_sftp_client() as sftp, sftp.open(path, "rb") as file:
            content: bytes = await file.read()
            return content

    try:
        return asyncio.run(asyncio.wait_for(read(), LIMIT))
    except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
        raise PeerFailed(f"asyncssh: {error}") from error
