"""A server on real files, in this process, that lets things happen at a chosen moment: before or after it does a deed.

What happens is chosen by the kind of request and its number, so that a fault strikes in the same place each time: an
answer that is lost after the deed, a connection that ends, a full disk, a refusal, a producer or a partner who comes in
between, the end of the process that asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import asyncssh
from asyncssh import sftp

from iot.sftp.client._ssh.server_traits import OPENSSH, OPENSSH_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PIECE = 256 * 1024  # bytes of one READ or WRITE, as OpenSSH has it, so that large files take several
USER, PASSWORD = "device", "a password of the model"
TEMPORARY = ".iot-sftp-"  # what names of temporary files begin with
CHANGING = frozenset({"open", "close", "remove", "rename", "setstat"})  # what may change what a partner sees

Result = TypeVar("Result")
MaybeNone = Awaitable[None] | None
Told = os.stat_result | asyncssh.SFTPAttrs | Awaitable[os.stat_result | asyncssh.SFTPAttrs]
Act = Callable[[str], None]  # what happens; it is given the path of the request


@dataclass(frozen=True)
class Moment:
    """When something happens: at the n-th request of a kind (1 is the first), before or after it is carried out."""

    kind: str
    number: int = 1
    after: bool = False

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.kind} {self.number}"


class Cut(Exception):  # noqa: N818 - it is what happens, and no error of the server
    """Raised by what happens at a moment: the connection ends there, without an answer."""


class Scene:
    """What the server serves, and what happens meanwhile; used by its thread and by that of the test.

    Attributes:
        root: the directory that it serves.
        refused: kinds of requests that are refused, for as long as they are in here.
        is_full: there is no space for any byte more.
        refuses_copy: `copy-data` is announced, and refused.
        before: called before each request is carried out, with its kind and paths (of a rename: first the new one).
        look: called after each request that may have changed what others see.
        struck: how often each kind of fault has struck.
    """

    def __init__(self, root: Path, look: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self.refused: set[str] = set()
        self.is_full = self.refuses_copy = False
        self.look = look
        self.before: Callable[[str, str, str], None] = lambda _kind, _path, _other: None
        self.struck: Counter[str] = Counter()
        self.done: list[tuple[str, str]] = []  # kind and path of each deed, in their order
        self._moments: dict[Moment, Act] = {}
        self._seen: Counter[str] = Counter()
        self.lock = threading.RLock()

    def arm(self, moments: dict[Moment, Act]) -> None:
        """Count requests from now on, and have these things happen, each once."""
        with self.lock:
            self._moments, self._seen = dict(moments), Counter()

    @property
    def armed(self) -> list[Moment]:
        """What has not happened yet."""
        return list(self._moments)

    def carry_out(self, kind: str, path: str, deed: Callable[[], Result], other: str = "") -> Result:
        """Do what a request asks for, and what happens before and after it."""
        with self.lock:
            self._seen[kind] += 1
            self._seen["any"] += 1
            numbers = {kind: self._seen[kind], "any": self._seen["any"]}
            self._happen(numbers, path, after=False)
            if self.is_full and kind == "write":
                self.struck["no space"] += 1
                raise asyncssh.SFTPFailure("No space left on device")
            if kind in self.refused:
                self.struck[f"{kind} refused"] += 1
                raise asyncssh.SFTPPermissionDenied("Permission denied")
            self.before(kind, path, other)
            result = deed()
            self.done.append((kind, path))
            if kind in CHANGING:
                self.look()
            self._happen(numbers, path, after=True)
            return result

    def _happen(self, numbers: dict[str, int], path: str, *, after: bool) -> None:
        for kind, number in numbers.items():
            act = self._moments.pop(Moment(kind, number, after), None)
            if act is not None:
                act(path)


class _Files(asyncssh.SFTPServer):
    """The SFTP server of one connection, whose every deed goes through the scene."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], scene: Scene) -> None:
        super().__init__(channel, chroot=os.fsencode(scene.root))
        self._scene = scene
        self._paths: dict[object, str] = {}
        self._is_cut = False

    @property
    def refuses_copy(self) -> bool:
        """Whether `copy-data` is refused."""
        return self._scene.refuses_copy

    def _do(self, kind: str, path: bytes | str, deed: Callable[[], Result], other: bytes = b"") -> Result:
        if self._is_cut and kind == "stat":  # it had arrived before the cut: nobody sees what would be answered
            raise asyncssh.SFTPConnectionLost("cut")
        try:
            return self._scene.carry_out(kind, os.fsdecode(path), deed, os.fsdecode(other))
        except Cut:
            self._is_cut = True
            self._scene.struck["cut"] += 1
            self.connection.abort()
            raise asyncssh.SFTPConnectionLost("cut") from None

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        files: list[object] = []
        try:
            self._do("open", path, lambda: files.append(super(_Files, self).open(path, pflags, attrs)))
        except BaseException:
            for file in files:  # nobody gets a handle of it
                super().close(file)
            raise
        self._paths[files[0]] = os.fsdecode(path)
        return files[0]

    def close(self, file_obj: object) -> MaybeNone:
        try:
            return self._do("close", self._paths.pop(file_obj, ""), lambda: super(_Files, self).close(file_obj))
        except asyncssh.SFTPError:
            super().close(file_obj)  # its handle is gone, whatever happens
            if self.connection.is_closed():
                return None  # without its client, a server closes all files, one after the other
            raise

    def close_all(self) -> None:
        """Close what is open, of a connection that nobody ends any more."""
        for file in list(self._paths):
            super().close(file)

    def read(self, file_obj: object, offset: int, size: int) -> bytes | Awaitable[bytes]:
        path = self._paths.get(file_obj, "")
        return self._do("read", path, lambda: super(_Files, self).read(file_obj, offset, size))

    def write(self, file_obj: object, offset: int, data: bytes) -> int | Awaitable[int]:
        path = self._paths.get(file_obj, "")
        return self._do("write", path, lambda: super(_Files, self).write(file_obj, offset, data))

    def stat(self, path: bytes) -> Told:
        return self._do("stat", path, lambda: super(_Files, self).stat(path))

    def lstat(self, path: bytes) -> Told:
        return self._do("stat", path, lambda: super(_Files, self).lstat(path))

    def fstat(self, file_obj: object) -> Told:
        return self._do("fstat", self._paths.get(file_obj, ""), lambda: super(_Files, self).fstat(file_obj))

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> MaybeNone:
        path = self._paths.get(file_obj, "")
        return self._do("setstat", path, lambda: super(_Files, self).fsetstat(file_obj, attrs))

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> MaybeNone:
        return self._do("setstat", path, lambda: super(_Files, self).setstat(path, attrs))

    def remove(self, path: bytes) -> MaybeNone:
        return self._do("remove", path, lambda: super(_Files, self).remove(path))

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> MaybeNone:
        return self._do("mkdir", path, lambda: super(_Files, self).mkdir(path, attrs))

    def rename(self, oldpath: bytes, newpath: bytes) -> MaybeNone:
        return self._do("rename", newpath, lambda: super(_Files, self).rename(oldpath, newpath), oldpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> MaybeNone:
        return self._do("rename", newpath, lambda: super(_Files, self).posix_rename(oldpath, newpath), oldpath)

    def link(self, oldpath: bytes, newpath: bytes) -> MaybeNone:
        return self._do("rename", newpath, lambda: super(_Files, self).link(oldpath, newpath), oldpath)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        self._do("list", path, lambda: None)
        async for entry in super().scandir(path):
            yield entry


async def _copy_data(handler: sftp.SFTPServerHandler, packet: asyncssh.packet.SSHPacket) -> None:
    """Carry out `copy-data`, unless the scene refuses it."""
    files = handler._server
    if isinstance(files, _Files) and files.refuses_copy:
        raise asyncssh.SFTPOpUnsupported("no copy-data")
    await handler._process_copy_data(packet)


class _Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


class ModelServer:
    """The server, for one scene after the other: it is started once, since that takes longer than a step.

    asyncssh carries out the requests of a channel one after the other, in their order, and nobody may rely on that. On
    a second port it calls itself OpenSSH, on which one may: there a thread has many small files in flight.

    Attributes:
        port: where it is unknown.
        ordered_port: where it is known to keep the order.
        scene: what it serves.
    """

    def __init__(self) -> None:
        self.port = self.ordered_port = 0
        self.scene: Scene | None = None
        self._served = weakref.WeakSet[_Files]()
        self._loop = asyncio.new_event_loop()
        self._key = asyncssh.generate_private_key("ssh-ed25519")

    @property
    def host_key(self) -> str:
        """The fingerprint, to be pinned."""
        return self._key.get_fingerprint()

    @contextmanager
    def running(self) -> Iterator[ModelServer]:
        """Run in a thread."""
        loggers = [logging.getLogger(name) for name in ("asyncssh", "asyncio")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)  # each cut would be a trace
        pieces = sftp.MAX_SFTP_READ_LEN, sftp.MAX_SFTP_WRITE_LEN
        sftp.MAX_SFTP_READ_LEN = sftp.MAX_SFTP_WRITE_LEN = PIECE
        sftp.SFTPServerHandler._packet_handlers[b"copy-data"] = _copy_data
        extensions = sftp.SFTPServerHandler._extensions
        known = [(name, data) for name, data in extensions if name.decode() in OPENSSH_EXTENSIONS]
        sftp.SFTPServerHandler._extensions = known
        started = threading.Event()
        thread = threading.Thread(target=self._serve, args=(started,), name="model-server", daemon=True)
        thread.start()
        assert started.wait(60)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(60)
            sftp.MAX_SFTP_READ_LEN, sftp.MAX_SFTP_WRITE_LEN = pieces
            sftp.SFTPServerHandler._packet_handlers[b"copy-data"] = sftp.SFTPServerHandler._process_copy_data
            sftp.SFTPServerHandler._extensions = extensions
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen(version: str | None) -> asyncssh.SSHAcceptor:
            return await asyncssh.listen(
                "127.0.0.1",
                0,
                server_factory=_Login,
                server_host_keys=[self._key],
                sftp_factory=self._files,
                server_version=version or (),
            )

        acceptors = [self._loop.run_until_complete(listen(version)) for version in (None, f"{OPENSSH}_9.2")]
        self.port, self.ordered_port = (acceptor.get_port() for acceptor in acceptors)
        started.set()
        self._loop.run_forever()
        for acceptor in acceptors:
            acceptor.close()
        for files in self._served:
            files.close_all()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _files(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        assert self.scene is not None
        files = _Files(channel, self.scene)
        self._served.add(files)
        return files
