"""An SFTP server in this process (asyncssh), with one user whose root is a folder."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import asyncssh

_SAMPLES = {
    "readme.txt": "This folder is the root of the SFTP server that localedge runs.\n",
    "hello.txt": "Hello from the SFTP server.\n",
    "measurements/2026-01-01.csv": "time,temperature\n00:00,19.5\n12:00,21.0\n",
    "measurements/2026-01-02.csv": "time,temperature\n00:00,19.1\n12:00,20.4\n",
}


class SftpServer:
    """Serves `root` to one user on an ephemeral port of `address`; the host key lives as long as the server."""

    def __init__(
        self,
        root: Path,
        address: str,
        *,
        user: str = "device",
        password: str | None = None,
        public_key: str | None = None,
    ) -> None:
        self.root = root
        self.address = address
        self.port = 0
        self.user = user
        self.password = password or secrets.token_urlsafe(12)
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._public_key = public_key
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._ended = asyncio.Event()

    @property
    def host_key(self) -> str:
        """The host key's fingerprint, `SHA256:…`."""
        return self._host_key.get_fingerprint()

    async def start(self) -> None:
        """Listen; `port` says where."""
        keys = asyncssh.import_authorized_keys(self._public_key) if self._public_key else None
        self._ended = ended = asyncio.Event()
        self._acceptor = await asyncssh.create_server(
            lambda: _Login(self.user, self.password, self._connections, ended),
            self.address,
            self.port,
            server_host_keys=[self._host_key],
            authorized_client_keys=keys,
            sftp_factory=self._session,
            allow_scp=False,
        )
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        """Listen no more and cut every connection; a later `start` takes the same port."""
        self._ended.set()  # for a connection that was accepted, and is made after this
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        # close() ends the listening only, and from Python 3.12 on, to wait for it means to wait for all callers.
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))

    def _session(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(self.root).encode())


class _Login(asyncssh.SSHServer):
    """Admits one user by password, and by key if there is one."""

    def __init__(
        self, user: str, password: str, connections: set[asyncssh.SSHServerConnection], ended: asyncio.Event
    ) -> None:
        self._user = user
        self._password = password
        self._connections = connections
        self._ended = ended

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)
        if self._ended.is_set():
            asyncio.get_running_loop().call_soon(conn.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        given = f"{username}\n{password}".encode()
        return secrets.compare_digest(given, f"{self._user}\n{self._password}".encode())


def write_samples(root: Path) -> None:
    """Put sample files into `root`, beside what is there."""
    for name, text in _SAMPLES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(text, encoding="utf-8")
