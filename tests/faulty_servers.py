"""Small SFTP servers in this process, one for each fault: honest in everything else."""

from __future__ import annotations

import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_SUCCESS,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)
from paramiko.server import InteractiveQuery
from tests.servers import listening, shut_down

from iot.sftp.client._ssh.packets import ATTR_ACMODTIME, ATTR_PERMISSIONS, ATTR_SIZE, Kind, OpenFlag, Reader, string

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

PASSWORD = "a password that nobody sees"
POSIX_RENAME, LIMITS, FSYNC = "posix-rename@openssh.com", "limits@openssh.com", "fsync@openssh.com"
STATVFS = "statvfs@openssh.com"
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, UNSUPPORTED = 0, 1, 2, 3, 4, 8
FILE, DIRECTORY = 0o100644, 0o040755

_host_key = paramiko.ECDSAKey.generate()


def status(code: int, words: str = "") -> bytes:
    return struct.pack(">BI", Kind.STATUS, code) + string(words.encode()) + string(b"en")


def attributes(size: int | None, mode: int | None = FILE, modified: int | None = None) -> bytes:
    flags = (ATTR_SIZE if size is not None else 0) | (ATTR_PERMISSIONS if mode is not None else 0)
    fields = b"" if size is None else struct.pack(">Q", size)
    fields += b"" if mode is None else struct.pack(">I", mode)
    if modified is not None:
        flags, fields = flags | ATTR_ACMODTIME, fields + struct.pack(">II", modified, modified)
    return struct.pack(">I", flags) + fields


def attrs(size: int | None, mode: int | None = FILE, modified: int | None = None) -> bytes:
    return bytes([Kind.ATTRS]) + attributes(size, mode, modified)


def names(*entries: bytes, mode: int | None = FILE, sizes: tuple[int, ...] = ()) -> bytes:
    sizes = sizes or (1,) * len(entries)
    told = zip(entries, sizes, strict=True)
    packed = b"".join(string(name) + string(b"") + attributes(size, mode) for name, size in told)
    return struct.pack(">BI", Kind.NAME, len(entries)) + packed


def data(content: bytes) -> bytes:
    return bytes([Kind.DATA]) + string(content)


def packet(number: int, answer: bytes) -> bytes:
    return struct.pack(">IBI", len(answer) + 4, answer[0], number) + answer[1:]


def stop(transport: paramiko.Transport) -> None:
    """Have a transport's thread, which calls this, send its answer and then end the connection."""
    transport.active = False  # type: ignore[attr-defined]


class FaultyServer(paramiko.ServerInterface):
    """An SFTP server whose files are in memory, for every connection the same.

    Parameters:
        answers: what it answers in place of the truth, by the request's type or the extension's name: the answer
            without the request's number, or a function of the request's fields that gives it.
        extensions: the names that it announces.
        version: its first packet.

    Attributes:
        modified: the time that it tells of each file, in seconds since 1970; it tells none by default.
        answers_at_once: whether each request is answered before the next one is looked at.
    """

    modified: int | None = None
    answers_at_once = False

    def __init__(
        self,
        answers: dict[int | str, bytes | Callable[[Reader], bytes]] | None = None,
        *,
        extensions: tuple[str, ...] = (POSIX_RENAME,),
        version: bytes | None = None,
    ) -> None:
        self.files: dict[str, bytearray] = {}
        self.requests: list[int] = []
        self.connections = 0
        self.stopped = threading.Event()
        self.closed_a_file = threading.Event()
        self.transports: list[paramiko.Transport] = []
        self.channels: list[paramiko.Channel] = []
        self._answers = answers or {}
        fields = struct.pack(">BI", Kind.VERSION, 3) + b"".join(
            string(name.encode()) + string(b"1") for name in extensions
        )
        self._version = struct.pack(">I", len(fields)) + fields if version is None else version
        self._open: dict[bytes, str] = {}
        self._threads: list[threading.Thread] = []

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run, and give the port."""
        try:
            with listening(self._accept) as port:
                try:
                    yield port
                finally:
                    self.stopped.set()
        finally:
            self.hang_up()
            for thread in self._threads:
                thread.join()

    def be_honest(self) -> None:
        """Answer with the truth from now on."""
        self.answer_with({})

    def answer_with(self, answers: dict[int | str, bytes | Callable[[Reader], bytes]]) -> None:
        """Give other answers in place of the truth from now on."""
        self._answers = answers

    def speak(self, version: int) -> None:
        """Be a server of another version of SFTP from now on."""
        self._version = struct.pack(">IBI", 5, Kind.VERSION, version)

    def cut(self) -> None:
        """End the latest connection at once: a transport that is closed does so up to 0.1 s later."""
        shut_down(self.transports[-1].sock)

    def hang_up(self) -> None:
        """End all connections."""
        for transport in list(self.transports):
            shut_down(transport.sock)  # its thread would look at a closed one 0.1 s later only
            transport.close()
            transport.packetizer.complete_handshake()  # ends paramiko's timer
            transport.sock.close()
            if transport.ident is not None and transport is not threading.current_thread():
                transport.join()

    def accepted(self, transport: paramiko.Transport) -> None:
        """Do what is to be done with a connection: be an SSH server on it."""
        transport.start_server(event=threading.Event(), server=self)

    def _accept(self, connection: socket.socket) -> None:
        self.connections += 1
        transport = paramiko.Transport(connection)
        transport.set_log_channel("faulty-server")
        transport.add_server_key(_host_key)
        self.transports.append(transport)
        self.accepted(transport)

    # --- SSH ---

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        del username
        return AUTH_SUCCESSFUL if password == PASSWORD else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        del name
        self.channels.append(channel)
        thread = threading.Thread(target=self._serve, args=(channel,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    # --- SFTP ---

    def _serve(self, channel: paramiko.Channel) -> None:
        try:
            self.serve(channel)
        except (OSError, EOFError, paramiko.SSHException):
            return  # the client went away

    def serve(self, channel: paramiko.Channel) -> None:
        """Answer requests until the client has no more of them."""
        received = bytearray()
        while more := channel.recv(65536):
            received += more
            answers = []
            while len(received) >= 4 and len(received) >= 4 + (length := int.from_bytes(received[:4], "big")):
                request = bytes(received[4 : 4 + length])
                del received[: 4 + length]
                self.requests.append(request[0])
                if request[0] == Kind.INIT:
                    answers.append(self._version)
                elif reply := self.reply(request):
                    answers.append(reply)
                if self.answers_at_once:
                    self.send(channel, answers)
                    answers = []
            self.send(channel, answers)

    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        """Send the answers to requests that came together."""
        channel.sendall(b"".join(answers))

    def reply(self, request: bytes) -> bytes:
        """Return the packet that answers a request; nothing at all is silence."""
        answer = self.answer(request[0], Reader(request[5:]))
        return packet(int.from_bytes(request[1:5], "big"), answer) if answer else b""

    def answer(self, kind: int, fields: Reader) -> bytes:
        """Return an answer's type and fields; nothing at all is silence."""
        extension = fields.string().decode() if kind == Kind.EXTENDED else ""
        answer = self._answers.get(extension or kind)
        if answer is not None:
            return answer if isinstance(answer, bytes) else answer(fields)
        return self.truth(extension or kind, fields)

    def truth(self, kind: int | str, fields: Reader) -> bytes:  # noqa: C901, PLR0911, PLR0912 - one case for each request
        """Return what an honest server answers."""
        first = b"" if fields.at_end() else fields.string()
        path = self._open.get(first, first.decode("utf-8", "surrogateescape"))
        match kind:
            case Kind.STAT | Kind.LSTAT | Kind.FSTAT:
                return self._attributes(path)
            case Kind.OPEN:
                flags = fields.uint32()
                if not flags & OpenFlag.CREATE and path not in self.files:
                    return status(NO_SUCH_FILE)
                if flags & OpenFlag.EXCLUSIVE and path in self.files:
                    return status(FAILURE)
                if flags & OpenFlag.TRUNCATE or (flags & OpenFlag.CREATE and path not in self.files):
                    self.files[path] = bytearray()
                return self._handle(path)
            case Kind.OPENDIR:
                return status(FAILURE) if path in self.files else self._handle(path)
            case Kind.READ:
                offset, length = fields.uint64(), fields.uint32()
                content = bytes(self.files[path][offset : offset + length])
                return data(content) if content else status(EOF)
            case Kind.WRITE:
                offset, content = fields.uint64(), fields.string()
                self.files[path][offset : offset + len(content)] = content
                return status(OK)
            case Kind.READDIR:
                if self._open.pop(first, None) is None:
                    return status(EOF)
                sizes = tuple(map(len, self.files.values()))
                return names(*(name.encode() for name in self.files), sizes=sizes)
            case Kind.REMOVE:
                return status(NO_SUCH_FILE if self.files.pop(path, None) is None else OK)
            case "posix-rename@openssh.com":
                return self.rename(path, fields.string().decode())
            case Kind.RENAME:
                dest = fields.string().decode()
                return status(FAILURE) if dest in self.files else self.rename(path, dest)
            case Kind.CLOSE:
                self.closed_a_file.set()
                self._open.pop(first, None)
                return status(OK)
            case Kind.FSETSTAT | "fsync@openssh.com":
                return status(OK)
            case Kind.REALPATH:
                return names(b"/")
            case _:
                return status(UNSUPPORTED)

    def rename(self, source: str, dest: str) -> bytes:
        """Rename a file."""
        if source not in self.files:
            return status(NO_SUCH_FILE)
        self.files[dest] = self.files.pop(source)
        return status(OK)

    def _attributes(self, path: str) -> bytes:
        if path in {".", "/"}:
            return attrs(None, DIRECTORY)
        return attrs(len(self.files[path]), FILE, self.modified) if path in self.files else status(NO_SUCH_FILE)

    def _handle(self, path: str) -> bytes:
        handle = b"handle %d" % len(self.requests)
        self._open[handle] = path
        return bytes([Kind.HANDLE]) + string(handle)


# --- frozen ----------------------------------------------------------------------------------------------------------


class FrozenBeforeTheBanner(FaultyServer):
    def accepted(self, transport: paramiko.Transport) -> None:
        del transport


class FrozenInTheKeyExchange(FaultyServer):
    def accepted(self, transport: paramiko.Transport) -> None:
        transport.sock.sendall(b"SSH-2.0-frozen\r\n")


class FrozenInTheLogin(FaultyServer):
    def check_auth_password(self, username: str, password: str) -> int:
        self.stopped.wait()
        return super().check_auth_password(username, password)


class FrozenInTheFirstLogin(FaultyServer):
    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def check_auth_password(self, username: str, password: str) -> int:
        if not self.asked.is_set():
            self.asked.set()
            self.stopped.wait()
        return super().check_auth_password(username, password)


class FrozenAfterTheChannelRequest(FaultyServer):
    def check_channel_request(self, kind: str, chanid: int) -> int:
        self.stopped.wait()
        return super().check_channel_request(kind, chanid)


class FrozenAfterTheSubsystemRequest(FaultyServer):
    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        del channel, name
        self.stopped.wait()
        return False


class FrozenAfterInit(FaultyServer):
    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        del channel, answers


class FrozenInTheMiddleOfAnAnswer(FaultyServer):
    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        answered = b"".join(answers)
        super().send(channel, [answered if answered == self._version else answered[: len(answered) // 2]])


class FrozenOnASecondChannel(FaultyServer):
    """Says nothing to the subsystem request on any channel but the first of a connection."""

    def accepted(self, transport: paramiko.Transport) -> None:
        send = transport._send_user_message  # type: ignore[attr-defined]

        def swallow(message: paramiko.Message) -> None:
            if message.asbytes()[0] != MSG_CHANNEL_SUCCESS or len(self.channels) == 1:
                send(message)

        transport._send_user_message = swallow  # type: ignore[attr-defined]
        super().accepted(transport)


# --- that hangs up ---------------------------------------------------------------------------------------------------


class ClosesAfterSomeBytes(FaultyServer):
    """Ends the connection after so many bytes of answers, `times` times."""

    def __init__(self, after: int, times: int) -> None:
        super().__init__()
        self._after = after
        self._left = after
        self._times = times

    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        answered = b"".join(answers)
        if self._times == 0 or len(answered) < self._left:
            self._left -= len(answered)
            super().send(channel, [answered])
            return
        self._times -= 1
        super().send(channel, [answered[: self._left]])
        self._left = self._after
        channel.get_transport().close()


class ClosesTheConnectionOnASecondChannel(FaultyServer):
    def check_channel_request(self, kind: str, chanid: int) -> int:
        if chanid:
            stop(self.transports[-1])
        return super().check_channel_request(kind, chanid)


class GrantsOneChannel(FaultyServer):
    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind
        return OPEN_FAILED_RESOURCE_SHORTAGE if chanid else OPEN_SUCCEEDED


class HangsUpInTheKeyExchange(FaultyServer):
    def accepted(self, transport: paramiko.Transport) -> None:
        transport.sock.sendall(b"SSH-2.0-gone\r\n")
        transport.sock.recv(1000)
        transport.sock.close()


class DropsInTheLogin(FaultyServer):
    def check_auth_password(self, username: str, password: str) -> int:
        del username, password
        raise EOFError


class RefusesAndHangsUp(FaultyServer):
    """Sends the refusal of a login and the end of the connection as one."""

    def check_auth_password(self, username: str, password: str) -> int:
        del username, password
        stop(self.transports[-1])
        return AUTH_FAILED


# --- that logs in in its own way -------------------------------------------------------------------------------------


class AsksByKeyboard(FaultyServer):
    """Knows keyboard-interactive only, with these prompts."""

    def __init__(self, *prompts: str) -> None:
        super().__init__()
        self._prompts = prompts

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "keyboard-interactive"

    def check_auth_password(self, username: str, password: str) -> int:
        del username, password
        return AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> InteractiveQuery:
        del username, submethods
        return InteractiveQuery("", "", *self._prompts)

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return AUTH_SUCCESSFUL if responses == [PASSWORD] else AUTH_FAILED


class DropsInTheKeyboardLogin(AsksByKeyboard):
    def check_auth_interactive_response(self, responses: list[str]) -> int:
        del responses
        raise EOFError


# --- that answers oddly ----------------------------------------------------------------------------------------------


class AnswersInReverse(FaultyServer):
    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        super().send(channel, answers[::-1])


class RenamesLate(FaultyServer):
    """Answers a rename when `goes_on` is set, and has done it long before."""

    def __init__(self) -> None:
        super().__init__()
        self.renamed, self.goes_on = threading.Event(), threading.Event()

    def rename(self, source: str, dest: str) -> bytes:
        answer = super().rename(source, dest)
        self.renamed.set()
        self.goes_on.wait(20)
        return answer


class Held(NamedTuple):
    """A READ or WRITE that was not answered yet."""

    offset: int
    length: int
    reply: bytes


class HoldsAnswers(FaultyServer):
    """Keeps its answers to requests of one kind, READ or WRITE, until it is told to give them.

    `held` are those that it has, in the order in which they were asked for; `asked` is offset and length of all that
    were ever asked for.
    """

    def __init__(self, kind: Kind, limits: tuple[int, int] | None = None) -> None:
        """Hold answers to `kind`; `limits` are the longest READ and WRITE that it announces."""
        announced = b"" if limits is None else bytes([Kind.EXTENDED_REPLY]) + struct.pack(">QQQQ", 0, *limits, 0)
        super().__init__({LIMITS: announced}, extensions=(POSIX_RENAME, LIMITS) if limits else (POSIX_RENAME,))
        self.held: list[Held] = []
        self.asked: list[tuple[int, int]] = []
        self._kind = kind
        self._holding = True
        self._changed = threading.Condition()
        self._sending = threading.Lock()  # parts of a long answer must not have others between them

    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        with self._sending:
            super().send(channel, answers)

    def reply(self, request: bytes) -> bytes:
        reply = super().reply(request)
        if request[0] != self._kind:
            return reply
        fields = Reader(request[5:])
        fields.string()
        offset, length = fields.uint64(), fields.uint32()
        with self._changed:
            self.asked.append((offset, length))
            if not self._holding:
                return reply
            self.held.append(Held(offset, length, reply))
            self._changed.notify_all()
        return b""

    def wait_for(self, count: int) -> None:
        """Wait until so many bytes were asked for whose answers are held."""
        with self._changed:
            there = self._changed.wait_for(lambda: sum(held.length for held in self.held) >= count, 10)
        assert there, self.held

    def give(self, *numbers: int) -> None:
        """Give the answers with these places in `held`, in this order."""
        with self._changed:
            given = [self.held[number] for number in numbers]
            self.held = [held for held in self.held if held not in given]
        self.send(self.channels[-1], [held.reply for held in given])

    def give_all(self) -> None:
        """Give all answers that are held, and hold none any more."""
        with self._changed:
            self._holding = False
        self.give(*range(len(self.held)))


class StopsReading(FaultyServer):
    """Takes the first WRITE and then nothing, until `goes_on` is set; its channels carry little meanwhile.

    `written` is the offset and the content of each WRITE.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.goes_on = threading.Event(), threading.Event()
        self.written: list[tuple[int, bytes]] = []

    def accepted(self, transport: paramiko.Transport) -> None:
        transport.default_window_size = 64 * 1024
        super().accepted(transport)

    def reply(self, request: bytes) -> bytes:
        if request[0] == Kind.WRITE:
            self.asked.set()
            self.goes_on.wait(20)
            fields = Reader(request[5:])
            fields.string()
            self.written.append((fields.uint64(), fields.string()))
        return super().reply(request)


class AnswersTwice(FaultyServer):
    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        super().send(channel, [*answers, *answers])


class AnswersStrangers(FaultyServer):
    """Answers requests that nobody made, too."""

    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        super().send(channel, [*answers, packet(0xFFFFFFF0, status(FAILURE)), packet(0xFFFFFFF1, attrs(1))])


class AnswersByteByByte(FaultyServer):
    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        for number in b"".join(answers):
            channel.sendall(bytes([number]))


class ClaimsALength(FaultyServer):
    """Announces a packet of this length where an answer is due."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        if answers == [self._version]:
            super().send(channel, answers)
        else:
            super().send(channel, [struct.pack(">IBI", self._length, Kind.STATUS, 0), bytes(1000)])


class ReadsShort(FaultyServer):
    """Gives a part of what a READ asks for."""

    def __init__(self, part: Callable[[int], int]) -> None:
        super().__init__()
        self._part = part

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        answer = super().truth(kind, fields)
        if kind == Kind.READ and answer[0] == Kind.DATA:
            return data(answer[5 : 5 + self._part(len(answer) - 5)])
        return answer


class TakesUploadsAway(FaultyServer):
    """Moves a file to another place as soon as it is closed, as some gateways do."""

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        answer = super().truth(kind, fields)
        if kind == Kind.CLOSE:
            self.taken = {name: self.files.pop(name) for name in list(self.files) if name.startswith(".iot-sftp-")}
        return answer


class ListsForEver(FaultyServer):
    def truth(self, kind: int | str, fields: Reader) -> bytes:
        return names(b"again") if kind == Kind.READDIR else super().truth(kind, fields)
