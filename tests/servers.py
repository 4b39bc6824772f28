"""Real SFTP servers for the tests, each on a free port of the loopback interface, and small faulty ones."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
PROFTPD = shutil.which("proftpd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
PASSWORD = "correct horse battery staple"
SSHD_OPTIONS = (
    *("ListenAddress 127.0.0.1", "PidFile none", "StrictModes no", "UsePAM no", "PermitRootLogin yes"),
    *("LogLevel VERBOSE", "MaxStartups 200"),
)
ATTEMPTS = 5  # to find a port that nobody takes between looking and listening


@dataclass
class Server:
    """A running server.

    `directory` is where relative paths start; `log` is what it says.
    """

    host: str
    port: int
    user: str
    directory: Path
    key_file: Path | None
    password: str | None
    host_key: str
    process: subprocess.Popen[str] | None = None
    log: list[str] = field(default_factory=list)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def openssh(
    base: Path,
    *options: str,
    sftp_options: str = "",
    subsystem: str | None = None,
    port: int | None = None,
    directory: Path | None = None,
) -> Iterator[Server]:
    """Run OpenSSH's sshd with its own SFTP server.

    Parameters:
        base: an empty directory for keys and configuration; the same one again keeps the keys.
        options: further lines of sshd_config.
        sftp_options: of sftp-server(8), such as `-P posix-rename`.
        subsystem: a command in the place of the SFTP server.
        port: to listen on; a free one by default.
        directory: where relative paths start; `base/files` by default.
    """
    assert SSHD, "sshd is missing: make test installs it, or install the package openssh-server"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    base.mkdir(parents=True, exist_ok=True)
    directory = directory or base / "files"
    directory.mkdir(exist_ok=True)
    host_key, user_key = base / "host_key", base / "user_key"
    for path in (host_key, user_key):
        if not path.exists():
            _write_key(path)
    said: list[str] = []
    for _ in range(ATTEMPTS):
        used = port or free_port()
        configuration = base / "sshd_config"
        ours = (f"Port {used}", f"HostKey {host_key}", f"AuthorizedKeysFile {user_key}.pub", *SSHD_OPTIONS)
        sftp = f"Subsystem sftp {subsystem or f'internal-sftp -d {directory} {sftp_options}'}"
        configuration.write_text("\n".join([*options, *ours, sftp, ""]))  # sshd takes the first value of an option
        # -r: sshd is not executed again for each connection, which took a third of its time (OpenSSH before 9.8)
        command = [SSHD, "-D", "-e", "-r", "-f", str(configuration)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True)
        server = Server(
            "127.0.0.1", used, getpass.getuser(), directory, user_key, None, _fingerprint(host_key), process
        )
        try:
            if _wait_for_line(process, server.log, "Server listening on"):
                yield server
                return
        finally:
            _stop(process)
        said = server.log
    message = f"sshd did not start: {said}"
    raise RuntimeError(message)


@contextmanager
def proftpd(base: Path) -> Iterator[Server]:
    """Run ProFTPD's mod_sftp, with a password for a user of its own; a process for each connection."""
    assert PROFTPD, "proftpd is missing: make test installs it, or install proftpd-core and proftpd-mod-crypto"
    base.mkdir(parents=True, exist_ok=True)
    directory = base / "files"
    directory.mkdir(exist_ok=True)
    host_key = base / "host_key"
    if not host_key.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", host_key], check=True
        )
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
    ).stdout.strip()
    users = base / "users"
    users.write_text(f"device:{hashed}:{os.getuid()}:{os.getgid()}::{directory}:/bin/sh\n")
    users.chmod(0o600)
    modules = next((path for path in ("/usr/lib/proftpd", "/usr/libexec/proftpd") if Path(path).is_dir()), "")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, open(base / "stderr", "wb") as said:
        port = listener.getsockname()[1]
        configuration = base / "proftpd.conf"
        configuration.write_text(
            "\n".join(
                [
                    f"ModulePath {modules}",
                    "LoadModule mod_sftp.c",
                    "ServerType inetd",
                    f"Port {port}",
                    "DefaultAddress 127.0.0.1",
                    "UseIPv6 off",
                    "DelayEngine off",  # logins take longer, by what earlier ones took: on a busy machine, many seconds
                    f"ScoreboardFile {base}/scoreboard",
                    f"SystemLog {base}/log",
                    f"User {getpass.getuser()}",
                    "Group " + _group(),
                    "AuthOrder mod_auth_file.c",
                    f"AuthUserFile {users}",
                    "RequireValidShell off",
                    "RootLogin on",
                    "AllowOverwrite on",
                    "SFTPEngine on",
                    f"SFTPHostKey {host_key}",
                    "",
                ]
            )
        )
        inetd = [sys.executable, "-I", "-S", str(Path(__file__).with_name("inetd.py")), str(listener.fileno())]
        process = subprocess.Popen(
            [*inetd, PROFTPD, "-n", "-c", str(configuration)],
            pass_fds=[listener.fileno()],
            stderr=said,
            text=True,
            start_new_session=True,
        )
    try:
        yield Server("127.0.0.1", port, "device", directory, None, PASSWORD, _fingerprint(host_key), process)
    finally:
        _stop(process)


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept TCP connections and hand each to `answer` in a thread; give the port.

    At the end all connections are closed, and what blocks on them is woken: the threads have ended by then.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            send_at_once(connection)
            connections.append(connection)
            threads.append(threading.Thread(target=_quietly, args=(answer, connection), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            shut_down(connection)  # closing it alone wakes nobody
            connection.close()
        for answering in threads:
            answering.join(30)


def send_at_once(connection: socket.socket) -> None:
    """Have small packets not wait for the acknowledgement of the one before (Nagle's algorithm): it takes 40 ms."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def never_answers(_: socket.socket) -> None:
    """Accept, and be silent."""


def closes_at_once(connection: socket.socket) -> None:
    """Accept, and hang up."""
    connection.close()


def resets_at_once(connection: socket.socket) -> None:
    """Accept, and reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def speaks_http(connection: socket.socket) -> None:
    """Be a web server."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    connection.close()


@contextmanager
def black_hole() -> Iterator[int]:
    """Give a port whose connections are never accepted: the backlog is full, the kernel drops what comes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)  # noqa: FBT003 - the socket's own signature
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


class Relay:
    """A TCP relay to a server, which can be told to cut or to freeze every connection.

    `cut_after` bytes towards the client (or `None`) end one connection; it is counted down once.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        """Relay to this address."""
        self.cut_after: int | None = None
        self.frozen = threading.Event()
        self.connections = 0
        self._target = target
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run, and give the port."""
        try:
            with listening(self._relay) as port:
                try:
                    yield port
                finally:
                    self.cut()
        finally:
            self.cut()  # what was accepted meanwhile

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            self._open.clear()

    def _relay(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        send_at_once(server)
        with self._lock:
            self.connections += 1
            self._open += [client, server]
        _both_ways(
            lambda: self._pump(server, client, count=True),
            lambda: self._pump(client, server, count=False),
        )

    def _pump(self, source: socket.socket, sink: socket.socket, *, count: bool) -> None:
        try:
            while data := source.recv(65536):
                if self.frozen.is_set():
                    continue
                if count and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        self.cut()
                        return
                sink.sendall(data)
        finally:
            shut_down(source, sink)


def pipe(client: socket.socket, address: tuple[str, int]) -> None:
    """Connect a client to a server, until either of them hangs up."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        finally:
            shut_down(source, sink)

    with socket.create_connection(address) as server:
        send_at_once(server)
        _both_ways(lambda: pump(server, client), lambda: pump(client, server))


def shut_down(*connections: socket.socket | paramiko.Channel) -> None:
    """End connections for whoever reads or writes them."""
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _both_ways(back: Callable[[], None], forth: Callable[[], None]) -> None:
    other = threading.Thread(target=_quietly, args=(lambda _: back(), None), daemon=True)
    other.start()
    try:
        forth()
    finally:
        other.join()


def _quietly(answer: Callable[[Any], None], connection: socket.socket | None) -> None:
    try:
        answer(connection)
    except OSError:
        return  # the client went away, or the relay was cut


def _write_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)


def _fingerprint(path: Path) -> str:
    fingerprint: str = paramiko.PKey.from_path(path).fingerprint
    return fingerprint


def _group() -> str:
    import grp  # noqa: PLC0415 - only here, and only where ProFTPD is

    return grp.getgrgid(os.getgid()).gr_name


def wait_for_port(process: subprocess.Popen[str], port: int) -> bool:
    """Wait until somebody listens on the port; return false if the process has ended, or does not come to it."""
    pause = threading.Event()
    for _ in range(400):
        if process.poll() is not None:
            return False
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        pause.wait(0.05)
    return False


def _wait_for_line(process: subprocess.Popen[str], log: list[str], text: str) -> bool:
    """Wait until the process says `text`; keep reading what it says afterwards, so that it never blocks."""
    assert process.stderr is not None
    said = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            if text in line:
                said.set()
        ended.set()
        said.set()

    ended = threading.Event()
    threading.Thread(target=read, name=f"log-of-{process.pid}", daemon=True).start()
    said.wait(20)
    return said.is_set() and not ended.is_set()


def processes_below(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """Return the processes of that name that a server has started, the oldest first; others may end meanwhile."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.name() == name:
                found.append(child)
    return sorted(found, key=lambda child: child.pid)


def _stop(process: subprocess.Popen[str]) -> None:
    """End a server and the processes of its sessions, which are its group."""
    with suppress(psutil.NoSuchProcess):
        for session in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                session.kill()  # a session would hold the log's pipe
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # of the group, who ignores SIGTERM
        os.killpg(process.pid, signal.SIGKILL)
    for thread in threading.enumerate():
        if thread.name == f"log-of-{process.pid}":
            thread.join(10)
    if process.stderr is not None:
        process.stderr.close()
