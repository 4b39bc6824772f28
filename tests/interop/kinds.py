"""The servers that others wrote: where each comes from, and how one is started on a free port of this machine."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests import servers
from tests.servers import PASSWORD, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).parents[2]
GLUE = Path(__file__).parent / "glue"
BUILD = ROOT / "build" / "interop"  # what tools/install-interop-servers unpacks, and what is compiled here
PYTHON = ROOT / ".venv-interop" / "bin" / "python"
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/libexec"])
SFTP_SERVER = next(
    (
        path
        for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
        if os.access(path, os.X_OK)
    ),
    None,
)
USER = getpass.getuser()
STARTING = 30.0  # seconds that a server may take until it listens

Start = "Callable[[Path], AbstractContextManager[Server]]"


@dataclass(frozen=True)
class Kind:
    """One server, or one configuration of it.

    Attributes:
        name: how it is chosen.
        title: what it is.
        packages: Debian's names, unless they begin with `PyPI:` or `npm:`.
        start: starts it with an empty directory for all that it needs.
        missing: says why it cannot run here, or `None`.
        version: says which one it is.
        fast: it is quickly installed and started, and `make test` tries it too.
        settles: seconds after which what was written is on its disk at the latest.
        refusing: it is set up to refuse what some checks do, so that no client can pass them.
        strict: what it refuses is refused on purpose, and we do without: that OpenSSH's `sftp` cannot is no excuse.
        excused: checks that it makes impossible all the same.
        differently: what the client does differently for it, and why.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    start: Callable[[Path], AbstractContextManager[Server]]
    missing: Callable[[], str | None]
    version: Callable[[], str]
    fast: bool = False
    settles: float = 0.0
    refusing: bool = False
    strict: bool = False
    excused: tuple[str, ...] = ()
    differently: str = ""


# How a server is run


def program(name: str) -> str | None:
    """Return where a program is, also one that only root has in its path."""
    return shutil.which(name, path=SEARCH)


def needs(*names: str) -> Callable[[], str | None]:
    """Return what says which of these programs or files is missing."""

    def missing() -> str | None:
        absent = [name for name in names if not (os.path.exists(name) if "/" in name else program(name))]
        return f"not installed: {', '.join(os.path.basename(name) for name in absent)}" if absent else None

    return missing


def debian(package: str) -> Callable[[], str]:
    """Return what prints the installed version of a package of Debian."""

    def version() -> str:
        query = ["dpkg-query", "--show", "--showformat", "${Version}", package]
        with suppress(OSError):
            found = subprocess.run(query, capture_output=True, text=True, check=False).stdout
            return re.sub(r"^\d+:|[+~-][^-]*.*$", "", found)
        return ""

    return version


def said(*command: str, pattern: str = r"\d[\w.]+") -> Callable[[], str]:
    """Return what finds a version in what a command says."""

    def version() -> str:
        with suppress(OSError):
            told = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if found := re.search(pattern, told.stdout + told.stderr):
                return found.group()
        return ""

    return version


def host_key(base: Path, kind: str = "ed25519", *, pem: bool = False) -> Path:
    """Return a key of the server, made once for a directory."""
    path = base / f"host_{kind}"
    if not path.exists():
        form = ["-m", "PEM"] if pem else []
        command = ["ssh-keygen", "-q", "-t", kind, *form, "-N", "", "-C", "host", "-f", str(path)]
        subprocess.run(command, check=True)
    return path


def user_key(base: Path) -> Path:
    """Return a key to log in with, made once for a directory."""
    path = base / "user_key"
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "user", "-f", str(path)], check=True)
    return path


def files(base: Path) -> Path:
    """Return the directory that is served."""
    directory = base / "files"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a server: ours without what the tests set for themselves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE"))}
    return kept | {"PASSWORD": PASSWORD} | more


@contextmanager
def announced(
    base: Path, command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run glue that says `PORT n` once it listens; what it says besides goes to a file."""
    with open(base / "log", "ab") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd or base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            env=environment(**(env or {})),
            start_new_session=True,
        )
    port: list[int] = []
    listening = threading.Event()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            if not port and (found := re.match(r"PORT (\d+)", line)):
                port.append(int(found.group(1)))
                listening.set()
        listening.set()

    reader = threading.Thread(target=read, name=f"log-of-{process.pid}", daemon=True)
    reader.start()
    try:
        listening.wait(STARTING)
        if not port:
            raise RuntimeError(f"{command[0]} did not start: {(base / 'log').read_text(errors='replace')[-2000:]}")
        yield Server("127.0.0.1", port[0], USER, files(base), None, PASSWORD, "", process)
    finally:
        servers._stop(process)
        if process.stdout:
            process.stdout.close()


@contextmanager
def on_a_free_port(
    base: Path,
    command: Callable[[int], list[str]],
    *,
    user: str = USER,
    key: Path | None = None,
    env: dict[str, str] | None = None,
) -> Iterator[Server]:
    """Run a program that is given its port."""
    for _ in range(servers.ATTEMPTS):
        port = servers.free_port()
        with open(base / "log", "ab") as log:
            process = subprocess.Popen(
                command(port),
                cwd=files(base),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env=environment(**(env or {})),
                start_new_session=True,
            )
        try:
            if servers.wait_for_port(process, port):
                yield Server("127.0.0.1", port, user, files(base), key, None if key else PASSWORD, "", process)
                return
        finally:
            servers._stop(process)
    raise RuntimeError(f"{command(0)[0]} did not start: {(base / 'log').read_text(errors='replace')[-2000:]}")


def openssh(*options: str, **more: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Return what starts OpenSSH's sshd with these lines of configuration."""
    return lambda base: servers.openssh(base, *options, sftp_options=more.get("sftp_options", ""))


def behind_openssh(command: Callable[[Path], str], *options: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Return what starts OpenSSH's sshd with another SFTP server."""
    return lambda base: servers.openssh(base, *options, subsystem=f"cd {files(base)} && exec {command(base)}")


@contextmanager
def strict_place() -> Iterator[Path]:
    """Give a directory whose parents nobody else may write to: /tmp is none of these."""
    parent = Path("/var/lib") if os.geteuid() == 0 else BUILD
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="iot-sftp-interop-", dir=parent, ignore_cleanup_errors=True) as place:
        yield Path(place)


@contextmanager
def chrooted(base: Path) -> Iterator[Server]:
    """Run OpenSSH's sshd with ChrootDirectory."""
    with strict_place() as jail:
        jail.chmod(0o755)
        inside = jail / "files"
        inside.mkdir()
        subsystem = "internal-sftp -d /files"
        with servers.openssh(base, f"ChrootDirectory {jail}", directory=inside, subsystem=subsystem) as server:
            yield server


@contextmanager
def wrapped(base: Path) -> Iterator[dict[str, str]]:
    """Give an environment in which this user has a home directory of its own, with one authorized key.

    These servers take the keys from the home that the system's list of users names, which is not ours to change.
    """
    with strict_place() as home:
        folder = home / ".ssh"
        folder.mkdir(mode=0o700)
        shutil.copy(f"{user_key(base)}.pub", folder / "authorized_keys")
        (folder / "authorized_keys").chmod(0o600)
        users, groups = base / "passwd", base / "group"
        users.write_text(f"{USER}:x:{os.getuid()}:{os.getgid()}::{home}:/bin/sh\n")
        groups.write_text(f"{servers._group()}:x:{os.getgid()}:\n")
        yield {
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(users),
            "NSS_WRAPPER_GROUP": str(groups),
            "HOME": str(home),
        }


WRAPPER = next((str(path) for path in Path("/usr/lib").glob("*/libnss_wrapper.so")), "/usr/lib/libnss_wrapper.so")


def sftp_server_here(base: Path) -> Path:
    """Write a program that starts OpenSSH's SFTP server in the directory that is served."""
    path = base / "sftp-server"
    path.write_text(f"#!/bin/sh\nunset LD_PRELOAD\nexec {SFTP_SERVER} -d {files(base)}\n")
    path.chmod(0o755)
    return path


@contextmanager
def dropbear(base: Path) -> Iterator[Server]:
    """Run dropbear. It starts the SFTP server in the home of the user, which here is the directory that is served."""
    base.mkdir(parents=True, exist_ok=True)
    key = base / "host_dropbear"
    if not key.exists():
        subprocess.run(["dropbearkey", "-t", "ed25519", "-f", str(key)], check=True, capture_output=True)
    with wrapped(base) as env:

        def command(port: int) -> list[str]:
            return [
                str(program("dropbear")),
                "-F",
                "-E",
                "-p",
                f"127.0.0.1:{port}",
                "-r",
                str(key),
                "-P",
                f"{base}/pid",
            ]

        with on_a_free_port(base, command, key=user_key(base), env=env) as server:
            server.directory = Path(env["HOME"])
            yield server


@contextmanager
def tinyssh(base: Path) -> Iterator[Server]:
    """Run TinySSH for each connection, as inetd would."""
    base.mkdir(parents=True, exist_ok=True)
    keys = base / "sshkeydir"
    if not keys.exists():
        subprocess.run([str(program("tinysshd-makekey")), str(keys)], check=True, capture_output=True)
    with wrapped(base) as env:
        command = [str(program("tinysshd")), "-x", f"sftp={sftp_server_here(base)}", str(keys)]
        with inetd(base, command, env) as port:
            yield Server("127.0.0.1", port, USER, files(base), user_key(base), None, "")


@contextmanager
def inetd(base: Path, command: list[str], env: dict[str, str]) -> Iterator[int]:
    """Start a program for each connection, which is its standard input and output; give the port."""
    processes: list[subprocess.Popen[str]] = []

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, open(base / "log", "ab") as log:
            ends = {"stdin": connection, "stdout": connection, "stderr": log}
            processes.append(
                subprocess.Popen(command, env=environment(**env), start_new_session=True, text=True, **ends)  # type: ignore[call-overload]
            )

    try:
        with servers.listening(answer) as port:
            yield port
    finally:
        for process in processes:
            servers._stop(process)


@contextmanager
def lshd(base: Path) -> Iterator[Server]:
    """Run lshd. Of keys it knows only RSA with SHA-1, which is why it asks a program of ours about the password."""
    base.mkdir(parents=True, exist_ok=True)
    key, checker = base / "host_lsh", base / "check-password"
    with wrapped(base) as env:
        if not key.exists():
            _make_lsh_keys(Path(env["HOME"]), key)
        checker.write_text(f"#!/bin/sh\nread -r given\n[ \"$given\" = '{PASSWORD}' ]\n")
        checker.chmod(0o755)

        def command(port: int) -> list[str]:
            options = ["--interface=127.0.0.1", f"--host-key={key}", "--root-login", f"--password-helper={checker}"]
            subsystem = f"--subsystems=sftp={LSH_SERVER}"
            return [str(program("lshd")), f"--port={port}", *options, subsystem]

        with on_a_free_port(base, command, env=env) as server:
            yield server


def _make_lsh_keys(home: Path, key: Path) -> None:
    env = environment(HOME=str(home))
    seed = home / ".lsh" / "yarrow-seed-file"
    seed.parent.mkdir(exist_ok=True, mode=0o700)
    subprocess.run(["lsh-make-seed", "--sloppy", "-q", "-o", str(seed)], env=env, check=True, capture_output=True)
    make = ["lsh-keygen", "--server", "-a", "rsa", "-l", "2048", "-q"]
    made = subprocess.run(make, env=env, check=True, capture_output=True).stdout
    write = ["lsh-writekey", "--server", "-o", str(key)]
    subprocess.run(write, input=made, env=env, check=True, capture_output=True)


def mysecureshell(base: Path) -> AbstractContextManager[Server]:
    """Run MySecureShell behind sshd, with a configuration of ours in the place of the system's, for its eyes only."""
    settings, start = base / "sftp_config", base / "start"
    lines = [f"Home {files(base)}", "StayAtHome false", "VirtualChroot false", "LimitConnection 100"]
    lines += ["LimitConnectionByUser 100", "LimitConnectionByIP 100", "IdleTimeOut 5m", "ResolveIP false"]
    settings.write_text("\n".join(["<Default>", *lines, "</Default>", ""]))
    start.write_text(
        f"#!/bin/sh\nmount --bind {settings} {MYSECURESHELL} && cd {files(base)} && "
        f"exec {program('mysecureshell')} -c sftp-server\n"
    )
    start.chmod(0o755)
    return servers.openssh(base, subsystem=f"exec unshare --mount {start}")


# What is compiled here, once


@contextmanager
def _alone(name: str) -> Iterator[Path]:
    """Let one process at a time build."""
    import fcntl  # noqa: PLC0415 - only here

    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield BUILD / name


def _run_build(command: list[str], **env: str) -> None:
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")


def built_go() -> Path:
    """Compile the glue for pkg/sftp against Debian's packages of it."""
    source = GLUE / "pkg_sftp.go"
    with _alone("pkg_sftp") as binary:
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            cache = str(BUILD / "go-cache")
            env = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": cache, "GOFLAGS": ""}
            _run_build([str(program("go")), "build", "-o", f"{binary}.new", str(source)], **env)
            os.replace(f"{binary}.new", binary)
        return binary


def pkg_sftp(mode: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Return what starts pkg/sftp's server for disks, or its request server."""

    def start(base: Path) -> AbstractContextManager[Server]:
        options = ["-root", str(files(base)), "-host-key", str(host_key(base)), "-user", USER, "-mode", mode]
        return announced(base, [str(built_go()), *options])

    return start


JARS = ("sshd-core", "sshd-common", "sshd-sftp", "slf4j-api", "slf4j-nop")


def jars() -> list[str]:
    """Return the files of Apache MINA SSHD, installed or unpacked."""
    for place in ("/usr/share/java", str(BUILD / "debian" / "usr" / "share" / "java")):
        found = [os.path.join(place, f"{name}.jar") for name in JARS]
        if all(map(os.path.exists, found)):
            return found
    return []


def mina_missing() -> str | None:
    """Say what is missing for Apache MINA."""
    if not jars():
        return "no package libmina-sshd-java (Debian has it since trixie)"
    return needs("java", "javac")()


def mina_version() -> str:
    """Return the version that is in the file's name."""
    return next((f.group(1) for jar in jars()[:1] if (f := re.search(r"-(\d[\d.]*)\.jar", os.path.realpath(jar)))), "")


def mina(base: Path) -> AbstractContextManager[Server]:
    """Run Apache MINA SSHD."""
    source = GLUE / "Mina.java"
    path = ":".join(jars())
    with _alone("mina") as classes:
        compiled = classes / "Mina.class"
        if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
            classes.mkdir(exist_ok=True)
            _run_build([str(program("javac")), "-cp", path, "-d", str(classes), str(source)])
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{path}:{classes}"]
    key = host_key(base, "rsa", pem=True)
    return announced(base, [str(program("java")), *options, "Mina", str(files(base)), str(key), USER])


def libssh() -> Path:
    """Return where the sample server of libssh is when it has been built."""
    return BUILD / "libssh" / "examples" / "sample_sftpserver"


def libssh_version() -> str:
    """Return the version that the source states."""
    with suppress(OSError):
        if found := re.search(
            r"project\(libssh VERSION (\d[\d.]+)", (BUILD / "libssh-source" / "CMakeLists.txt").read_text()
        ):
            return found.group(1)
    return ""


def libssh_sample(base: Path) -> AbstractContextManager[Server]:
    """Run the sample server of libssh."""
    keys = shutil.copy(f"{user_key(base)}.pub", base / "authorized_keys")
    key = host_key(base, "ecdsa")

    def command(port: int) -> list[str]:
        return [str(libssh()), "-n", "-k", str(key), "-a", str(keys), "-p", str(port), "127.0.0.1"]

    return on_a_free_port(base, command, key=user_key(base))


def erlang(base: Path) -> AbstractContextManager[Server]:
    """Run Erlang's ssh_sftpd."""
    keys = base / "system_dir"
    if not keys.exists():
        keys.mkdir()
        shutil.copy(host_key(base, "rsa", pem=True), keys / "ssh_host_rsa_key")
    command = [str(program("escript")), str(GLUE / "ssh_sftpd.escript"), str(files(base)), str(keys), USER]
    return announced(base, command, env={"HOME": str(base)})


def perl(base: Path) -> AbstractContextManager[Server]:
    """Run Perl's Net::SFTP::SftpServer behind sshd. It serves the folder of the user's name in its home."""
    place = files(base) / USER
    place.mkdir(exist_ok=True)
    script = f"{program('perl')} {GLUE / 'sftp_server.pl'} {files(base)}"
    return _elsewhere(servers.openssh(base, subsystem=script), place)


@contextmanager
def _elsewhere(start: AbstractContextManager[Server], directory: Path) -> Iterator[Server]:
    with start as server:
        server.directory = directory
        yield server


def python_server(script: str, *more: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Return what starts glue in the environment of the servers from PyPI."""

    def start(base: Path) -> AbstractContextManager[Server]:
        command = [str(PYTHON), str(GLUE / script), str(files(base)), str(host_key(base)), *more]
        return announced(base, command)

    return start


def asyncssh_server(base: Path) -> AbstractContextManager[Server]:
    """Run asyncssh's server, which the tests have already."""
    command = [sys.executable, str(GLUE / "asyncssh_server.py"), str(files(base)), str(host_key(base)), USER]
    return announced(base, command)


@contextmanager
def paramiko_stub(base: Path) -> Iterator[Server]:
    """Run PyPI's sftpserver: the stub server of paramiko's own tests, for anybody."""
    command = [str(PYTHON), str(GLUE / "paramiko_stub.py"), str(host_key(base))]
    with announced(base, command, cwd=files(base)) as server:
        yield server


def python_missing(*modules: str) -> Callable[[], str | None]:
    """Return what says that the environment of the servers from PyPI, or something in it, is missing."""

    def missing() -> str | None:
        if not PYTHON.exists():
            return "no environment .venv-interop: make interop makes it"
        check = subprocess.run([str(PYTHON), "-c", f"import {', '.join(modules)}"], capture_output=True, check=False)
        return f"not in .venv-interop: {', '.join(modules)}" if check.returncode else None

    return missing


def python_version(distribution: str, python: Path = PYTHON) -> Callable[[], str]:
    """Return what prints the version of a distribution in an environment."""
    return said(
        str(python), "-c", f"from importlib.metadata import version; print(version({distribution!r}))", pattern=r"\S+"
    )


def rclone(mode: str) -> Callable[[Path], AbstractContextManager[Server]]:
    """Return what starts `rclone serve sftp` with a way of caching writes."""

    def start(base: Path) -> AbstractContextManager[Server]:
        key = host_key(base)

        def command(port: int) -> list[str]:
            options = ["--config", "/dev/null", "--cache-dir", str(base / "cache"), "--vfs-cache-mode", mode]
            options += ["--dir-cache-time", "0"]  # or files that others make are not seen for five minutes
            login = ["--addr", f"127.0.0.1:{port}", "--user", USER, "--pass", PASSWORD, "--key", str(key)]
            return [str(program("rclone")), "serve", "sftp", str(files(base)), *login, *options]

        return on_a_free_port(base, command)

    return start


def node_modules() -> Path:
    """Return where the packages of npm are."""
    return BUILD / "npm" / "node_modules"


def ssh2(base: Path) -> AbstractContextManager[Server]:
    """Run npm's ssh2."""
    script = str(GLUE / "ssh2_server.js")
    command = [str(program("node")), script, str(files(base)), str(host_key(base)), USER]
    return announced(base, command, env={"NODE_PATH": str(node_modules())})


def ssh2_missing() -> str | None:
    """Say what is missing for npm's ssh2."""
    return needs("node", str(node_modules() / "ssh2"))()


def only_root(missing: Callable[[], str | None]) -> Callable[[], str | None]:
    """Return what says also that somebody else than root runs this."""
    return lambda: missing() or (None if os.geteuid() == 0 else "it wants to be started by root")


SSHD = needs("sshd", SFTP_SERVER or "sftp-server")
OPENSSH = said("ssh", "-V", pattern=r"(?<=OpenSSH_)[\w.]+")
MYSECURESHELL = "/etc/ssh/sftp_config"  # the path is compiled in
LSH_SERVER = "/usr/lib/lsh-server/sftp-server"
REFUSED = "posix-rename,fstat,lstat,setstat,fsetstat,statvfs,fsync,limits,hardlink,copy-data"
DROP_BOX = "-p open,close,write,realpath,mkdir,rename"

# What the client does differently for a server, and why; what it does for all of them is in docs/design.md.
DIFFERENTLY = {
    "openssh": (
        "Recognised by what its SFTP subsystem announces (`fsync@openssh.com`, `fstatvfs@openssh.com` and nothing "
        "that is not its own): requests that depend on each other are sent without waiting, a large upload is "
        "written in parts over several channels, requests are as large as `limits@openssh.com` allows, and "
        "`sha256sum` is asked for where commands are allowed."
    ),
    "openssh-one-session": (
        "A second channel is refused, so quick calls wait for their turn between the parts of a transfer."
    ),
    "openssh-refusing": (
        "It refuses FSTAT, LSTAT, SETSTAT, FSETSTAT and the extensions, with PERMISSION_DENIED. STAT takes the "
        "place of both looks, also after CLOSE; times and modes are lost; RENAME takes the place of "
        "`posix-rename@openssh.com`. `sftp get` asks LSTAT itself, and cannot download here."
    ),
    "openssh-drop-box": (
        "Only OPEN, CLOSE, WRITE, REALPATH, MKDIR and RENAME are allowed. Nothing can be looked at or read, so the "
        "size of an upload is what the server has acknowledged, and the result says so. Missing folders are made, and "
        "files renamed, without a look at them. RENAME refuses a name that is taken: such a file is not replaced "
        "(`unsupported`), unless `posix-rename` is allowed as well. `iot-sftp check --write` leaves one file, and "
        "says so."
    ),
    "openssh-read-only": (
        "Where the temporary name is refused, the final one is tried before it is said that nothing may be written."
    ),
    "proftpd": ("Recognised by its version line (`mod_sftp`): requests keep their order. One handle writes a file."),
    "tinyssh": ("It has chacha20-poly1305@openssh.com and no other cipher, and keys and no passwords."),
    "lshd": (
        "Its newest algorithms are SHA-1, CBC and 1024- to 2048-bit Diffie-Hellman. Neither OpenSSH's client nor "
        "this one has them switched on, and this one has no switch: put its SFTP server behind another SSH server."
    ),
    "libssh": (
        "It takes one SFTP request in each SSH message, one channel on each connection, and knows no FSTAT, "
        "FSETSTAT and RENAME, though it announces `posix-rename@openssh.com`. A file is written under its own "
        "name, and the result says that this was not atomic; one that is there is not overwritten (`unsupported`)."
    ),
    "pkg-sftp": (
        "It carries out WRITE, FSTAT and CLOSE in workers that overtake each other: FSTAT is sent when all WRITEs "
        "are answered, CLOSE after that, one round trip more for each file. `sftp` waits as well."
    ),
    "pkg-sftp-requests": ("As above. SFTPGo and many products are built on it."),
    "erlang": (
        "It hands out a handle that is in use (five OPENs gave 0, 1, 1, 1, 1): a handle that is open is never "
        "used, and such a server gets one file at a time. It truncates a file that is opened for writing only: a "
        "resumed upload opens it for reading and writing, and asks for the size straight after. FSETSTAT works only "
        "for absolute paths, so SETSTAT by path "
        "follows where it is refused. A folder comes as one packet (3,000 names are 468,009 bytes), which is taken "
        "as long as there is memory for it. It closes the channel at a request for an extension that it did "
        "not announce, and at the listing of a folder with a name beyond ASCII."
    ),
    "perl": (
        "FSTAT of every open file is NO_SUCH_FILE, so STAT takes its place; SETSTAT is refused, so times and modes "
        "are lost. Links are hidden."
    ),
    "conch": (
        "FSETSTAT is OP_UNSUPPORTED, so SETSTAT by path follows. What lies below a file is FAILURE without a reason."
    ),
    "mina": (
        "STAT of what lies below a file is answered with attributes that say nothing, so the listing of its "
        "folder is looked at; a refusal has status codes "
        "of later versions of the protocol (18 for a directory that is not empty)."
    ),
    "rclone-off": (
        "Without a cache it takes WRITEs only in their order, and cannot go on with a file: a transfer that "
        "broke starts again from its first byte. It shows no links. `--dir-cache-time 0` is set here, or it would not "
        "see for five minutes what others write."
    ),
    "rclone-writes": (
        "A file reaches the disk five seconds after CLOSE, and its time settles then: a download that sees only the "
        "time change compares the bytes again. It truncates a file that is "
        "opened again: a resumed upload starts again from its first byte. Since it writes later, it reports "
        "a full disk or a read-only folder to no client."
    ),
    "rclone-full": ("As with `writes`."),
}

KINDS = [
    Kind(
        "openssh",
        "OpenSSH, internal-sftp",
        ("openssh-server",),
        openssh(),
        SSHD,
        OPENSSH,
        differently=DIFFERENTLY["openssh"],
    ),
    Kind(
        "openssh-sftp-server",
        "OpenSSH, sftp-server",
        ("openssh-server", "openssh-sftp-server"),
        behind_openssh(lambda _: str(SFTP_SERVER)),
        SSHD,
        OPENSSH,
    ),
    Kind("openssh-chroot", "OpenSSH, ChrootDirectory", ("openssh-server",), chrooted, only_root(SSHD), OPENSSH),
    Kind(
        "openssh-one-session",
        "OpenSSH, MaxSessions 1",
        ("openssh-server",),
        openssh("MaxSessions 1"),
        SSHD,
        OPENSSH,
        differently=DIFFERENTLY["openssh-one-session"],
    ),
    Kind(
        "openssh-refusing",
        "OpenSSH, refusing what is optional",
        ("openssh-server",),
        openssh(sftp_options=f"-P {REFUSED}"),
        SSHD,
        OPENSSH,
        strict=True,
        excused=("keeps_the_time_of_an_upload", "others_read_what_we_wrote"),
        differently=DIFFERENTLY["openssh-refusing"],
    ),
    Kind(
        "openssh-drop-box",
        "OpenSSH, a drop box: write only",
        ("openssh-server",),
        openssh(sftp_options=DROP_BOX),
        SSHD,
        OPENSSH,
        refusing=True,
        differently=DIFFERENTLY["openssh-drop-box"],
    ),
    Kind(
        "openssh-read-only",
        "OpenSSH, read only",
        ("openssh-server",),
        openssh(sftp_options="-R"),
        SSHD,
        OPENSSH,
        refusing=True,
        differently=DIFFERENTLY["openssh-read-only"],
    ),
    Kind(
        "proftpd",
        "ProFTPD mod_sftp",
        ("proftpd-core", "proftpd-mod-crypto"),
        servers.proftpd,
        needs("proftpd"),
        said(str(program("proftpd")), "-v", pattern=r"\d[\w.]+"),
        differently=DIFFERENTLY["proftpd"],
    ),
    Kind(
        "dropbear",
        "dropbear, OpenSSH's sftp-server",
        ("dropbear-bin", "openssh-sftp-server", "libnss-wrapper"),
        dropbear,
        needs("dropbear", WRAPPER),
        debian("dropbear-bin"),
        fast=True,
    ),
    Kind(
        "tinyssh",
        "TinySSH, OpenSSH's sftp-server",
        ("tinysshd", "openssh-sftp-server", "libnss-wrapper"),
        tinyssh,
        needs("tinysshd", WRAPPER),
        debian("tinysshd"),
        fast=True,
        differently=DIFFERENTLY["tinyssh"],
    ),
    Kind(
        "lsh",
        "lsh's sftp-server, behind sshd",
        ("lsh-server", "openssh-server"),
        behind_openssh(lambda _: LSH_SERVER),
        needs("sshd", LSH_SERVER),
        debian("lsh-server"),
    ),
    Kind(
        "lshd",
        "lshd, lsh's sftp-server",
        ("lsh-server", "lsh-utils", "libnss-wrapper"),
        lshd,
        needs("lshd", "lsh-keygen", WRAPPER),
        debian("lsh-server"),
        refusing=True,
        differently=DIFFERENTLY["lshd"],
    ),
    Kind(
        "gesftpserver",
        "Green End SFTP server, behind sshd",
        ("gesftpserver", "openssh-server"),
        behind_openssh(lambda _: str(program("gesftpserver"))),
        needs("sshd", "gesftpserver"),
        debian("gesftpserver"),
        fast=True,
    ),
    Kind(
        "mysecureshell",
        "MySecureShell, behind sshd",
        ("mysecureshell", "openssh-server"),
        mysecureshell,
        only_root(needs("sshd", "mysecureshell", "unshare", MYSECURESHELL)),
        debian("mysecureshell"),
        excused=("lists_three_thousand_names",),
    ),
    Kind(
        "libssh",
        "libssh's sample server",
        ("libssh (source)", "cmake", "libssl-dev", "zlib1g-dev"),
        libssh_sample,
        needs(str(libssh())),
        libssh_version,
        differently=DIFFERENTLY["libssh"],
    ),
    Kind(
        "pkg-sftp",
        "Go's pkg/sftp, its server",
        ("golang-github-pkg-sftp-dev", "golang-go"),
        pkg_sftp("server"),
        needs("go", "/usr/share/gocode/src/github.com/pkg/sftp"),
        debian("golang-github-pkg-sftp-dev"),
        fast=True,
        differently=DIFFERENTLY["pkg-sftp"],
    ),
    Kind(
        "pkg-sftp-requests",
        "Go's pkg/sftp, its request server",
        ("golang-github-pkg-sftp-dev", "golang-go"),
        pkg_sftp("request"),
        needs("go", "/usr/share/gocode/src/github.com/pkg/sftp"),
        debian("golang-github-pkg-sftp-dev"),
        differently=DIFFERENTLY["pkg-sftp-requests"],
    ),
    Kind(
        "mina",
        "Apache MINA SSHD",
        ("libmina-sshd-java", "default-jdk-headless"),
        mina,
        mina_missing,
        mina_version,
        differently=DIFFERENTLY["mina"],
    ),
    Kind(
        "erlang",
        "Erlang/OTP's ssh_sftpd",
        ("erlang-ssh",),
        erlang,
        needs("escript", "/usr/share/doc/erlang-ssh"),
        debian("erlang-ssh"),
        fast=True,
        differently=DIFFERENTLY["erlang"],
    ),
    Kind(
        "perl",
        "Perl's Net::SFTP::SftpServer, behind sshd",
        ("libnet-sftp-sftpserver-perl", "openssh-server"),
        perl,
        needs("sshd", "/usr/share/perl5/Net/SFTP/SftpServer.pm"),
        debian("libnet-sftp-sftpserver-perl"),
        differently=DIFFERENTLY["perl"],
    ),
    Kind(
        "conch",
        "Twisted Conch",
        ("PyPI: twisted",),
        python_server("conch.py"),
        python_missing("twisted.conch.unix"),
        python_version("twisted"),
        differently=DIFFERENTLY["conch"],
    ),
    Kind(
        "paramiko-stub",
        "paramiko's stub server (sftpserver)",
        ("PyPI: sftpserver",),
        paramiko_stub,
        python_missing("sftpserver"),
        python_version("sftpserver"),
    ),
    Kind(
        "asyncssh",
        "asyncssh",
        ("PyPI: asyncssh",),
        asyncssh_server,
        lambda: None,
        python_version("asyncssh", Path(sys.executable)),
        fast=True,
    ),
    *(
        Kind(
            f"rclone-{mode}",
            f"rclone serve sftp, --vfs-cache-mode {mode}",
            ("rclone",),
            rclone(mode),
            needs("rclone"),
            debian("rclone"),
            settles=0.0 if mode == "off" else 20.0,
            differently=DIFFERENTLY[f"rclone-{mode}"],
        )
        for mode in ("off", "writes", "full")
    ),
    Kind(
        "ssh2",
        "npm's ssh2",
        ("nodejs", "npm: ssh2"),
        ssh2,
        ssh2_missing,
        said(str(program("node")), "-p", f"require('{node_modules()}/ssh2/package.json').version"),
    ),
]

# Servers that one would look for here, and that none of the sources has, or not the newest version. Some of them were
# built from their sources and tried by hand.
NOT_TO_BE_HAD = {
    "wolfSSH": "no package of Debian, PyPI or npm has its sources (its library wolfSSL is in Debian). Built by hand "
    "(the sources of 2026-08-21, after 1.5.0, with wolfSSL 5.5.4) and tried on 2026-11-28, wolfsshd passed 35 of 37 "
    "checks. The other two are impossible for `sftp` as well: it takes a backslash in a name for a slash, and confirms "
    "the time of an upload without setting it.",
    "OpenSSH 10": "no package of Debian 12 has it. 10.5p1, built by hand and tried on 2026-11-28, passed all 37 checks "
    "with mlkem768x25519-sha256 as key exchange and the extensions of 9.2. An upload without a deadline waited for the "
    "end of the shortest penalty that PerSourcePenalties has by default, one with a deadline for a place in "
    "MaxStartups.",
    "Go's pkg/sftp of 2026": "no package of Debian 12 has it. 1.13.11, built by hand with Go 1.19 and tried on "
    "2026-11-28: both of its servers passed all 37 checks, and 1,000 uploads (100 of each size below, to each server) "
    "had the right bytes.",
    "SFTPGo, AWS Transfer, Azure Blob Storage, GoAnywhere, MOVEit, Bitvise and other products": "no package has them. "
    "SFTPGo is built on Go's pkg/sftp (its request server), which is here.",
}
