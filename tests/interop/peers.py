"""Other clients, which read what we wrote, and show what can be done with a server at all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import asyncssh
from tests.interop import processes

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

    @property
    def askpass(self) -> Path:
        """What answers for a password: each client that is run has it in its environment."""
        return self.scratch / "askpass"

    def run(self, *commands: str, check: bool = True) -> str:
        """Have commands carried out, and return what was said.

        Raises:
            PeerFailed: one of them failed, and `check` is not turned off; the others were not tried.
        """
        done = self.scratch / "done"
        done.unlink(missing_ok=True)
        with open(self.scratch / "said", "w+", encoding="utf-8", errors="replace") as said:
            status = self._run("\n".join([*commands, f"!touch {done}", ""]), done, said)
            said.seek(0)
            words = said.read()
        if check and not done.exists():
            raise PeerFailed(reason(words) if status is not None else f"nothing happened for {LIMIT:g} s")
        return words

    def _run(self, batch: str, done: Path, said: IO[str]) -> int | None:
        """Run it until it ends, or has nothing more to do: some servers never close the channel, and it waits."""
        command, env = self._command()
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            start_new_session=True,
        ) as process:
            try:
                return self._wait(process, batch, done)
            finally:
                processes.end_group(process)  # with the `ssh` that it has started

    def _wait(self, process: subprocess.Popen[str], batch: str, done: Path) -> int | None:
        assert process.stdin
        process.stdin.write(batch)
        process.stdin.close()
        give_up = time.monotonic() + LIMIT
        while time.monotonic() < give_up and not done.exists():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                break
        with suppress(subprocess.TimeoutExpired):
            process.wait(2 if done.exists() else 0)
        return process.poll() or 0 if time.monotonic() < give_up else None

    def _command(self) -> tuple[list[str], dict[str, str]]:
        ask = self.askpass
        ask.write_text('#!/bin/sh\nprintf "%s\\n" "$SSH_PASSWORD"\n')
        ask.chmod(0o700)
        login = ["-i", str(self.server.key_file), "-o", "BatchMode=yes"]
        if not self.server.key_file:  # batch mode would ask for no password
            login = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "BatchMode=no"]
        trust = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null"]
        options = [word for option in [*trust, "LogLevel=ERROR", "IdentityAgent=none"] for word in ("-o", option)]
        where = ["-b", "-", "-P", str(self.server.port), f"{self.server.user}@{self.server.host}"]
        env = os.environ | {
            "SSH_ASKPASS": str(ask),
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": "none",
            "SSH_PASSWORD": self.server.password or "",
        }
        return ["sftp", "-q", "-F", "none", *login, *options, *where], env


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
        async with (
            asyncssh.connect(
                server.host,
                server.port,
                username=server.user,
                password=server.password,
                client_keys=keys,
                known_hosts=None,
                config=None,
                agent_path=None,
            ) as connection,
            connection.start_sftp_client() as sftp,
            sftp.open(path, "rb") as file,
        ):
            content: bytes = await file.read()
            return content

    try:
        return asyncio.run(asyncio.wait_for(read(), LIMIT))
    except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
        raise PeerFailed(f"asyncssh: {error}") from error
